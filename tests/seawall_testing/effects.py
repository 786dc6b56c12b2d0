"""A desk that records what commands do to it, in memory and, where it has a table, in the transaction."""

import json
import sqlite3

from seawall.schemas.evidence.documents import Command, InForce
from seawall.schemas.evidence.ordering import TRADING_MODE


class Desk:
    """Effects for tests: ``done`` lists command ids, ``mode`` the rung each target stands on."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.mode: dict[str, int] = {}
        self.settings: dict[str, str] = {}
        self.safe = False

    def apply(self, transaction: sqlite3.Connection, command: Command) -> None:
        self.done.append(command.id)
        self._set(str(command.target), command.type, command.action)

    def restore(self, transaction: sqlite3.Connection, target: str, in_force: InForce) -> None:
        self.done.append(in_force.id)
        self._set(target, in_force.type, in_force.action)

    def set_safe_state(self, transaction: sqlite3.Connection, active: bool, why: str) -> None:
        self.safe = active

    def _set(self, target: str, kind: str, action: dict) -> None:
        if kind in TRADING_MODE:
            self.mode[target] = max(TRADING_MODE[kind], self.mode.get(target, 0))
        elif kind == "REINSTATE":
            self.mode[target] = 0
        else:
            self.settings[f"{target} {kind}"] = json.dumps(action)
