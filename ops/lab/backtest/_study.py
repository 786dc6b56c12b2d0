"""Study: the parameters and their values, the walk-forward splits of the history, and the cost to be made small.

```toml
plan = "may-2021.toml"            # history, book, reactions: as for a backtest
blocks = 6                        # the period is cut into so many; the first ones train, the next one tests
embargo_s = 3600                  # left out between what trains and what tests
candidates_max = 24               # of all combinations so many are tried, drawn by ``seed``; the values in force always
seed = 1

[[parameter]]
name = "limits.client-margin.hard"            # also limits.ID.scaling.volatility_power, playbook.RULE.COMMAND.FIELD,
values = [0.7, 0.8, 0.9]                      # playbook.RULE.FIELD, market.alert_score

[objective]                       # cost = loss + close_out * notional closed out + command * commands
close_out = 0.005
command = 10
missed = 10                       # of a detector: cost = missed * moves not told of + false * false alerts
false = 1
```

Fold k fits on blocks 0 … k and is judged on block k + 1, whose first ``embargo`` is left out: a position or a score at
the end of training would otherwise be worth in both. Blocks are played on their own, each with a new book, so nothing
else runs from one into the next.
"""

import copy
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec

from seawall.ops.lab.backtest._plan import BacktestPlan, load_backtest_plan
from seawall.schemas.configuration import Configuration, read_toml
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import check_limits
from seawall.schemas.tables import Integer, Table, between, check_table, nearest, ruled

# Walk-forward splits: what is judged always lies after what was fitted, with an embargo between the two.


class Block(NamedTuple):
    """A stretch of time, the end exclusive."""

    first_us: int
    last_us: int


class Fold(NamedTuple):
    """The blocks that train, and the one that tests, by number."""

    train: tuple[int, ...]
    test: int


