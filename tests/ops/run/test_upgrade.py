"""Versions: stores that earlier programs wrote are verified and carried on; other versions do not mix in.

The stores are those of ``tests/fixtures/stores``. A process of another version is this program under another number.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import BackupStore, decided_slices, open_bus
from seawall.operators.core.base import pack, unpack
from seawall.operators.core.forecasts import ForecastState
from seawall.operators.core.forecasts._shard_forecasts import SCHEMA
from seawall.operators.core.pipeline import FirmPipeline, ShardPipeline, UnsignedCommands
from seawall.operators.stateful import restore_state
from seawall.ops.run._recovery import is_recovery_sound, open_recovery
from seawall.ops.verify import slices_in_order
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import BackupError, BusError, SnapshotError, UsageError
from seawall.schemas.evidence import KeySet, Malformed
from seawall.schemas.records import decode_slice
from seawall_testing.command_line import CLI, bus_contents, run_command, seawall
from seawall_testing.live_runs import write_live
from seawall_testing.paths import FIXTURES
from seawall_testing.stores import extend, make, unpacked

LAYOUTS = FIXTURES / "state_layouts.json"
WAIT_S = 120.0
NOW, NEXT, SERIES = "0.2.0", "0.3.0", "0.2"
AS_NEXT = [sys.executable, "-c", f"import seawall; seawall.__version__ = {NEXT!r}; {CLI[2]}"]


def as_next(*arguments: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command of the next version to its end."""
    return subprocess.run([*AS_NEXT, *map(str, arguments)], capture_output=True, text=True, timeout=WAIT_S, check=False)


# --- stores that earlier programs wrote -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["8604080", "052b11e", "1dffba7", "c47dd11", "61f38ee", "2bf7f29"])
def test_a_store_of_an_earlier_program_is_verified_and_carried_on_however_it_decided(name: str, tmp_path: Path) -> None:
    run, _ = unpacked(name, tmp_path)
    before = bus_contents(run)
    for word in ("verify", "replay"):
        done = run_command(word, run)
        assert done.returncode == 0, done.stdout + done.stderr
    assert run_command("migrate", run / "desk.toml", "--to", SERIES).returncode == 0
    extend(run)
    done = run_command("run", run / "desk.toml")
    assert done.returncode == 0, done.stderr
    after = bus_contents(run)
    assert all(after[place][: len(records)] == records for place, records in before.items())
    assert len(after["audit", 0]) > len(before["audit", 0])
    for word in ("verify", "replay"):
        done = run_command(word, run)
        assert done.returncode == 0, done.stdout + done.stderr


def carried(folder: Path) -> Path:
    """Return the folder of a run that this version has carried on."""
    run, _ = unpacked("c47dd11", folder)
    assert run_command("migrate", run / "desk.toml", "--to", SERIES).returncode == 0
    assert seawall("run", run / "desk.toml").returncode == 0
    return run


# --- other versions beside this one -----------------------------------------------------------------------------------


@pytest.mark.soak
def test_the_next_version_goes_on_where_all_is_decided_and_the_earlier_one_is_refused_from_then_on(
    tmp_path: Path,
) -> None:
    run = carried(tmp_path)
    extend(run)
    done = as_next("migrate", run / "desk.toml", "--to", "0.3")
    assert done.returncode == 0, done.stderr
    done = as_next("run", run / "desk.toml")
    assert done.returncode == 0, done.stderr
    last = [json.loads(line) for line in run_command("dump", run, "journal").stdout.splitlines()]
    codes = [json.loads(line["value"])["configuration"]["code"] for line in last if '"configuration"' in line["value"]]
    assert sorted(codes) == ["0.1.0", "0.1.0", NOW, NOW, NEXT, NEXT]
    assert as_next("replay", run).returncode == 0
    assert run_command("verify", run).returncode == 0
    stands = make.digests(run)
    back = seawall("run", run / "desk.toml")
    assert back.returncode == 2
    assert f"cut by Seawall {NEXT}, and this is {NOW}, which is older: install {NEXT}" in back.stderr
    refused = seawall("replay", run)
    assert refused.returncode == 2
    assert f"cut by Seawall {NEXT}, and this is {NOW}, which is older: install {NEXT}" in refused.stderr
    assert make.digests(run) == stands


