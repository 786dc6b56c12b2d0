"""A journal moves from one bus to another: every record at its offset, states go on, whatever was killed on the way."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, Contents, bus_contents, differences, run_command
from seawall_testing.desk import T0, account, fill, instrument, lines, mark, write_desk


def moving(path: Path, url: str = "sqlite:new.db") -> Path:
    """Write the configuration of the same journal on another bus."""
    new = path.with_name("new.toml")
    text = "".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("bus ="))
    new.write_text(f'bus = "{url}"\n{text}')
    return new


def grow(path: Path) -> None:
    """Let more happen."""
    with (path.parent / "book.jsonl").open("ab") as file:
        file.write(lines(*(fill(T0 + 9_000_000 + at * 1000, f"more{at}") for at in range(20))))


def copied(path: Path, url: str = "sqlite:new.db") -> Contents:
    return bus_contents(path.parent, url=url)


def test_every_record_stands_at_its_offset_with_its_headers_and_verifies(desk: Path) -> None:
    before = bus_contents(desk.parent)
    new = moving(desk)
    done = run_command("migrate", desk, new, "--json")
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["records"].values()) == sum(map(len, before.values()))
    assert differences(copied(desk), before) == []
    for name in ("verify", "replay"):
        assert run_command(name, desk.parent).returncode == 0  # run.toml names the new bus now


def test_states_go_on_after_a_move_as_if_nothing_had_happened(desk: Path, tmp_path: Path) -> None:
    stayed = tmp_path / "stayed"
    shutil.copytree(desk.parent, stayed)
    new = moving(desk)
    assert run_command("migrate", desk, new).returncode == 0
    for path in (new, stayed / "desk.toml"):
        grow(path)
        assert run_command("run", path).returncode == 0
    assert differences(copied(desk), bus_contents(stayed)) == []
    assert not list(desk.parent.glob("recovery.unsound*"))


def test_a_journal_that_has_moved_is_not_moved_once_more_from_where_it_was(desk: Path) -> None:
    new = moving(desk)
    assert run_command("migrate", desk, new).returncode == 0
    third = desk.with_name("third.toml")
    third.write_text(new.read_text().replace("sqlite:new.db", "sqlite:third.db"))
    done = run_command("migrate", desk, third)
    assert done.returncode == 2 and "has moved from sqlite:seawall.db to sqlite:new.db" in done.stderr
    assert run_command("migrate", desk, new).returncode == 0  # as after a kill
    assert run_command("migrate", new, third).returncode == 0


def test_the_old_bus_is_refused_after_a_move_until_the_journal_comes_back(desk: Path) -> None:
    new = moving(desk)
    assert run_command("migrate", desk, new).returncode == 0
    done = run_command("run", desk)
    assert done.returncode == 2 and "has moved from sqlite:seawall.db to sqlite:new.db" in done.stderr
    grow(new)
    assert run_command("run", new).returncode == 0
    assert run_command("migrate", new, desk).returncode == 0
    assert run_command("run", desk).returncode == 0
    assert differences(bus_contents(desk.parent), copied(desk)) == []


def test_a_killed_copy_keeps_runs_away_and_goes_on_where_it_stopped(desk: Path) -> None:
    before, new, rng, killed = bus_contents(desk.parent), moving(desk), random.Random(5), 0
    for _ in range(6):
        process = subprocess.Popen([*CLI, "migrate", str(desk), str(new)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (desk.parent / "migration.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if json.loads((desk.parent / "migration.json").read_text())["state"] == "copying":
            done = run_command("run", new)
            assert done.returncode == 2 and "unfinished copy" in done.stderr
    assert killed
    assert run_command("migrate", desk, new).returncode == 0
    assert differences(copied(desk), before) == []


@pytest.mark.parametrize("kept", [1, 40, 200])
def test_whatever_part_of_a_copy_stands_the_rest_is_added(desk: Path, kept: int) -> None:
    before, new = bus_contents(desk.parent), moving(desk)
    assert run_command("migrate", desk, new).returncode == 0
    with sqlite3.connect(desk.parent / "new.db") as store:
        store.execute('delete from records where "offset" >= ? or topic = ?', (kept, "journal"))
    assert run_command("migrate", desk, new).returncode == 0
    assert differences(copied(desk), before) == []


def test_a_target_with_other_records_is_refused_and_nothing_is_written_there(desk: Path) -> None:
    new = moving(desk)
    assert run_command("migrate", desk, new).returncode == 0
    with sqlite3.connect(desk.parent / "new.db") as store:
        store.execute("update records set value = value || ' ' where topic = 'audit' and partition = 1 and offset = 2")
        store.execute("delete from records where topic = 'journal'")
    done = run_command("migrate", desk, new)
    assert done.returncode == 2 and "audit/1 offset 2 on the target is not what the source has" in done.stderr
    assert "journal" not in {topic for topic, _ in copied(desk)}
    other = open_bus("sqlite:other.db", desk.parent)
    writer = other.writer([("commands", 9)])
    writer.append("commands", 9, "", b"{}", {})
    writer.flush()
    done = run_command("migrate", desk, moving(desk, "sqlite:other.db"))
    assert done.returncode == 2 and "commands/9, which the source does not have" in done.stderr


def test_a_run_that_is_alive_is_not_moved(desk: Path) -> None:
    bus = open_bus("sqlite:seawall.db", desk.parent)
    writer = bus.writer([("journal", 0)])
    done = run_command("migrate", desk, moving(desk))
    assert done.returncode == 2 and f"is being written by process {os.getpid()}" in done.stderr
    writer.close()


def test_configurations_that_are_not_of_one_journal_are_refused(desk: Path, tmp_path: Path) -> None:
    new = moving(desk)
    for change, told in (
        ("shards = 2", "shards is 3 but 2 in desk.toml"),
        ('bus = "sqlite:new.db"', "both configurations name the bus"),
    ):
        text = new.read_text()
        assert change in text
        new.write_text(text.replace(change, change.replace("2", "3").replace("new", "seawall")))
        done = run_command("migrate", desk, new)
        assert done.returncode == 2 and told in done.stderr
        new.write_text(text)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(desk.parent, elsewhere)
    done = run_command("migrate", desk, elsewhere / "new.toml")
    assert done.returncode == 2 and "lies in another folder" in done.stderr


@pytest.mark.kafka
def test_a_run_moves_to_kafka_and_goes_on_there_with_its_states(broker: Broker, desk: Path, tmp_path: Path) -> None:
    stayed, url = tmp_path / "stayed", broker.url("moved")
    shutil.copytree(desk.parent, stayed)
    new = moving(desk, url)
    done = run_command("migrate", desk, new)
    assert done.returncode == 0, done.stderr
    assert differences(copied(desk, url), bus_contents(stayed)) == []
    for path in (new, stayed / "desk.toml"):
        grow(path)
        assert run_command("run", path).returncode == 0
    assert differences(copied(desk, url), bus_contents(stayed)) == []
    assert not list(desk.parent.glob("recovery.unsound*"))
    assert run_command("verify", desk.parent).returncode == 0


@pytest.mark.kafka
def test_a_copy_to_kafka_goes_on_after_kills(broker: Broker, desk: Path) -> None:
    before, url, rng, killed = bus_contents(desk.parent), broker.url("killed"), random.Random(8), 0
    new = moving(desk, url)
    for _ in range(3):
        process = subprocess.Popen([*CLI, "migrate", str(desk), str(new)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (desk.parent / "migration.json").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.5, 4))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    done = run_command("migrate", desk, new)
    assert done.returncode == 0, done.stderr
    assert differences(copied(desk, url), before) == []


@pytest.mark.kafka
def test_live_inputs_keep_their_offsets_on_kafka(broker: Broker, tmp_path: Path) -> None:
    """A journal names them by offset: transactions would put marks between them."""
    path = write_desk(tmp_path, {"reference.jsonl": lines(instrument(), account("a"), mark(T0))}, shards=2)
    topic = broker.url("in").rpartition("/")[2]
    assert run_command("run", path).returncode == 0
    bus = open_bus("sqlite:seawall.db", tmp_path)
    writer = bus.writer([(topic, 0), (topic, 2), ("acknowledgements", 0)])
    for at in range(2500):
        writer.append(
            topic, at % 2 * 2, f"k{at}", lines(fill(T0 + at, f"f{at}")).strip(), {"source": "oms", "n": str(at)}
        )
        writer.append("acknowledgements", 0, "", b"{}", {})
    writer.flush()
    writer.close()
    bus.close()
    path.write_text(path.read_text() + f'topics = ["{topic}"]\n')
    url = broker.url("moved")
    done = run_command("migrate", path, moving(path, url))
    assert done.returncode == 0, done.stderr
    for name in (topic, "acknowledgements"):
        assert copied(path, url=url) != {} and bus_contents(tmp_path, [name], url) == bus_contents(tmp_path, [name])
    noted = {note.parent.name for note in tmp_path.glob(f"kafka-moved-*.topics/*/*/{topic}")}
    assert noted == {"sequence", "market"}  # a run knows that the copy is what was read
