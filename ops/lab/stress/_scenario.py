"""Recorded prices as a path: the change since the first row, at the seconds since then."""

import csv
import gzip
import itertools
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import UNSET, UnsetType, field

from seawall.schemas.configuration import read_toml
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import Level
from seawall.schemas.tables import Integer, Table, between, check_table, nearest, text_like

TIMES = {"open_time_ms": 1_000, "time_ms": 1_000, "time_us": 1_000_000, "time": 1, "timestamp": 1}


def read_path(path: Path, from_ms: int, to_ms: int) -> list[tuple[float, float]]:
    """Return (seconds, change) of the rows of a CSV whose time lies in [from_ms, to_ms); 0: without a bound.

    Raises
    ------
    UsageError
        The file cannot be read, has no column of times or ``close``, a row that is no number or not above 0, or fewer
        than two rows in the interval.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; name an existing file") from error
    column = next((name for name in TIMES if rows and name in rows[0]), "")
    if not column or "close" not in rows[0]:
        raise UsageError(f"{path.name}: needs a column close and one of {', '.join(TIMES)}")
    found = []
    for line, row in enumerate(rows, 2):
        try:
            at_s, price = float(row[column]) / TIMES[column], float(row["close"])
        except ValueError as error:
            raise UsageError(f"{path.name}, line {line}: {error}; give numbers") from error
        if price <= 0:
            raise UsageError(f"{path.name}, line {line}: close is {price}; it must be above 0")
        if from_ms <= at_s * 1_000 and (not to_ms or at_s * 1_000 < to_ms):
            found.append((at_s, price))
    if len(found) < 2:
        raise UsageError(f"{path.name}: {len(found)} rows in the interval; a path needs 2")
    start_s, base = found[0]
    return [(at_s - start_s, price / base - 1) for at_s, price in found[1:]]


# Scenarios: what happens, as a TOML file.
#
# ::
#
#     id = "carry-unwind"
#     text = "one line"
#     every_s = 60                       # marks between two steps; 0: only at the steps
#
#     [[step]]
#     at_s = 3600                        # after the run's last slice
#     price = { BTC = -0.5, "*" = -0.6 } # change since then, by instrument, underlying, asset or * (all but money)
#     volatility = { "*" = 2.0 }         # times what it was: of options' volatilities and of signals
#     depth = { "*" = 0.1 }              # times what it was
#     funding = { BTC = -0.003 }         # rate per 8 hours
#     haircut = { USDE = 0.35 }          # of collateral
#     venues = { binance = "withdrawals_blocked" }   # up | degraded | down | withdrawals_blocked
#     failed = ["some-counterparty"]     # a notice of insolvency; what it owes us is lost
#     stale = ["ETH-PERP"]               # no mark of it from here on (by instrument, underlying or asset)
#
#     [follow]                           # what no price names moves with the driver
#     driver = "BTC"
#     correlation = 0.9
#     ratio = { ETH = 1.3, "*" = 1.5 }   # its volatility over the driver's
#
#     [grid]                             # one scenario per combination; each replaces that value in every step
#     "price.BTC" = [-0.1, -0.3, -0.5]
#     "follow.correlation" = [0.5, 1.0]
#
#     [[path]]                           # closes of a CSV in the price's place: each row is a step
#     price = "BTC"
#     file = "btc.csv"                   # columns open_time_ms (or time) and close
#     from_ms = 1621382400000
#     to_ms = 1621468800000
#
#     [reverse]                          # the smallest multiple of the steps' moves that breaks something
#     limit = "client-margin"            # or loss = 5e6, or firm = true: the loss exceeds own funds
#     level = "hard"
#     own_funds = 20e6
#     apart = true                       # each price of the steps alone too
#
#     [[source]]                         # what the figures rest on
#     figure = "BTC 7,353 to 3,978 in 16 h"
#     by = "research.ledgerprime.com"

FOLDER: Final = Path(__file__).parent / "scenarios"
GRID_MAX: Final = 10_000


_Loss: TypeAlias = Annotated[float, between(0, 1e18)]
_Multiple: TypeAlias = Annotated[float, between(0.01, 100)]
State = Literal["up", "degraded", "down", "withdrawals_blocked"]
MOVES: Final = ("price", "volatility", "depth", "funding", "haircut", "venues")
"""Tables of a step, whose values a grid may replace."""


class StepTable(Table, frozen=True):
    """A ``[[step]]``: one moment, and what holds from then on."""

    at_s: Annotated[float, between(1, 1e7)] = 1.0
    price: dict[str, Annotated[float, between(-0.999999, 1e4)]] = field(default_factory=dict)
    volatility: dict[str, _Multiple] = field(default_factory=dict)
    depth: dict[str, Annotated[float, between(0.0001, 100)]] = field(default_factory=dict)
    funding: dict[str, Annotated[float, between(-1, 1)]] = field(default_factory=dict)
    haircut: dict[str, Annotated[float, between(0, 1)]] = field(default_factory=dict)
    venues: dict[str, State] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


class FollowTable(Table, frozen=True):
    """``[follow]``: how what no price names moves with the driver."""

    driver: str
    correlation: Annotated[float, between(-1, 1)] = 1.0
    ratio: dict[str, Annotated[float, between(0, 100)]] = field(default_factory=lambda: {"*": 1.0})


class PathTable(Table, frozen=True):
    """A ``[[path]]``: recorded closes in the price's place."""

    price: str
    file: str
    from_ms: Integer = 0
    to_ms: Integer = 0


