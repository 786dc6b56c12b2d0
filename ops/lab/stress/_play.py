"""Stress test, ``seawall stress``: scenarios, or a search for the smallest that breaks something, on a run's own book.

A scenario's records go through the sequencer's rules into slices and through risk, as live records do: revaluation,
limits, the playbook. Nobody obeys: the loss is that of ignoring every command, and the commands are listed. Loss is
what the firm's profit falls by, what clients come to owe beyond all that they have, and what failed counterparties owed
us; each beyond what it was before. Answers are kept by the hash of all that shapes them.

Reverse stress finds the smallest multiple of some moves that breaks a named limit, a loss, or the firm:

1. Directions: the scenario's moves unchanged and, with ``apart``, each of its prices alone, down and up.
2. Along each, multiples grow until it breaks: the coarse steps find the first interval in which it does, bisection the
   multiple in it, to ``RESOLUTION``. Prices fall to no less than 0, so a direction ends where the last price is gone.
3. The smallest is the direction whose greatest price move, where it breaks, is least.

Breaking need not be monotone in the multiple: the answer breaks, and none of the coarse steps below it did.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table as View

from seawall.connectors.bus import Bus
from seawall.operators.core.base import Outputs
from seawall.operators.core.portfolio import FIRM_KEY
from seawall.ops.arguments import show_progress
from seawall.ops.lab.backtest import Cache
from seawall.ops.lab.stress._scenario import Scenario, Step, StressPlan
from seawall.ops.lab.stress._system import System, SystemSnapshot, scenario_records, snapshot_system, untouched
from seawall.schemas.configuration import Configuration, journaled_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import ACCOUNT

# Plays scenarios on a stand, and says what they come to.
#
# A scenario's records go through the sequencer's rules into slices and through risk, as live records do: revaluation,
# limits, the playbook. Nobody obeys: what is told is the loss when every command is ignored, and which commands there
# would be. Loss is what the firm's profit falls by, what clients come to owe beyond all that they have, and what failed
# counterparties owed us; each beyond what it was before.

Json = dict[str, Any]
EQUITY = ACCOUNT.index("equity")
LEVELS = ("none", "warning", "soft", "hard")
SHOWN_MAX = 20


class ScenarioResult(NamedTuple):
    """Result of one scenario; amounts in the reporting currency, each beyond the amount before.

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
    """Books of a system by its last measures."""

    pnl: float
    equity: dict[str, float]
    exposure: dict[str, float]
    clients: frozenset[str]

    @property
    def shortfall(self) -> float:
        return sum(max(-self.equity[name], 0.0) for name in sorted(self.clients))


def play_scenario(scenario: Scenario, stand: SystemSnapshot) -> ScenarioResult:
    """Return what a scenario comes to."""
    slicing, system = stand.begin()
    before, decisions, journal, rejected = _book(system), _Decisions(), list[bytes](), 0
    for record in scenario_records(scenario, stand):
        cut = slicing.step(record)
        journal += _through(system, cut.slices, decisions)
        rejected += len(cut.rejects)
    cut = slicing.finish()
    journal += _through(system, cut.slices, decisions)
    after = _book(system)
    failed = {name for step in scenario.steps for name in step.failed}
    lost = sum(max(after.exposure.get(name, 0.0), 0.0) for name in sorted(failed))
    pnl_loss, shortfall = before.pnl - after.pnl, after.shortfall - before.shortfall
    return ScenarioResult(
        scenario.id, scenario.label, pnl_loss + shortfall + lost, pnl_loss, shortfall, lost,
        decisions.breaches, decisions.commands, decisions.alerts,
        _most(after.equity, before.equity), _most(before.exposure, after.exposure),
        rejected + len(cut.rejects), untouched(scenario, stand), journal,
    )  # fmt: skip


def play_scenarios(
    scenarios: Iterable[Scenario], stand: SystemSnapshot, seen: Callable[[], None] = lambda: None
) -> list[ScenarioResult]:
    """Return what scenarios come to, each on the stand as it was; ``seen`` is called after each."""
    found = []
    for scenario in scenarios:
        found.append(play_scenario(scenario, stand))
        seen()
    return found


