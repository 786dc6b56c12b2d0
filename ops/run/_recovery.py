"""Recovery store of Bytewax, and the errors of ours behind those that the engine raises.

A store is made whole or not at all, and set aside when it cannot be trusted. Losing it loses nothing: the journal is
replayed from its start and every record that stands is compared and dropped.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from seawall.connectors.bus import failures
from seawall.schemas.errors import SeawallError, StoreError

if TYPE_CHECKING:
    from bytewax.recovery import RecoveryConfig

VERSION = 5  # of the tables, in SQLite's `user_version`, as Bytewax 0.21 makes them; others are not guessed at
TABLES = {"parts", "exs", "fronts", "commits", "snaps"}
# Snapshots are megabytes a second: with pages of 32 KiB they cost half the CPU time of SQLite's 4 KiB to write (80
# snapshots of 5.3 MB: 1.0 to 1.4 s against 2.3 to 2.7 s).
PAGE_BYTES = 32 * 1024
FULL = "database or disk is full"
FAILED = (
    FULL,
    "database disk image is malformed",
    "file is not a database",
    "disk I/O error",
    "unable to open database file",
    "attempt to write a readonly database",
    "no such table",
)
"""What SQLite says, and the engine after it, where a file is not what it was."""
FULL_DISK = "free disk space"
HINDRANCES = {
    sqlite3.SQLITE_FULL: FULL_DISK,
    sqlite3.SQLITE_IOERR_SHMSIZE: FULL_DISK,  # to read a log takes an index beside it, which finds no room
    sqlite3.SQLITE_IOERR_WRITE: FULL_DISK,
    sqlite3.SQLITE_IOERR_SHMOPEN: "make its folder readable and writable",
    sqlite3.SQLITE_CANTOPEN: "make it and its folder readable and writable, and let processes open more files",
    sqlite3.SQLITE_PERM: "make it and its folder readable and writable",
    sqlite3.SQLITE_NOMEM: "free memory",
    sqlite3.SQLITE_BUSY: "stop whoever holds it",
}
"""What keeps a store from being looked at, which says nothing of the store, and what to do about it."""


def open_recovery(folder: Path) -> "RecoveryConfig":
    """Return the recovery configuration of a folder; what is missing is made, what is unsound is set aside first."""
    from bytewax.recovery import RecoveryConfig, init_db_dir  # noqa: PLC0415 - who only sets a store aside needs no engine

    if folder.exists() and not is_recovery_sound(folder):
        set_recovery_aside(folder)
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


def is_recovery_sound(folder: Path) -> bool:
    """Tell whether a store can be read: whole tables of a known version, and an execution that committed.

    No byte of it is changed, read only: a run that is alive may have it open, and whoever closes a store last writes
    its log back into it.

    Raises
    ------
    StoreError
        It cannot be looked at now: the disk is full, say. That is no reason to set it aside.
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
    except sqlite3.Error as error:
        if (hint := _hindrance(error)) is None:
            return False
        text = f"the recovery store {folder} cannot be looked at ({error}); {hint}, and run again to continue"
        raise StoreError(text) from error


def _hindrance(error: sqlite3.Error) -> str | None:
    """Return what to do about an error that says nothing of the store itself, None for any other."""
    code = getattr(error, "sqlite_errorcode", 0)
    return HINDRANCES.get(code, HINDRANCES.get(code & 0xFF))


def recovery_store_error(folder: Path, error: BaseException) -> StoreError | None:
    """Return the error of ours for one that ended the engine where its recovery store did so; None for any other.

    In words where the engine passes them on; where it only says that a thread of it panicked, by looking at the store.
    """
    chain = list(_chain(error))
    if any(isinstance(one, sqlite3.Error) for one in chain):
        return None  # another database than the engine's, which has an SQLite of its own
    said = next((words for words in FAILED if any(words in str(one) for one in chain)), "")
    if not said and is_recovery_sound(folder):
        return None
    what = f"the recovery store {folder} failed while the run used it ({said or 'its tables are not what they were'})"
    if said == FULL:
        return StoreError(f"{what}; free disk space, and run again to continue")
    again = "run again: a store that is unsound is set aside and what it held is computed anew, which loses nothing"
    return StoreError(f"{what}; {again}; if it comes again, look at the disk")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def set_recovery_aside(folder: Path) -> Path:
    """Rename a store so that it stays for inspection; return its new name."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.unsound-{number}")).exists():
        number += 1
    folder.rename(target)
    return target


def own_error(error: BaseException, raised: Iterable[BaseException] = ()) -> SeawallError | None:
    """Return the error of ours behind one that the engine raised, from its chain or from what was noted."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, SeawallError):
            return chain
        chain = chain.__cause__ or chain.__context__
    return next((failure for failure in (*failures, *raised) if isinstance(failure, SeawallError)), None)
