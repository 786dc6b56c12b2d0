"""A mock order gateway that obeys signed commands: the shortest complete subscriber, to read and to start from.

It halts, reduces, cancels and reroutes; its orders, its modes and the subscriber's marks share one SQLite file, so that
each command has its effect exactly once, whatever is killed or delivered again. Records come as ``seawall dump`` prints
them, one JSON object per line; acknowledgements leave the same way::

    seawall keys export run > jwks.json
    seawall dump run commands | python -m seawall.ops.demo.order_gateway --jwks jwks.json \\
        --issuer risk/dev --environment dev --database gateway.db --at event

State documents and heartbeats (``seawall dump run state``) are taken the same way. In production key sets come signed
(``--keyset FOLDER --pin SHA256``) and the clock is the machine's.
"""

import argparse
import base64
import json
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from seawall.connectors.keys import read_key_set_envelopes
from seawall.connectors.subscriber import TRADING_MODE, Subscriber, headers_of, sqlite_subscriber
from seawall.schemas.evidence import AcceptancePolicy, Command, InForce, KeySet

_SCHEMA = """
CREATE TABLE IF NOT EXISTS gateway_mode (target TEXT PRIMARY KEY, rung INT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gateway_route (target TEXT PRIMARY KEY, venue TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gateway_order (id INTEGER PRIMARY KEY, target TEXT, venue TEXT, reduces INT, status TEXT);
CREATE TABLE IF NOT EXISTS gateway_effect (at INTEGER PRIMARY KEY, command_id TEXT, type TEXT, target TEXT);
"""