class ReverseTable(Table, frozen=True):
    """``[reverse]``: what the smallest multiple of the moves is to break."""

    limit: str = ""
    level: Level = "hard"
    loss: _Loss = 0
    firm: bool = False
    own_funds: _Loss = 0
    apart: bool = True

    def __post_init__(self) -> None:
        if sum((bool(self.limit), self.loss > 0, self.firm)) != 1:
            raise ValueError("give one of limit, loss and firm")
        if self.firm and self.own_funds <= 0:
            raise ValueError("own_funds is missing; say what the firm can lose")


class SourceTable(Table, frozen=True):
    """A ``[[source]]``: what a figure rests on."""

    figure: str
    by: str


class ScenarioFile(Table, frozen=True):
    """A scenario as its file has it."""

    id: Annotated[str, text_like(r"[A-Za-z0-9._-]{0,64}")] = ""
    text: str = ""
    every_s: Annotated[float, between(0, 86_400)] = 0
    step: tuple[StepTable, ...] = ()
    follow: FollowTable | UnsetType = UNSET
    grid: dict[str, Any] = field(default_factory=dict)
    path: tuple[PathTable, ...] = ()
    reverse: ReverseTable | UnsetType = UNSET
    source: tuple[SourceTable, ...] = ()


class Step(NamedTuple):
    """One moment: microseconds after the run's last slice, and what holds from then on."""

    at_us: int
    price: dict[str, float]
    volatility: dict[str, float]
    depth: dict[str, float]
    funding: dict[str, float]
    haircut: dict[str, float]
    venues: dict[str, str]
    failed: list[str]
    stale: list[str]


class Scenario(NamedTuple):
    """One scenario, ready to be played; ``label`` tells the members of a grid apart."""

    id: str
    text: str
    label: str
    every_us: int
    steps: list[Step]
    follow: dict[str, Any]
    sources: list[dict[str, str]]


class StressPlan(NamedTuple):
    """Plan of a file: scenarios, and how to search for the smallest that breaks something (empty: not)."""

    scenarios: list[Scenario]
    reverse: dict[str, Any]


def built_in_scenarios() -> list[str]:
    """Return the names of the scenarios that come with Seawall."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_scenario(name: str) -> Path:
    """Return the file that a name of a scenario, or a path, means.

    Raises
    ------
    UsageError
        There is neither.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    if name not in built_in_scenarios():
        near = nearest(name, built_in_scenarios())
        raise UsageError(f"there is no scenario {name!r}; did you mean {near!r}? Or name a .toml file")
    return FOLDER / f"{name}.toml"


