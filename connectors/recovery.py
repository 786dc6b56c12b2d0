"""The recovery store: made whole or not at all, and set aside when it cannot be trusted.

Losing it loses nothing: the journal is replayed from its start and every record that stands is compared and dropped.
"""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from bytewax.recovery import RecoveryConfig, init_db_dir

VERSION = 5  # of the tables, in SQLite's `user_version`, as Bytewax 0.21 makes them; others are not guessed at
TABLES = {"parts", "exs", "fronts", "commits", "snaps"}
# Snapshots are megabytes a second: with pages of 32 KiB they cost half the CPU time of SQLite's 4 KiB to write (80
# snapshots of 5.3 MB: 1.0 to 1.4 s against 2.3 to 2.7 s).
PAGE_BYTES = 32 * 1024


def open_recovery(folder: Path) -> RecoveryConfig:
    """Return the recovery configuration of a folder; what is missing is made, what is unsound is set aside first."""
    if folder.exists() and not is_sound(folder):
        set_aside(folder)
    if not folder.exists():
        fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        init_db_dir(fresh, 1)
        _set_page_size(fresh / "part-0.sqlite3")
        fresh.rename(folder)
    return RecoveryConfig(folder)


def _set_page_size(file: Path) -> None:
    """Write a fresh store anew with larger pages; a store in WAL mode would keep those it has."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as store:
        for step in ("journal_mode = delete", f"page_size = {PAGE_BYTES}"):
            store.execute(f"pragma {step}")
        store.execute("vacuum")
        store.execute("pragma journal_mode = wal")


def is_sound(folder: Path) -> bool:
    """Tell whether a store can be read: whole tables of a known version, and an execution that committed.

    No byte of it is changed, read only: a run that is alive may have it open, and whoever closes a store last writes
    its log back into it.
    """
    file = folder / "part-0.sqlite3"
    if not file.is_file():
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as store:
            names = {row[0] for row in store.execute("select name from sqlite_master where type = 'table'")}
            known = store.execute("pragma user_version").fetchone() == (VERSION,)
            sound = known and names >= TABLES and store.execute("pragma quick_check").fetchone() == ("ok",)
            return sound and bool(store.execute("select count(*) from parts").fetchone()[0])
    except sqlite3.Error:
        return False


def set_aside(folder: Path) -> Path:
    """Rename a store so that it stays for inspection; return its new name."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.unsound-{number}")).exists():
        number += 1
    folder.rename(target)
    return target
