"""Ledger of a subscriber: its high-water marks and receipts, stored with the effects.

Decides nothing; remembers per issuer and target the mark, the commands seen and those held, and per issuer the last
state snapshot and heartbeat. It lives in the caller's own SQLite database, so that one transaction holds a command's
effect and the mark that keeps it from happening again. `Ledger` is a protocol: the same tables in another database
serve as well, when its transaction is the one of the effect.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from seawall.connectors.subscriber._ordering import SEEN_MAX, HighWaterMark, Outcome, SeenCommand

FORGET_EVERY = 64
T_co = TypeVar("T_co", covariant=True)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS seawall_mark (iss TEXT, target TEXT, epoch INT, seq INT, head_epoch INT, head_seq INT,
    head_id TEXT, PRIMARY KEY (iss, target)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seawall_seen (iss TEXT, target TEXT, epoch INT, seq INT, id TEXT, prev_id TEXT, type TEXT,
    outcome TEXT, supersedes TEXT, about TEXT, PRIMARY KEY (iss, target, epoch, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seawall_held (iss TEXT, target TEXT, id TEXT, value BLOB, header BLOB,
    PRIMARY KEY (iss, target, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seawall_latest (iss TEXT, kind TEXT, seq INT, exp_us INT, PRIMARY KEY (iss, kind))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seawall_setting (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


class Ledger(Protocol[T_co]):
    """Database of a subscriber; every method but `transaction` runs inside one."""

    def transaction(self) -> AbstractContextManager[T_co]:
        """Hold a transaction: committed at the end, rolled back when anything raises. Yields what effects write to."""
        ...

    def mark(self, iss: str, target: str) -> HighWaterMark:
        """Return the mark; an empty one for a target never heard of."""
        ...

    def set_mark(self, iss: str, target: str, mark: HighWaterMark) -> None:
        """Store the mark."""
        ...

    def seen(self, iss: str, target: str, after: tuple[int, int], near: SeenCommand | None = None) -> list[SeenCommand]:
        """Return in order what lies beyond a position, and what shares place, id or predecessor with ``near``."""
        ...

    def note(self, iss: str, target: str, seen: SeenCommand) -> None:
        """Remember a command, or its new outcome; forget now and then what lies more than `SEEN_MAX` back."""
        ...

    def held(self, iss: str, target: str) -> list[tuple[bytes, bytes]]:
        """Return value and ``dsse`` header of each held command."""
        ...

    def hold(self, iss: str, target: str, id: str, value: bytes, header: bytes) -> None:
        """Keep a command for later."""
        ...

    def let_go(self, iss: str, target: str, id: str) -> None:
        """Keep it no longer."""
        ...

    def latest(self, iss: str, kind: str) -> tuple[int, int]:
        """Return seq and exp_us of the last document of a kind; (-1, 0) before the first."""
        ...

    def set_latest(self, iss: str, kind: str, seq: int, exp_us: int) -> None:
        """Store them."""
        ...

    def setting(self, name: str) -> str:
        """Return a stored word, empty when there is none."""
        ...

    def set_setting(self, name: str, value: str) -> None:
        """Store a word."""
        ...

    def forget(self, iss: str) -> None:
        """Delete everything of an issuer: a key set, signed by the root owners, resets it."""
        ...


class SqliteLedger:
    """The ledger in a SQLite database.

    Parameters
    ----------
    connection
        The caller's connection, opened with ``isolation_level=None``.
    owns_transaction
        False: the caller begins and commits, and the subscriber only writes within.
    """

    def __init__(self, connection: sqlite3.Connection, owns_transaction: bool = True) -> None:
        self._db, self._owns = connection, owns_transaction
        for statement in _SCHEMA.split(";"):
            self._db.execute(statement)
        if "about" not in {row[1] for row in self._db.execute("PRAGMA table_info(seawall_seen)")}:
            self._db.execute("ALTER TABLE seawall_seen ADD COLUMN about TEXT")  # of an earlier version: NULL there

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold a write transaction; effects write to the connection that it yields."""
        if not self._owns:
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")  # fails too: without a write-ahead log a reader keeps it from the file
        except BaseException:
            if self._db.in_transaction:  # some failures, such as a full disk, have already rolled it back
                self._db.execute("ROLLBACK")
            raise

    def mark(self, iss: str, target: str) -> HighWaterMark:
        """Return the mark; an empty one for a target never heard of."""
        sql = "SELECT epoch, seq, head_epoch, head_seq, head_id FROM seawall_mark WHERE iss = ? AND target = ?"
        row = self._db.execute(sql, (iss, target)).fetchone()
        return HighWaterMark(*row) if row else HighWaterMark()

    def set_mark(self, iss: str, target: str, mark: HighWaterMark) -> None:
        """Store the mark."""
        values = mark.epoch, mark.seq, mark.head_epoch, mark.head_seq, mark.head_id
        self._db.execute("INSERT OR REPLACE INTO seawall_mark VALUES (?, ?, ?, ?, ?, ?, ?)", (iss, target, *values))

    def seen(self, iss: str, target: str, after: tuple[int, int], near: SeenCommand | None = None) -> list[SeenCommand]:
        """Return in order what lies beyond a position, and what shares place, id or predecessor with ``near``."""
        columns = "epoch, seq, id, prev_id, type, outcome, supersedes, about"
        sql = (
            f"SELECT {columns} FROM seawall_seen WHERE iss = ? AND target = ?"
            " AND ((epoch, seq) > (?, ?) OR (epoch, seq) = (?, ?) OR id = ? OR prev_id IS ?) ORDER BY epoch, seq"
        )
        place = (near.epoch, near.seq, near.id, near.prev_id) if near else (*after, "", "")
        rows = self._db.execute(sql, (iss, target, *after, *place)).fetchall()
        return [SeenCommand(r[0], r[1], r[2], r[3], r[4], Outcome(r[5]), r[6], r[7]) for r in rows]

    def note(self, iss: str, target: str, seen: SeenCommand) -> None:
        """Remember a command, or its new outcome; forget now and then what lies more than `SEEN_MAX` back."""
        what = seen.type, seen.outcome.value, seen.supersedes, seen.about
        row = seen.epoch, seen.seq, seen.id, seen.prev_id, *what
        insert = "INSERT OR REPLACE INTO seawall_seen VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(insert, (iss, target, *row))
        if seen.seq % FORGET_EVERY:
            return
        delete = (
            "DELETE FROM seawall_seen WHERE iss = ?1 AND target = ?2 AND (epoch, seq) <= (SELECT epoch, seq"
            " FROM seawall_seen WHERE iss = ?1 AND target = ?2 ORDER BY epoch DESC, seq DESC LIMIT 1 OFFSET ?3)"
        )
        self._db.execute(delete, (iss, target, SEEN_MAX))

    def held(self, iss: str, target: str) -> list[tuple[bytes, bytes]]:
        """Return value and ``dsse`` header of each held command."""
        sql = "SELECT value, header FROM seawall_held WHERE iss = ? AND target = ?"
        return self._db.execute(sql, (iss, target)).fetchall()

    def hold(self, iss: str, target: str, id: str, value: bytes, header: bytes) -> None:
        """Keep a command for later."""
        self._db.execute("INSERT OR REPLACE INTO seawall_held VALUES (?, ?, ?, ?, ?)", (iss, target, id, value, header))

    def let_go(self, iss: str, target: str, id: str) -> None:
        """Keep it no longer."""
        self._db.execute("DELETE FROM seawall_held WHERE iss = ? AND target = ? AND id = ?", (iss, target, id))

    def latest(self, iss: str, kind: str) -> tuple[int, int]:
        """Return seq and exp_us of the last document of a kind; (-1, 0) before the first."""
        sql = "SELECT seq, exp_us FROM seawall_latest WHERE iss = ? AND kind = ?"
        row = self._db.execute(sql, (iss, kind)).fetchone()
        return (int(row[0]), int(row[1])) if row else (-1, 0)

    def set_latest(self, iss: str, kind: str, seq: int, exp_us: int) -> None:
        """Store them."""
        self._db.execute("INSERT OR REPLACE INTO seawall_latest VALUES (?, ?, ?, ?)", (iss, kind, seq, exp_us))

    def setting(self, name: str) -> str:
        """Return a stored word, empty when there is none."""
        row = self._db.execute("SELECT value FROM seawall_setting WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_setting(self, name: str, value: str) -> None:
        """Store a word."""
        self._db.execute("INSERT OR REPLACE INTO seawall_setting VALUES (?, ?)", (name, value))

    def forget(self, iss: str) -> None:
        """Delete everything of an issuer: a key set, signed by the root owners, resets it."""
        for table in ("mark", "seen", "held", "latest"):
            self._db.execute(f"DELETE FROM seawall_{table} WHERE iss = ?", (iss,))
