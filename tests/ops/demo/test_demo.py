"""The demo says what does not hold: a folder that is not its own, a run that was stopped, a record that was changed."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from seawall_testing.shared_runs import DemoRun

SEAWALL = "from seawall.ops.cli._app import main; main()"


def seawall(*args: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", SEAWALL, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A demo that was stopped by SIGINT when its first commands stood."""
    folder = tmp_path / "run"
    command = [sys.executable, "-c", SEAWALL, "demo", "--dir", str(folder)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stderr is not None
    while "HALT_TRADING" not in demo.stderr.readline():
        assert demo.poll() is None
    time.sleep(0.2)
    demo.send_signal(signal.SIGINT)
    out, err = demo.communicate(timeout=120)
    assert demo.returncode == 1, err
    assert "stopped at 20:" in err
    assert f"to continue: seawall demo --dir {folder} --seed 7" in err
    assert out == ""
    return folder


@pytest.mark.soak
def test_a_demo_that_was_stopped_continues_and_then_everything_holds(stopped: Path) -> None:
    done = seawall("demo", "--dir", stopped)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it continues where it stopped" in done.stderr
    marks = [
        line.split()[0] for line in done.stdout.split("What holds")[1].splitlines() if line[:4] in ("ok  ", "FAIL")
    ]
    assert marks == ["ok"] * 7


@pytest.mark.soak  # it verifies and replays a whole demo again
def test_a_changed_record_makes_the_demo_say_what_does_not_hold_and_exit_1(demo_run: DemoRun, tmp_path: Path) -> None:
    shutil.copytree(demo_run.folder, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "seawall.db")) as bus:
        bus.execute("update records set value = replace(value, 'HALT', 'HOLD') where topic = 'commands'")
        bus.commit()
    done = seawall("demo", "--dir", tmp_path / "run")
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert [line.split()[1] for line in failed][-2:] == ["verify:", "replay:"]
    assert any("signatures verified" in line for line in failed)
    assert "BAD SIGNATURE" in done.stdout


@pytest.mark.parametrize("held", ["a demo of another seed", "something else", "a file"])
def test_a_folder_that_holds_something_else_is_refused_untouched(demo_run: DemoRun, tmp_path: Path, held: str) -> None:
    folder, seed = (demo_run.folder, 8) if held == "a demo of another seed" else (tmp_path / "run", 7)
    if held == "a file":
        folder.write_text("mine")
    elif held == "something else":
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    done = seawall("demo", "--dir", folder, "--seed", seed)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "name an empty or new" in done.stderr
    assert {path: path.read_bytes() for path in folder.glob("*") if path.is_file()} == before


def test_without_a_folder_the_demo_takes_new_ones_under_the_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seawall.ops.demo._demo import new_folder

    monkeypatch.chdir(tmp_path)
    first = new_folder()
    first.mkdir()
    assert (first, new_folder()) == (Path("seawall-demo/run-1"), Path("seawall-demo/run-2"))