def blocks(first_us: int, last_us: int, count: int, embargo_us: int) -> list[Block]:
    """Return the blocks of a period, each purged of the embargo at its beginning, except the first.

    Raises
    ------
    ValueError
        The embargo leaves nothing of a block.

    Examples
    --------
    >>> blocks(0, 100, 4, 5)[1]
    Block(first_us=30, last_us=50)
    """
    edges = [first_us + (last_us - first_us) * at // count for at in range(count + 1)]
    found = [Block(edges[at] + (embargo_us if at else 0), edges[at + 1]) for at in range(count)]
    if any(block.first_us >= block.last_us for block in found):
        raise ValueError("the embargo is longer than a block; take fewer blocks or a shorter embargo")
    return found


def folds(count: int) -> list[Fold]:
    """Return the folds: training grows, testing moves on.

    Examples
    --------
    >>> folds(3)
    [Fold(train=(0,), test=1), Fold(train=(0, 1), test=2)]
    """
    return [Fold(tuple(range(at)), at) for at in range(1, count)]


class JudgedFold(NamedTuple):
    """One fold: which candidate training chose, and what it and the values in force cost per block."""

    fold: Fold
    chosen: int
    train: float
    train_default: float
    test: float
    test_default: float
    test_rank: int


def walk_forward(costs: Sequence[Sequence[float]]) -> list[JudgedFold]:
    """Return every fold of a study.

    Parameters
    ----------
    costs
        By candidate and block; candidate 0 is what is in force.
    """
    found = []
    for fold in folds(len(costs[0])):
        trained = [sum(row[at] for at in fold.train) / len(fold.train) for row in costs]
        chosen = cheapest_candidate(trained)
        tested = [row[fold.test] for row in costs]
        rank = 1 + sum(value < tested[chosen] for value in tested)
        found.append(JudgedFold(fold, chosen, trained[chosen], trained[0], tested[chosen], tested[0], rank))
    return found


def cheapest_candidate(costs: Sequence[float]) -> int:
    """Return the cheapest candidate, the first among equals: what is in force stays unless something is better."""
    return min(range(len(costs)), key=lambda at: (costs[at], at))


# A study: which parameters may take which values, how history is split, and what is to be small.

Json = dict[str, Any]
ALERT_SCORE = "market.alert_score"
_Cost: TypeAlias = Annotated[float, between(0, 1e12)]


class ParameterTable(Table, frozen=True):
    """A ``[[parameter]]``: a place in the configuration, and the values to try."""

    name: str
    values: Annotated[tuple[float, ...], ruled("must be a list of numbers", min_length=1)]


class ObjectiveTable(Table, frozen=True):
    """``[objective]``: what each thing costs."""

    close_out: _Cost = 0.005
    command: _Cost = 10
    missed: _Cost = 10
    false: _Cost = 1


class StudyFile(Table, frozen=True):
    """A study as its file has it."""

    plan: str
    parameter: tuple[ParameterTable, ...]
    blocks: Annotated[int, between(3, 1_000)] = 6
    embargo_s: Annotated[int, between(0, 86_400 * 31)] = 3600
    candidates_max: Annotated[int, between(2, 10_000)] = 24
    seed: Integer = 1
    objective: ObjectiveTable = ObjectiveTable()

    def __post_init__(self) -> None:
        if not self.parameter:
            raise ValueError("a study needs a [[parameter]]; add one")


class Parameter(NamedTuple):
    """A place in the configuration, and the values to try."""

    name: str
    values: tuple[float, ...]


class Study(NamedTuple):
    """A checked study."""

    path: Path
    plan: BacktestPlan
    blocks: int
    embargo_us: int
    candidates_max: int
    seed: int
    parameters: tuple[Parameter, ...]
    objective: dict[str, float]


def load_study(path: Path) -> Study:
    """Read and check a study.

    Raises
    ------
    UsageError
        Naming the file, what is wrong there, and the nearest valid name.
    """
    top = check_table(read_toml(path), StudyFile, path.name)
    plan = load_backtest_plan(path.parent / top["plan"])
    parameters = [Parameter(one["name"], tuple(one["values"])) for one in top["parameter"]]
    for parameter in parameters:
        for value in parameter.values:
            apply_values(plan.configuration, {parameter.name: value})
    return Study(
        path, plan, top["blocks"], top["embargo_s"] * 1_000_000, top["candidates_max"], top["seed"],
        tuple(parameters), top["objective"],
    )  # fmt: skip


def candidates(study: Study, parameters: tuple[Parameter, ...]) -> list[dict[str, float]]:
    """Return the combinations to try; the values in force first, then others, drawn where there are too many."""
    base = {one.name: current_value(study.plan.configuration, one.name) for one in parameters}
    grid = [
        dict(zip(base, values, strict=True))
        for values in itertools.product(*(dict.fromkeys((base[one.name], *one.values)) for one in parameters))
    ]
    others = [found for found in grid if found != base]
    if len(others) >= study.candidates_max:
        others = random.Random(study.seed).sample(others, study.candidates_max - 1)
    return [base, *others]


def current_value(configuration: Configuration, name: str) -> float:
    """Return the value that a parameter has in a configuration."""
    holder, field = _place(_content(configuration), name)
    return float(holder[field])


def apply_values(configuration: Configuration, values: dict[str, float]) -> Configuration:
    """Return a configuration with some parameters changed; limits are checked again.

    Raises
    ------
    UsageError
        There is no such parameter, or the value breaks a rule.
    """
    content = _content(configuration)
    for name, value in values.items():
        holder, field = _place(content, name)
        holder[field] = type(holder[field])(value) if isinstance(holder[field], int) and value == int(value) else value
    limits = check_limits(list(content["limits"].values()), "calibration: limits")
    market = msgspec.convert(content["market"], type(configuration.market))
    return msgspec.structs.replace(
        configuration, limits=limits, playbook=list(content["playbook"].values()), market=market
    )


def _content(configuration: Configuration) -> Json:
    return {
        "limits": {limit["id"]: limit for limit in copy.deepcopy(configuration.limits)},
        "playbook": {rule["id"]: rule for rule in copy.deepcopy(configuration.playbook)},
        "market": msgspec.to_builtins(configuration.market),
    }


def _place(content: Json, name: str) -> tuple[Json, str]:
    """Return the table and the field that a name means."""
    section, _, rest = name.partition(".")
    if section not in content:
        raise UsageError(f"{name}: parameters are limits.ID.FIELD, playbook.RULE.FIELD or market.FIELD")
    if section == "market" and name != ALERT_SCORE:
        raise UsageError(f"{name}: of the market's terms only alert_score can be calibrated")
    holder: Json = content[section]
    parts = rest.split(".")
    for part in parts[:-1]:
        holder = _inside(holder, part, name)
    field = parts[-1]
    if not isinstance(holder.get(field), int | float):
        numbers = [key for key, value in holder.items() if isinstance(value, int | float)]
        raise UsageError(f"{name}: there is no number {field!r}; did you mean {nearest(field, numbers)!r}?")
    return holder, field


def _inside(holder: Json, part: str, name: str) -> Json:
    """Return the table named ``part``: a key, or a command of a rule by its kind."""
    found = holder.get(part)
    if isinstance(found, dict):
        return found
    for command in holder.get("commands", ()):
        if command.get("kind") == part:
            inside: Json = command
            return inside
    raise UsageError(f"{name}: there is no {part!r}; did you mean {nearest(part, holder)!r}?")