class OrderGateway:
    """The effects. Each writes within the subscriber's transaction; ``gateway_effect`` is its journal."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)

    def apply(self, transaction: sqlite3.Connection, command: Command) -> None:
        """Carry out one command; kinds that concern no orders are only journaled."""
        self._carry_out(transaction, str(command.target), command.id, command.type, command.action)

    def restore(self, transaction: sqlite3.Connection, target: str, in_force: InForce) -> None:
        """Carry out what a state snapshot says is in force."""
        self._carry_out(transaction, target, in_force.id, in_force.type, in_force.action)

    def set_safe_state(self, transaction: sqlite3.Connection, active: bool, why: str) -> None:
        """Our safe state: everything reduces only, until the signs of life return.

        What ended it last need not be what began it, so all that began it ends with it.
        """
        if active:
            self._set_mode(transaction, f"safe:{why}", TRADING_MODE["REDUCE_ONLY"])
        else:
            transaction.execute("UPDATE gateway_mode SET rung = 0 WHERE target LIKE 'safe:%'")

    def place_order(self, target: str, venue: str, reduces: bool) -> str:
        """Return ``working`` for a new order, or the reason why it was refused."""
        rungs = self._db.execute(
            "SELECT MAX(rung) FROM gateway_mode WHERE target = ? OR target LIKE 'safe:%'", (target,)
        )
        rung = rungs.fetchone()[0] or 0
        if rung >= TRADING_MODE["SUSPEND"] or (rung and not reduces):
            return "refused: halted" if rung >= TRADING_MODE["SUSPEND"] else "refused: reduce only"
        route = self._db.execute("SELECT venue FROM gateway_route WHERE target = ?", (target,)).fetchone()
        row = target, route[0] if route else venue, int(reduces), "working"
        self._db.execute("INSERT INTO gateway_order (target, venue, reduces, status) VALUES (?, ?, ?, ?)", row)
        return "working"

    def _carry_out(self, db: sqlite3.Connection, target: str, id: str, kind: str, action: dict[str, Any]) -> None:
        if kind in TRADING_MODE:
            self._set_mode(db, target, max(TRADING_MODE[kind], self._mode(db, target)))
        elif kind == "REINSTATE":
            self._set_mode(db, target, 0)
        if kind in ("CANCEL_ORDERS", "HALT_TRADING"):
            db.execute(
                "UPDATE gateway_order SET status = 'cancelled' WHERE target = ? AND status = 'working'", (target,)
            )
        elif kind == "REROUTE":
            db.execute("INSERT OR REPLACE INTO gateway_route VALUES (?, ?)", (target, str(action.get("venue", ""))))
        elif kind == "REDUCE_POSITION":
            row = target, str(action.get("venue", "")), 1, "working"
            db.execute("INSERT INTO gateway_order (target, venue, reduces, status) VALUES (?, ?, ?, ?)", row)
        db.execute("INSERT INTO gateway_effect (command_id, type, target) VALUES (?, ?, ?)", (id, kind, target))

    def _mode(self, db: sqlite3.Connection, target: str) -> int:
        row = db.execute("SELECT rung FROM gateway_mode WHERE target = ?", (target,)).fetchone()
        return int(row[0]) if row else 0

    def _set_mode(self, db: sqlite3.Connection, target: str, rung: int) -> None:
        db.execute("INSERT OR REPLACE INTO gateway_mode VALUES (?, ?)", (target, rung))


def obey(
    subscriber: Subscriber[sqlite3.Connection], lines: Iterable[str], name: str, at_event: bool
) -> Iterator[dict[str, Any]]:
    """Yield an acknowledgement per genuine command, once its effect is durable; name the others on standard error."""
    for line in lines:
        record = json.loads(line)
        value = _value_of(record)
        now_us = _issued_us(value) if at_event else time.time_ns() // 1000
        for receipt in subscriber.receive(value, headers_of(record["headers"]), now_us):
            acknowledgement = receipt.acknowledgement(name, now_us)
            if acknowledgement is None and receipt.reason is not None:
                print(f"not a command for us: {receipt.reason} {receipt.detail}", file=sys.stderr)
            elif acknowledgement is not None:
                yield acknowledgement


def _value_of(record: dict[str, Any]) -> bytes:
    """Return the bytes of a record as ``seawall dump`` prints it: anybody can write to a topic, what is no text too."""
    if "value_base64" in record:
        return base64.b64decode(record["value_base64"])
    return str(record["value"]).encode(errors="surrogatepass")


def _issued_us(value: bytes) -> int:
    """Return when a document says that it was issued; 0 of what is none, which is refused by name."""
    try:
        return int(json.loads(value)["iat_us"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0


def read_keys(arguments: argparse.Namespace) -> KeySet:
    """Return the signed key set, or for trials the keys of a plain JWKS."""
    if arguments.keyset:
        first, *later = read_key_set_envelopes(arguments.keyset)
        return reduce(KeySet.rotate, later, KeySet.open_pinned(first, arguments.pin))
    return KeySet.of_issuers(json.loads(arguments.jwks.read_text()), arguments.environment)


def main() -> None:
    """Obey the commands on standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--jwks", type=Path, help="public keys, all taken for issuers (not in prod)")
    source.add_argument("--keyset", type=Path, help="signed key sets, a folder or a file; needs --pin")
    parser.add_argument("--pin", default="", help="SHA-256 of the first key set")
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--environment", choices=["dev", "test", "prod"], required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--name", default="oms", help="our name in audiences and acknowledgements")
    parser.add_argument("--at", choices=["now", "event"], default="now", help="event: expiry as of each issue")
    arguments = parser.parse_args()
    if arguments.jwks and arguments.environment == "prod":
        parser.error("prod takes only a signed key set: --keyset FILE --pin SHA256")
    connection = sqlite3.connect(arguments.database, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    policy = AcceptancePolicy(arguments.name, arguments.environment, (arguments.issuer,))
    subscriber = sqlite_subscriber(connection, policy, read_keys(arguments), OrderGateway(connection))
    for acknowledgement in obey(subscriber, sys.stdin, arguments.name, arguments.at == "event"):
        print(json.dumps(acknowledgement), flush=True)


if __name__ == "__main__":
    main()
