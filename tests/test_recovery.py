"""The recovery store: large pages, made whole, set aside when unsound. Damage during runs is tested in ``test_cli``."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

from seawall.connectors.recovery import PAGE_BYTES, is_sound, open_recovery


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


def test_to_look_at_a_store_changes_no_byte_of_it_nor_of_its_log(tmp_path: Path) -> None:
    open_recovery(tmp_path / "recovery")
    file = tmp_path / "recovery" / "part-0.sqlite3"
    subprocess.run([sys.executable, "-c", KILLED, str(file)], check=True)  # a killed writer leaves its log
    log = file.with_name(file.name + "-wal")
    before = file.read_bytes(), log.read_bytes()
    assert before[1]
    assert is_sound(tmp_path / "recovery")
    assert (file.read_bytes(), log.read_bytes()) == before