class _Decisions:
    """Decisions: breaches, commands and alerts."""

    def __init__(self) -> None:
        self.breaches: dict[str, str] = {}
        self.commands: dict[str, int] = {}
        self.alerts: dict[str, int] = {}

    def hear(self, audited: Outputs) -> None:
        for stored in audited.records.get("breaches", ()):
            breach = orjson.loads(stored.value)
            if LEVELS.index(breach["level"]) > LEVELS.index(breach["previous_level"]):
                key = f"{breach['limit']} {breach['scope']}"
                level_before = self.breaches.get(key, "none")
                self.breaches[key] = max(level_before, breach["level"], key=LEVELS.index)
        for stored in audited.records.get("commands", ()):
            command = orjson.loads(stored.value)
            key = f"{command['type']} {command['target']['scope']}:{command['target']['id']}"
            self.commands[key] = self.commands.get(key, 0) + 1
        for stored in audited.records.get("alerts", ()):
            kind = orjson.loads(stored.value)["kind"]
            self.alerts[kind] = self.alerts.get(kind, 0) + 1


def _through(system: System, slices: list[tuple[int, bytes]], decisions: _Decisions) -> list[bytes]:
    for _, value in slices:
        for audited in system.step(value):
            decisions.hear(audited)
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
    measured = system.measured
    for key, one in measured.items():
        tables = one.measures.tables
        if key != FIRM_KEY and "account" in tables:
            names, _, values = tables["account"]
            equity |= dict(zip(names, values[EQUITY].tolist(), strict=False))
            names, measures, values = tables["counterparty"]
            row = values[measures.index("current_exposure")].tolist()
            exposure |= dict(zip(names, row, strict=False))
    firm = measured[FIRM_KEY].measures.tables["firm"] if FIRM_KEY in measured else None
    pnl = 0.0 if firm is None else float(firm.values[firm.measures.index("pnl"), 0])
    return _Book(pnl, equity, exposure, frozenset(clients & equity.keys()))


