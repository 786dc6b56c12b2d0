"""A mirror can end at any moment: what stands on the copy joins, is added to later, and a run goes on there."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import TOPICS, open_bus
from seawall.connectors.keys import Trust
from seawall.ops.replicate import _copy, _mirror, mirror
from seawall.ops.verify import trusted_logs, verify
from seawall.schemas.configuration import load_configuration
from seawall_testing.command_line import CLI, Contents, bus_contents, differences, run_command, wait_for
from seawall_testing.live_runs import LiveDesk, send

WAIT_S = 120.0
COPY = "sqlite:../copy/copy.db"


@pytest.fixture
def desk(desk: Path, tmp_path: Path) -> Path:
    (tmp_path / "copy").mkdir()
    send(tmp_path / "desk", "acknowledgements", *({"type": "acknowledgement", "n": number} for number in range(12)))
    return tmp_path / "desk" / "desk.toml"


def standby(path: Path, url: str = "sqlite:copy.db", topics: str = "", epoch: int = 1) -> Path:
    """Write the configuration of the same run on its copy, in a folder that has the keys and the files."""
    folder = path.parents[1] / "copy"
    left_out = shutil.ignore_patterns("seawall.db*", "recovery*", "tiles*", "run.toml")
    shutil.copytree(path.parent, folder, ignore=left_out, dirs_exist_ok=True)
    text = "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("bus ="))
    for name in filter(None, topics.split()):
        text = text.replace(f'"{name}"', f'"{name}-2"')
    (folder / "desk.toml").write_text(f'bus = "{url}"\nepoch = {epoch}\n{text}')
    return folder / "desk.toml"


def copied(path: Path) -> Contents:
    return bus_contents(path.parent, url=COPY)


def check_joins(path: Path) -> bool:
    """Hold that nothing on the bus of a configuration is wrong; tell whether nothing is missing either."""
    configuration = load_configuration(path)
    bus, logs = open_bus(configuration.bus, path.parent), trusted_logs(configuration)._replace(folder=None)
    try:
        trust = Trust.load(configuration)
        report = verify(bus, trust, configuration.environment, configuration.issuer, logs, configuration.topics)
    finally:
        bus.close()
    assert report.findings == []
    done = run_command("replay", path)
    assert done.returncode == 0 or "outputs are behind the journal" in done.stdout, done.stdout + done.stderr
    return report.good


class Killed(Exception):
    pass


def limit_parts(monkeypatch: pytest.MonkeyPatch, parts: int) -> Callable[[], None]:
    """Let small parts be written, and end everything after so many of them; what is returned begins to count anew."""
    for module, name, most in (
        (_copy, "BATCH_RECORDS", 5),
        (_mirror, "SLICES_MAX", 3),
        (_mirror, "HELD_MAX", 10),
    ):
        monkeypatch.setattr(module, name, most)
    put, left = _copy.Copy.put, [parts]

    def counted(self: _copy.Copy, part: Any) -> None:
        put(self, part)
        left[0] -= bool(part)
        if not left[0]:
            raise Killed

    monkeypatch.setattr(_copy.Copy, "put", counted)
    return lambda: left.__setitem__(0, parts)


def test_after_whatever_part_it_ends_what_stands_joins_and_the_rest_is_added(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_anew, stops, configuration = limit_parts(monkeypatch, 9), 0, load_configuration(desk)
    path = standby(desk)
    while True:
        begin_anew()
        try:
            mirror(configuration, COPY, False, threading.Event())
            break
        except Killed:
            stops += not check_joins(path)
    assert stops > 2
    assert differences(copied(desk), bus_contents(desk.parent)) == []
    assert check_joins(path)


@pytest.mark.parametrize("parts", [14, 30])
def test_a_run_goes_on_from_part_of_a_copy_to_the_same_bytes(
    desk: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    limit_parts(monkeypatch, parts)
    with pytest.raises(Killed):
        mirror(load_configuration(desk), COPY, False, threading.Event())
    whole, part = bus_contents(desk.parent), copied(desk)
    assert 20 < sum(map(len, part.values())) < sum(map(len, whole.values()))
    path = standby(desk)
    assert run_command("run", path).returncode == 0
    assert differences(copied(desk), whole) == []
    done = run_command("verify", path)
    assert done.returncode == 0, done.stdout


def test_a_copy_that_is_not_of_this_run_is_refused_and_nothing_is_written_there(desk: Path) -> None:
    def mirrored(told: str = "") -> None:
        before = copied(desk)
        done = run_command("mirror", desk, "--to", COPY)
        assert done.returncode == (2 if told else 0) and told in done.stderr, done.stderr
        assert not told or copied(desk) == before

    def changed(sql: str) -> None:
        with sqlite3.connect(desk.parents[1] / "copy/copy.db") as store:
            store.execute(sql)
        store.close()

    mirrored()
    last = 'select max("offset") from records where topic = \'commands\' and "partition" = 1'
    where = f'where topic = \'commands\' and "partition" = 1 and "offset" = ({last})'
    offset = len(copied(desk)["commands", 1]) - 1
    changed(f"update records set value = cast(replace(value, 'id', 'iD') as blob) {where}")
    mirrored(f"commands/1 offset {offset} on the target is not what the source has there")
    changed(f"update records set value = cast(replace(value, 'iD', 'id') as blob) {where}")
    mirrored()
    changed("insert into records values ('journal', 0, 100000, '0', '{}', x'7b7d')")
    mirrored("journal/0 holds 100001 records on the target, more than the")
    changed('delete from records where "offset" = 100000')
    changed("insert into records values ('snapshots', 0, 0, '0', '{}', x'7b7d')")
    mirrored("the target holds snapshots/0, which a mirror of this run does not write")


def test_one_bus_is_no_mirror_of_itself_and_who_writes_there_is_not_disturbed(desk: Path) -> None:
    (desk.parent / "same.db").symlink_to("seawall.db")
    done = run_command("mirror", desk, "--to", "sqlite:same.db")
    assert done.returncode == 2 and "names the bus of the run itself" in done.stderr
    bus = open_bus(COPY, desk.parent)
    writer = bus.writer([("journal", 0)])
    done = run_command("mirror", desk, "--to", COPY)
    assert done.returncode == 2 and f"is being written by process {os.getpid()}" in done.stderr
    assert copied(desk) == {}
    writer.close()
    bus.close()


def test_a_mirror_that_is_killed_again_and_again_while_a_desk_runs_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rng, said = random.Random(3), tmp_path / "said"
    with LiveDesk(tmp_path, per_second=60) as desk:
        (tmp_path / "copy").mkdir()
        run = subprocess.Popen([*CLI, "run", str(desk.path)], stderr=subprocess.DEVNULL)
        bus = open_bus(COPY, desk.folder)
        words = [*CLI, "mirror", str(desk.path), "--to", COPY, "--follow", "--lag-s", "0.2"]
        mirrors: list[subprocess.Popen[bytes]] = []

        def grown(topic: str, end: int) -> bool:
            assert mirrors[-1].poll() is None, said.read_text()
            return sum(bus.end(topic, shard) for shard in range(2)) > end

        try:
            wait_for((desk.folder / "run.toml").exists, WAIT_S)
            for _ in range(3):
                stood = {topic: sum(bus.end(topic, shard) for shard in range(2)) for topic in ("journal", "audit")}
                mirrors.append(subprocess.Popen(words, stderr=said.open("ab")))
                for topic, end in stood.items():
                    wait_for(lambda: grown(topic, end), WAIT_S)  # noqa: B023
                time.sleep(rng.uniform(0, 0.3))
                mirrors[-1].kill()
                mirrors[-1].wait()
                check_joins(standby(desk.path))
            mirrors.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said.open("wb")))
            wait_for(lambda: "of event time" in said.read_text(), WAIT_S)
            desk.feed.finish()
            run.send_signal(signal.SIGTERM)
            assert run.wait(WAIT_S) == 0
            mirrors[-1].send_signal(signal.SIGTERM)
            out, _ = mirrors[-1].communicate(timeout=WAIT_S)
            assert mirrors[-1].returncode == 0 and b"mirrored" in out
        finally:
            bus.close()
            for process in (run, *mirrors):
                process.kill()
                process.wait()
    done = run_command("mirror", desk.path, "--to", COPY, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lag"] == {"slices": 0, "audited": 0, "seconds": 0.0}
    found = bus_contents(desk.folder, TOPICS)
    assert {"journal", "commands", "rejects", "checkpoints"} <= {topic for topic, _ in found}
    assert differences(copied(desk.path), found) == []
    assert check_joins(standby(desk.path))
