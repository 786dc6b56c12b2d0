"""``seawall run --engine local``: risk in a plain loop writes the bytes of the engine, whatever kills it."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall_testing import crisis
from seawall_testing.command_line import CLI, bus_contents, differences, run_command

SHARDS = 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on Bytewax."""
    path = crisis.write_crisis(tmp_path_factory.mktemp("whole"), 6, per_second=20, shards=SHARDS)
    done = run_command("run", path)
    assert done.returncode == 0, done.stderr
    return path


def begun(whole: Path, folder: Path) -> Path:
    """Return the same inputs and keys in a fresh folder, sequenced and not decided on."""
    for pattern in ("*.jsonl*", "*.toml", "keys"):
        for found in whole.parent.glob(pattern):
            (shutil.copytree if found.is_dir() else shutil.copy)(found, folder / found.name)
    path = folder / whole.name
    assert run_command("run", path, "--only", "market", "--only", "sequence").returncode == 0
    return path


def test_the_plain_loop_writes_the_bytes_of_the_engine_and_again_nothing(whole: Path, tmp_path: Path) -> None:
    path = begun(whole, tmp_path)
    for _ in range(2):
        done = run_command("run", path, "--engine", "local", "--only", "risk", "--only", "seal")
        assert done.returncode == 0, done.stderr
        assert differences(bus_contents(tmp_path), bus_contents(whole.parent)) == []
    assert (tmp_path / "recovery-local" / "states").is_file() and not (tmp_path / "recovery").exists()


def test_killed_and_started_again_the_plain_loop_writes_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    path = begun(whole, tmp_path)
    bus = open_bus("sqlite:seawall.db", tmp_path)
    killed = 0
    for wanted in (1, 20, 60):
        process = subprocess.Popen([*CLI, "run", str(path), "--engine", "local", "--only", "risk"])
        deadline = time.monotonic() + 120
        while bus.end("audit", 0) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    bus.close()
    assert killed
    done = run_command("run", path, "--engine", "local", "--only", "risk", "--only", "seal")
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(tmp_path), bus_contents(whole.parent)) == []


def test_states_that_cannot_be_read_are_set_aside_and_the_journal_replayed(whole: Path, tmp_path: Path) -> None:
    path = begun(whole, tmp_path)
    assert run_command("run", path, "--engine", "local", "--only", "risk").returncode == 0
    (tmp_path / "recovery-local" / "states").write_bytes(b"garbage")
    done = run_command("run", path, "--engine", "local", "--only", "risk", "--only", "seal")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "recovery-local.unsound-1").is_dir()
    assert differences(bus_contents(tmp_path), bus_contents(whole.parent)) == []


def test_the_plain_loop_has_no_workers_and_other_engines_are_named(whole: Path) -> None:
    for options, text in (
        (("--engine", "local", "--workers", "2"), "--engine local is one loop"),
        (("--engine", "spark"), "an engine is one of bytewax, local"),
    ):
        done = run_command("run", whole, *options)
        assert (done.returncode, text in done.stderr) == (2, True), done.stderr
