"""Plays scenarios on a stand, and says what they come to.

A scenario's records go through the sequencer's rules into slices and through risk, as live records do: revaluation,
limits, the playbook. Nobody obeys: what is told is the loss when every command is ignored, and which commands there
would be. Loss is what the firm's profit falls by, what clients come to owe beyond all that they have, and what failed
counterparties owed us; each beyond what it was before.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson

from seawall.operators.core.firm import KEY
from seawall.operators.core.frames import Audited
from seawall.ops.lab.stress.records import records_of, untouched
from seawall.ops.lab.stress.scenario import Scenario
from seawall.ops.lab.stress.system import Stand, System
from seawall.schemas.measures import ACCOUNT

Json = dict[str, Any]
EQUITY = ACCOUNT.index("equity")
LEVELS = ("none", "warning", "soft", "hard")
SHOWN_MAX = 20


class Result(NamedTuple):
    """What one scenario came to; amounts in the reporting currency, each beyond what stood before.

    Attributes
    ----------
    loss
        ``pnl_loss + shortfall + failed``.
    breaches
        Limit and scope -> the highest level reached that it did not stand at before.
    commands
        Kind and target -> how many.
    accounts
        The accounts that lost most of their equity: name -> change.
    untouched
        Names of the scenario that nothing in the book has.
    journal
        The slices, in order: what replays the scenario.
    """

    id: str
    label: str
    loss: float
    pnl_loss: float
    shortfall: float
    failed: float
    breaches: dict[str, str]
    commands: dict[str, int]
    alerts: dict[str, int]
    accounts: dict[str, float]
    counterparties: dict[str, float]
    rejected: int
    untouched: list[str]
    journal: list[bytes]

    def figures(self) -> dict[str, float]:
        """Return the figures that gates may name."""
        counts = {f"breaches_{level}": 0 for level in LEVELS[1:]}
        for level in self.breaches.values():
            counts[f"breaches_{level}"] += 1
        named = {name: getattr(self, name) for name in ("loss", "pnl_loss", "shortfall", "failed")}
        commands = {"commands": sum(self.commands.values()), "rejected": self.rejected}
        return {**named, **counts, **commands}

    def as_dict(self) -> Json:
        """Return the result as plain values, without its slices."""
        values = self._asdict()
        del values["journal"]
        return {**values, "figures": self.figures()}


class _Book(NamedTuple):
    """What a system's last frames say."""

    pnl: float
    equity: dict[str, float]
    exposure: dict[str, float]
    clients: frozenset[str]

    @property
    def shortfall(self) -> float:
        return sum(max(-self.equity[name], 0.0) for name in sorted(self.clients))


def play(scenario: Scenario, stand: Stand) -> Result:
    """Return what a scenario comes to."""
    slicing, system = stand.begin()
    before, heard, journal, rejected = _book(system), _Heard(), list[bytes](), 0
    for record in records_of(scenario, stand):
        cut = slicing.step(record)
        journal += _through(system, cut.slices, heard)
        rejected += len(cut.rejects)
    cut = slicing.finish()
    journal += _through(system, cut.slices, heard)
    after = _book(system)
    failed = {name for step in scenario.steps for name in step.failed}
    lost = sum(max(after.exposure.get(name, 0.0), 0.0) for name in sorted(failed))
    pnl_loss, shortfall = before.pnl - after.pnl, after.shortfall - before.shortfall
    return Result(
        scenario.id, scenario.label, pnl_loss + shortfall + lost, pnl_loss, shortfall, lost, heard.breaches,
        heard.commands, heard.alerts, _most(after.equity, before.equity), _most(before.exposure, after.exposure),
        rejected + len(cut.rejects), untouched(scenario, stand), journal,
    )  # fmt: skip


def play_all(scenarios: Iterable[Scenario], stand: Stand, seen: Callable[[], None] = lambda: None) -> list[Result]:
    """Return what scenarios come to, each on the stand as it was; ``seen`` is called after each."""
    found = []
    for scenario in scenarios:
        found.append(play(scenario, stand))
        seen()
    return found


class _Heard:
    """What was decided: breaches, commands and alerts."""

    def __init__(self) -> None:
        self.breaches: dict[str, str] = {}
        self.commands: dict[str, int] = {}
        self.alerts: dict[str, int] = {}

    def hear(self, audited: Audited) -> None:
        for stored in audited.records.get("breaches", ()):
            breach = orjson.loads(stored.value)
            if LEVELS.index(breach["level"]) > LEVELS.index(breach["previous_level"]):
                key = f"{breach['limit']} {breach['scope']}"
                stood = self.breaches.get(key, "none")
                self.breaches[key] = max(stood, breach["level"], key=LEVELS.index)
        for stored in audited.records.get("commands", ()):
            command = orjson.loads(stored.value)
            key = f"{command['type']} {command['target']['scope']}:{command['target']['id']}"
            self.commands[key] = self.commands.get(key, 0) + 1
        for stored in audited.records.get("alerts", ()):
            kind = orjson.loads(stored.value)["kind"]
            self.alerts[kind] = self.alerts.get(kind, 0) + 1


def _through(system: System, slices: list[tuple[int, bytes]], heard: _Heard) -> list[bytes]:
    for _, value in slices:
        for audited in system.step(value):
            heard.hear(audited)
    return [value for _, value in slices]


def _book(system: System) -> _Book:
    equity: dict[str, float] = {}
    exposure: dict[str, float] = {}
    clients: set[str] = set()
    for state in system.exposure:
        ledger = state.ledger
        assert ledger is not None
        records = ledger.directory.account_records
        clients.update(one.account for one in records if one.holder == "counterparty")
    for key, frame in system.frames.items():
        if key != KEY and "account" in frame.tables:
            names, _, values = frame.tables["account"]
            equity |= dict(zip(names, values[EQUITY].tolist(), strict=False))
            names, measures, values = frame.tables["counterparty"]
            row = values[measures.index("current_exposure")].tolist()
            exposure |= dict(zip(names, row, strict=False))
    firm = system.frames[KEY].tables["firm"] if KEY in system.frames else None
    pnl = 0.0 if firm is None else float(firm.values[firm.measures.index("pnl"), 0])
    return _Book(pnl, equity, exposure, frozenset(clients & equity.keys()))


def _most(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """Return the changes that fell most, the worst first."""
    change = {name: value - before.get(name, 0.0) for name, value in after.items()}
    worst = sorted((value, name) for name, value in change.items() if value < 0)[:SHOWN_MAX]
    return {name: value for value, name in worst}