def _most(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """Return the changes that fell most, the worst first."""
    change = {name: value - before.get(name, 0.0) for name, value in after.items()}
    worst = sorted((value, name) for name, value in change.items() if value < 0)[:SHOWN_MAX]
    return {name: value for value, name in worst}


# Reverse stress: the smallest multiple of some moves that breaks a named limit, a loss, or the firm.
#
# 1. Directions: the scenario's moves as they stand and, with ``apart``, each of its prices alone, down and up.
# 2. Along each, multiples grow until it breaks: the coarse steps find the first interval in which it does, bisection
#    the multiple in it, to ``RESOLUTION``. Prices fall to no less than 0, so a direction ends where the last price is
#    gone.
# 3. The smallest is the direction whose greatest price move, where it breaks, is least.
#
# Breaking need not be monotone in the multiple: what is returned breaks, and none of the coarse steps below it did.

COARSE: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
RESOLUTION: Final = 1e-4
FALL_MAX: Final = -0.999999


class BreakingPoint(NamedTuple):
    """Breaking point of one direction: its multiple (None: nowhere), the moves there, and their result."""

    direction: str
    multiple: float | None
    size: float
    price: dict[str, float]
    result: ScenarioResult | None


def search_breaking_point(
    scenario: Scenario, terms: dict[str, Any], stand: SystemSnapshot, seen: Callable[[], None] = lambda: None
) -> list[BreakingPoint]:
    """Return where each direction breaks, the smallest first, those that do not last.

    Raises
    ------
    UsageError
        The limit does not exist, or what is to break is broken as it stands.
    """
    breaks = _breaker(terms, stand)
    if breaks(play_scenario(_scaled(scenario, {}, 0.0), stand)):
        raise UsageError("what is to break breaks without any move; look at: seawall exposures")
    found = [_along(scenario, name, part, breaks, stand, seen) for name, part in directions(scenario, terms["apart"])]
    return sorted(found, key=lambda one: (one.multiple is None, one.size, one.direction))


def directions(scenario: Scenario, apart: bool) -> list[tuple[str, dict[str, float]]]:
    """Return names and factors by price: what each price's moves are multiplied with, 0 for those left out."""
    names = sorted({name for step in scenario.steps for name in step.price})
    together = dict.fromkeys(names, 1.0)
    found = [("together", together)]
    if apart:
        for name in names:
            found += [(f"{name} {sign}", {name: factor}) for sign, factor in (("as given", 1.0), ("turned", -1.0))]
    return found


def _along(
    scenario: Scenario,
    name: str,
    part: dict[str, float],
    breaks: Callable[[ScenarioResult], bool],
    stand: SystemSnapshot,
    seen: Callable[[], None],
) -> BreakingPoint:
    low, high, at = 0.0, None, None
    for multiple in COARSE:
        result = play_scenario(_scaled(scenario, part, multiple), stand)
        seen()
        if breaks(result):
            high, at = multiple, result
            break
        low = multiple
    while high is not None and high - low > RESOLUTION:
        middle = (low + high) / 2
        result = play_scenario(_scaled(scenario, part, middle), stand)
        seen()
        if breaks(result):
            high, at = middle, result
        else:
            low = middle
    moves = _scaled(scenario, part, high or 0.0).steps[-1].price
    size = max((abs(move) for move in moves.values()), default=0.0)
    return BreakingPoint(name, high, size, moves, at)


def _scaled(scenario: Scenario, part: dict[str, float], multiple: float) -> Scenario:
    """Return a scenario with its prices multiplied; with nothing left of it, nothing else happens either."""
    steps = []
    for step in scenario.steps:
        price = {name: _moved(move * part.get(name, 0.0) * multiple) for name, move in step.price.items()}
        calm = Step(step.at_us, price, {}, {}, {}, {}, {}, [], [])
        steps.append(step._replace(price=price) if multiple else calm)
    return scenario._replace(steps=steps)


def _moved(move: float) -> float:
    return max(move, FALL_MAX)


def _breaker(terms: dict[str, Any], stand: SystemSnapshot) -> Callable[[ScenarioResult], bool]:
    if terms["firm"]:
        return lambda result: result.loss >= terms["own_funds"]
    if terms["loss"]:
        return lambda result: result.loss >= terms["loss"]
    limit, level = terms["limit"], LEVELS.index(terms["level"])
    if limit not in stand.limits:
        raise UsageError(f"reverse: there is no limit {limit!r} in this run; choose from {', '.join(stand.limits)}")
    return lambda result: any(
        key.split(" ")[0] == limit and LEVELS.index(reached) >= level for key, reached in result.breaches.items()
    )


# ``seawall stress``: a file of scenarios on a run, kept by the hash of all that shapes the answer.

SHOWN = 6
BISECTIONS = 10  # of a direction, about; only the bar rests on it


def stress(plan: StressPlan, configuration: Configuration, bus: Bus, cache: Cache, journal: Path | None = None) -> Json:
    """Return what scenarios come to, as plain values; with ``journal``, leave there what replays the first one.

    An answer is kept by the hash of the plan, the configuration in force and the journal's bytes.
    """
    key = _key(plan, configuration, bus)
    if journal is None and cache.path(key, ".json").exists():
        return {**json.loads(cache.path(key, ".json").read_bytes()), "cached": True}
    with show_progress("replaying the journal", _slices(bus, configuration.shards)) as seen:
        base = snapshot_system(configuration, bus, seen)
    answer = _searched(plan, base) if plan.reverse else _played(plan, base, journal)
    cache.make(key, ".json", lambda path: _write(path, json.dumps(answer).encode()))
    return {**answer, "cached": False}


def _played(plan: StressPlan, base: SystemSnapshot, journal: Path | None) -> Json:
    with show_progress("scenarios", len(plan.scenarios)) as seen:
        results = play_scenarios(plan.scenarios, base, seen)
    if journal is not None:
        _write_journal(journal, base, results[0])
    worst = max(results, key=lambda one: one.loss)
    head: Json = {"as_of_us": base.as_of_us, "journal_sha256": base.digest, "worst": _name(worst.as_dict())}
    return {**head, "figures": worst.figures(), "scenarios": [one.as_dict() for one in results]}


def _searched(plan: StressPlan, base: SystemSnapshot) -> Json:
    scenario = plan.scenarios[0]
    parts = directions(scenario, plan.reverse["apart"])
    with show_progress("searching", len(parts) * (len(COARSE) // 2 + BISECTIONS)) as seen:
        found = search_breaking_point(scenario, plan.reverse, base, seen)
    first = found[0]
    figures = {"smallest_move": first.size if first.multiple is not None else None}
    head: Json = {"as_of_us": base.as_of_us, "journal_sha256": base.digest, "reverse": plan.reverse}
    return {**head, "figures": figures, "directions": [_direction(one) for one in found]}


def _direction(one: BreakingPoint) -> Json:
    values = {"direction": one.direction, "multiple": one.multiple, "smallest_move": one.size, "price": one.price}
    return {**values, "result": None if one.result is None else one.result.as_dict()}


def _key(plan: StressPlan, configuration: Configuration, bus: Bus) -> str:
    found = hashlib.sha256(Cache.key(["stress", plan, journaled_configuration(configuration, None)]).encode())
    for shard in range(configuration.shards):
        offset = 0
        while stored := bus.read("journal", shard, offset):
            for one in stored:
                found.update(hashlib.sha256(one.value).digest())
            offset = stored[-1].offset + 1
    return found.hexdigest()


def _slices(bus: Bus, shards: int) -> int:
    return sum(bus.end("journal", shard) for shard in range(shards))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_journal(folder: Path, base: SystemSnapshot, result: ScenarioResult) -> None:
    """Leave a scenario's slices as JSON lines, in the order in which risk takes them after the run's journal."""
    if (folder / "journal.jsonl").exists():
        raise UsageError(f"{folder / 'journal.jsonl'} exists; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.jsonl").write_bytes(b"".join(value + b"\n" for value in result.journal))
    head = {"after": base.digest, "as_of_us": base.as_of_us, **result.as_dict()}
    (folder / "result.json").write_text(json.dumps(head, indent=1) + "\n")


# --- forms ------------------------------------------------------------------------------------------------------------


def print_answer(answer: Json, console: Console | None = None) -> None:
    """Print a table of scenarios, or of directions, and what the worst of them does."""
    console = console or Console()
    if "directions" in answer:
        _print_directions(answer["directions"], console)
        return
    view = View()
    for name in ("scenario", "loss", "of P&L", "shortfall", "failed", "breaches", "commands"):
        view.add_column(name, justify="left" if name == "scenario" else "right")
    for one in answer["scenarios"]:
        money = (f"{one[name]:,.0f}" for name in ("loss", "pnl_loss", "shortfall", "failed"))
        figures = one["figures"]
        breaches = "/".join(str(figures[f"breaches_{level}"]) for level in ("warning", "soft", "hard"))
        view.add_row(_name(one), *money, breaches, str(figures["commands"]))
    console.print(view)
    worst = max(answer["scenarios"], key=lambda one: float(one["loss"]))
    if len(answer["scenarios"]) > 1:
        console.print(f"the worst is {_name(worst)}")
    for title, values in (("accounts that lose most", worst["accounts"]), ("breaches", worst["breaches"])):
        if values:
            shown = [
                f"{name} {value if isinstance(value, str) else format(value, ',.0f')}" for name, value in values.items()
            ]
            console.print(f"{title}: {', '.join(shown[:SHOWN])}{', …' if len(shown) > SHOWN else ''}")
    if worst["untouched"]:
        console.print(f"nothing here has: {', '.join(worst['untouched'])}")


def _name(one: Json) -> str:
    return f"{one['id']}: {one['label']}" if one["label"] else str(one["id"])


def _print_directions(found: list[Json], console: Console) -> None:
    view = View()
    for name in ("direction", "breaks at", "prices there", "loss there"):
        view.add_column(name, justify="left" if name in ("direction", "prices there") else "right")
    for one in found:
        if one["multiple"] is None:
            view.add_row(one["direction"], "nowhere", "", "")
            continue
        prices = ", ".join(f"{name} {move:+.2%}" for name, move in one["price"].items() if move)
        view.add_row(one["direction"], f"{one['smallest_move']:.2%}", prices, f"{one['result']['loss']:,.0f}")
    console.print(view)
