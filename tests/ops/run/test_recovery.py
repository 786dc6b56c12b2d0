"""The recovery store: large pages, made whole, set aside when unsound, told of when it fails under a run.

Damage between two runs is tested in ``test_cli``.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.ops.run._recovery import PAGE_BYTES, is_recovery_sound, open_recovery, recovery_store_error
from seawall_testing.command_line import CLI, seawall, wait_for
from seawall_testing.live_runs import wait_for_endpoint, write_live


def ask(file: Path, pragma: str) -> object:
    with contextlib.closing(sqlite3.connect(file)) as store:
        return store.execute(f"pragma {pragma}").fetchone()[0]


def test_a_fresh_store_has_large_pages_and_a_log(tmp_path: Path) -> None:
    open_recovery(tmp_path / "recovery")
    file = tmp_path / "recovery" / "part-0.sqlite3"
    assert ask(file, "page_size") == PAGE_BYTES
    assert ask(file, "journal_mode") == "wal"
    assert ask(file, "quick_check") == "ok"


def test_a_store_that_no_run_ever_used_is_set_aside(tmp_path: Path) -> None:
    open_recovery(tmp_path / "recovery")
    with contextlib.closing(sqlite3.connect(tmp_path / "recovery" / "part-0.sqlite3", isolation_level=None)) as store:
        store.execute("delete from parts")
    open_recovery(tmp_path / "recovery")
    assert (tmp_path / "recovery.unsound-1").is_dir()
    assert ask(tmp_path / "recovery" / "part-0.sqlite3", "page_size") == PAGE_BYTES


KILLED = """
import os, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("create table if not exists written (n)")
store.execute("insert into written values (1)")
os._exit(0)
"""


def test_a_store_that_a_full_disk_keeps_from_being_looked_at_is_not_set_aside(tmp_path: Path) -> None:
    store = tmp_path / "recovery"
    open_recovery(store)
    with contextlib.closing(sqlite3.connect(store / "part-0.sqlite3")) as last:
        last.execute("select * from parts").fetchall()  # whoever closes it last removes its log, as the engine does
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom seawall.ops.run._recovery import open_recovery\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"  # no file may grow: what a full disk does
        "try:\n    open_recovery(Path(sys.argv[1]))\nexcept Exception as error:\n    sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cannot be looked at" in done.stderr and "free disk space" in done.stderr
    assert is_recovery_sound(store) and not list(tmp_path.glob("recovery.unsound*"))


def test_to_look_at_a_store_changes_no_byte_of_it_nor_of_its_log(tmp_path: Path) -> None:
    open_recovery(tmp_path / "recovery")
    file = tmp_path / "recovery" / "part-0.sqlite3"
    subprocess.run([sys.executable, "-c", KILLED, str(file)], check=True)  # a killed writer leaves its log
    log = file.with_name(file.name + "-wal")
    before = file.read_bytes(), log.read_bytes()
    assert before[1]
    assert is_recovery_sound(tmp_path / "recovery")
    assert (file.read_bytes(), log.read_bytes()) == before


@pytest.mark.parametrize(
    "name",
    [
        "recovery",
        pytest.param("recovery-seal", marks=pytest.mark.soak),
        pytest.param("recovery-market", marks=pytest.mark.soak),
    ],
)
def test_a_store_that_is_damaged_under_a_run_stops_it_in_one_line_and_the_next_run_loses_nothing(
    name: str, tmp_path: Path
) -> None:
    path, store = write_live(tmp_path), tmp_path / name
    with Run(path) as first:
        wait_for_endpoint(path, "ready", lambda code, _: code == 200)
        wait_for(lambda: first.ended_after(store), 120)
        assert first.process.returncode == 2, first.said()
        assert "Traceback" not in first.said()
        last = first.said().splitlines()[-1]
        assert last.startswith(f"seawall: the recovery store {store} failed while the run used it (")
        assert "run again: a store that is unsound is set aside" in last
    with Run(path) as second:
        wait_for_endpoint(path, "ready", lambda code, _: code == 200)
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(120) == 0, second.said()
    assert (tmp_path / f"{name}.unsound-1").is_dir()
    assert seawall("verify", path).returncode == 0


class Run:
    """A live run in a process of its own."""

    def __init__(self, path: Path) -> None:
        self._errors = path.with_suffix(".err").open("wb+")
        self.process = subprocess.Popen([*CLI, "run", str(path)], stderr=self._errors, start_new_session=True)

    def ended_after(self, store: Path) -> bool:
        """Write nonsense over the beginning of every file of a store; tell whether the run has ended."""
        for file in store.glob("part-0.sqlite3*"):
            with contextlib.suppress(FileNotFoundError), file.open("r+b") as opened:  # the last one out removes it
                opened.write(os.urandom(4096))
        return self.process.poll() is not None

    def said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def test_an_error_of_the_engine_is_that_of_its_store_by_its_words_or_by_the_store(tmp_path: Path) -> None:
    store = tmp_path / "recovery"
    open_recovery(store)
    panic = RuntimeError("a worker thread panicked")
    assert recovery_store_error(store, panic) is None
    said = RuntimeError('SqliteFailure(Error { code: DatabaseFull }, Some("database or disk is full"))')
    assert "is full); free disk space" in str(recovery_store_error(store, said))
    (store / "part-0.sqlite3").write_bytes(b"nonsense" * 5000)
    assert f"{store} failed while the run used it (its tables are not what they were)" in str(
        recovery_store_error(store, panic)
    )
    bus = RuntimeError("another database")
    bus.__cause__ = sqlite3.DatabaseError("database disk image is malformed")
    assert recovery_store_error(store, bus) is None