def load_stress_plan(path: Path) -> StressPlan:
    """Return what a scenario file asks for.

    Raises
    ------
    UsageError
        It cannot be read, or a key or value is not as it must be: named with the nearest that is.
    """
    given = read_toml(path)
    given = {name: value for name, value in given.items() if name not in ("follow", "reverse") or value != {}}
    top = check_table(given, ScenarioFile, path.name)
    top["id"] = top["id"] or path.stem
    raw, follow = top["step"], top.get("follow", {})
    for part in top["path"]:
        raw = _along(raw, part, path)
    if not raw:
        raise UsageError(f"{path.name}: nothing happens; add a [[step]] or a [[path]]")
    members = _members(raw, follow, top["grid"], path.name)
    scenarios = [_scenario(top, label, steps, then) for label, steps, then in members]
    reverse = top.get("reverse", {})
    if reverse and len(scenarios) > 1:
        raise UsageError(f"{path.name}: reverse: search along one scenario; leave out the grid")
    return StressPlan(scenarios, reverse)


def load_stress_plans(paths: list[Path]) -> StressPlan:
    """Return what several files ask for together; a search along moves stands alone.

    Raises
    ------
    UsageError
        As :func:`load_stress_plan`, or a search is one of several.
    """
    plans = [load_stress_plan(path) for path in paths]
    reverse = next((path.name for path, plan in zip(paths, plans, strict=True) if plan.reverse), "")
    if reverse and len(plans) > 1:
        raise UsageError(f"{reverse}: a reverse search stands alone; name no other scenario beside it")
    return StressPlan([one for plan in plans for one in plan.scenarios], plans[0].reverse)


def _scenario(top: dict[str, Any], label: str, steps: list[dict[str, Any]], follow: dict[str, Any]) -> Scenario:
    made = [Step(round(step["at_s"] * 1e6), *(step[name] for name in Step._fields[1:])) for step in steps]
    made.sort(key=lambda step: step.at_us)
    return Scenario(top["id"], top["text"], label, round(top["every_s"] * 1e6), made, follow, top["source"])


def _members(
    steps: list[dict[str, Any]], follow: dict[str, Any], grid: dict[str, Any], name: str
) -> list[tuple[str, list[dict[str, Any]], dict[str, Any]]]:
    """Return label, steps and followers of every combination of the grid."""
    axes = []
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UsageError(f"{name}: grid: {key} must be a list of values")
        axes.append([(key, value) for value in values])
    members = []
    for count, chosen in enumerate(itertools.product(*axes), 1):
        if count > GRID_MAX:
            raise UsageError(f"{name}: grid: more than {GRID_MAX} combinations; leave some values out")
        changed, then = [dict(step) for step in steps], dict(follow)
        for key, value in chosen:
            _set(changed, then, key, value, name)
        label = ", ".join(f"{key} {value}" for key, value in chosen)
        members.append((label, changed, then))
    return members


def _set(steps: list[dict[str, Any]], follow: dict[str, Any], key: str, value: Any, name: str) -> None:
    table, _, inner = key.partition(".")
    place = f"{name}: grid: {key}"
    if table == "follow" and follow:
        follow |= check_table({**follow, inner: value}, FollowTable, place)
        return
    if table not in MOVES or not inner:
        raise UsageError(f"{place}: name a table of the steps and a key in it, such as {nearest(table, MOVES)}.BTC")
    for step in steps:
        step[table] = check_table({table: {**step[table], inner: value}}, StepTable, place)[table]


def _along(steps: list[dict[str, Any]], path: dict[str, Any], file: Path) -> list[dict[str, Any]]:
    """Return the steps with those of a recorded path of prices among them; what held before goes on."""
    moments = {step["at_s"]: step for step in steps}
    for at_s, move in read_path(file.parent / path["file"], path["from_ms"], path["to_ms"]):
        step = moments.setdefault(at_s, check_table({"at_s": at_s}, StepTable, file.name))
        step["price"] = {**step["price"], path["price"]: move}
    return [moments[at_s] for at_s in sorted(moments)]