@pytest.mark.soak
def test_the_next_version_waits_until_the_earlier_one_has_decided_what_it_cut(tmp_path: Path) -> None:
    run = carried(tmp_path)
    extend(run)
    assert seawall("run", run / "desk.toml", "--only", "sequence").returncode == 0
    stands = make.digests(run)
    risk = as_next("run", run / "desk.toml", "--only", "risk")
    assert risk.returncode == 2
    assert f"is decided by Seawall {NOW}, and this process is {NEXT}, which decides otherwise" in risk.stderr
    early = as_next("run", run / "desk.toml")
    assert early.returncode == 2
    assert f"were cut by Seawall {NOW} and are not decided yet: let {NOW} finish them" in early.stderr
    assert make.digests(run) == stands
    assert seawall("run", run / "desk.toml", "--only", "risk", "--only", "seal").returncode == 0
    done = as_next("migrate", run / "desk.toml", "--to", "0.3")
    assert done.returncode == 0, done.stderr
    done = as_next("run", run / "desk.toml")
    assert done.returncode == 0, done.stderr


def until(what: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + WAIT_S
    while not what() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert what()


@pytest.mark.soak
def test_a_process_that_follows_a_live_journal_stops_where_another_version_takes_over(tmp_path: Path) -> None:
    path = write_live(tmp_path)
    path.write_text(path.read_text().partition("[health]")[0])
    assert seawall("keys", "new", path.parent / "keys/dev.pem").returncode in (0, 2)
    bus = open_bus("sqlite:seawall.db", path.parent)
    errors = (tmp_path / "risk.err").open("wb+")
    sequence = subprocess.Popen([*CLI, "run", str(path), "--only", "sequence"], stderr=subprocess.DEVNULL)
    started = [sequence]
    try:
        until(lambda: bus.end("journal", 0) > 2, sequence)
        risk = subprocess.Popen([*CLI, "run", str(path), "--only", "risk"], stderr=errors)
        started.append(risk)
        until(lambda: bus.end("audit", 0) > 2, risk)
        sequence.send_signal(signal.SIGTERM)
        assert sequence.wait(WAIT_S) == 0
        until(lambda: all(decided_slices(bus, shard) == bus.end("journal", shard) for shard in range(2)), risk)
        errors.truncate(0)  # the state of risk is not another process's to make while risk is alive
        cut = (
            "from seawall.dataflows import Sequencer; from seawall.connectors.bus import open_bus; import sys\n"
            "from seawall.schemas.configuration import load_configuration\n"
            "from pathlib import Path; path = Path(sys.argv[1])\n"
            "bus = open_bus('sqlite:seawall.db', path.parent)\n"
            "Sequencer(load_configuration(path), bus, takes_over=True).take_over()"
        )
        words = [sys.executable, "-c", f"import seawall; seawall.__version__ = {NEXT!r}\n{cut}", str(path)]
        started.append(subprocess.Popen(words, stderr=errors))
        assert risk.wait(WAIT_S) == 2
        errors.seek(0)
        assert f"is decided by Seawall {NEXT}, and this process is {NOW}" in errors.read().decode()
    finally:
        for process in started:
            process.kill()
            process.wait()
        bus.close()
        errors.close()


def test_a_worker_of_another_version_than_the_run_that_started_it_refuses(tmp_path: Path) -> None:
    run, _ = unpacked("c47dd11", tmp_path)
    words = ["-m", "seawall.ops.run.worker", str(run / "desk.toml"), "0", "127.0.0.1:1", "1", f"--code={NEXT}"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 2
    assert f"this worker is of Seawall {NOW}, and the run that started it of {NEXT}" in done.stderr


# --- what carries a version of its own --------------------------------------------------------------------------------


def test_an_embedded_bus_of_a_later_layout_is_refused_and_one_of_before_is_numbered(tmp_path: Path) -> None:
    run, _ = unpacked("1dffba7", tmp_path)
    with sqlite3.connect(run / "seawall.db") as store:
        assert store.execute("pragma user_version").fetchone() == (0,)
    assert run_command("dump", run, "audit").returncode == 0
    with sqlite3.connect(run / "seawall.db") as store:
        assert store.execute("pragma user_version").fetchone() == (1,)
        store.execute("pragma user_version = 2")
    with pytest.raises(BusError, match=r"is an embedded bus of layout 2, and Seawall 0\.2\.0 reads up to 1: install"):
        open_bus("sqlite:seawall.db", run)


def test_a_recovery_store_of_another_engine_version_is_set_aside(tmp_path: Path) -> None:
    open_recovery(tmp_path / "recovery")
    file = tmp_path / "recovery" / "part-0.sqlite3"
    assert is_recovery_sound(tmp_path / "recovery")
    with sqlite3.connect(file) as store:
        store.execute("pragma user_version = 6")
    assert not is_recovery_sound(tmp_path / "recovery")
    open_recovery(tmp_path / "recovery")
    assert is_recovery_sound(tmp_path / "recovery")
    assert (tmp_path / "recovery.unsound-1").is_dir()


def test_a_snapshot_of_another_layout_under_the_same_name_is_one_that_cannot_be_read() -> None:
    with pytest.raises(SnapshotError, match=r"laid out otherwise than this version keeps it \(KeyError"):
        restore_state(ForecastState.restore, pack(SCHEMA, {"other": 1}))


def test_a_configuration_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text("version = 2\n[inputs]\nevents = []\n")
    with pytest.raises(UsageError, match="version is '2'; it must be 1; a file of another version needs its Seawall"):
        load_configuration(tmp_path / "desk.toml")
    (tmp_path / "desk.toml").write_text("version = 1\n[inputs]\nevents = []\n")
    assert load_configuration(tmp_path / "desk.toml").shards == 4


def test_a_backup_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests/00000001.json").write_text('{"format": "seawall-backup/2", "number": 1, "before": ""}')
    with pytest.raises(BackupError, match="is of format 'seawall-backup/2', not 'seawall-backup/1'"):
        BackupStore(tmp_path)


def test_a_key_set_of_another_version_is_refused() -> None:
    document = {"v": 2, "version": 1, "prev_sha256": None, "environment": "dev", "keys": []}
    with pytest.raises(Malformed, match="not a key set"):
        KeySet.parse(json.dumps(document).encode())


# --- layouts of states ------------------------------------------------------------------------------------------------


def layouts(run: Path) -> dict[str, list[str]]:
    """Return the names that each kind of state uses, three levels deep, of states as risk has them after a run."""
    bus, signer = open_bus("sqlite:seawall.db", run), UnsignedCommands()
    shards, firm = [ShardPipeline(0, signer), ShardPipeline(1, signer)], FirmPipeline(2, signer)
    for value in slices_in_order(bus, 2):
        piece = decode_slice(value)
        found = shards[piece.shard].take(piece, "")
        if found.message is not None:
            firm.step(found.message)
    bus.close()
    states = [*shards[0].parts().values(), *firm.parts().values()]
    named = [(str(_schema(state)), state) for state in states]
    return {schema: sorted(set(_names(unpack(schema, state)))) for schema, state in sorted(named)}


def _schema(state: bytes) -> str:
    try:
        unpack("", state)
    except SnapshotError as error:
        return str(error).split()[3]
    raise AssertionError("a state without a name")


def _names(value: Any, path: str = "", depth: int = 3) -> list[str]:
    if depth and isinstance(value, dict) and path != "configuration.":
        names = [(name, part) for name, part in value.items() if isinstance(name, str) and name.islower()]
        names = [(f"{path}{name}", part) for name, part in names if name.isidentifier()]
        return [each for name, part in names for each in (name, *_names(part, f"{name}.", depth - 1))]
    return []


def test_a_state_that_is_laid_out_otherwise_has_another_number(tmp_path: Path) -> None:
    """Where this fails: raise the number in SCHEMA of that state, then run this file, PYTHONPATH=tests, to note it."""
    run, _ = unpacked("c47dd11", tmp_path)
    known, found = json.loads(LAYOUTS.read_text()), layouts(run)
    changed = [schema for schema in found if schema in known and known[schema] != found[schema]]
    assert not changed, f"{changed}: other fields under the same number; raise it where SCHEMA is set"
    assert set(found) == set(known), "a state has a new number: add a store that it cannot read, and note the layout"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        LAYOUTS.write_text(json.dumps(layouts(unpacked("c47dd11", Path(place))[0]), indent=1) + "\n")
