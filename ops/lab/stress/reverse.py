"""Reverse stress: the smallest multiple of some moves that breaks a named limit, a loss, or the firm.

1. Directions: the scenario's moves as they stand and, with ``apart``, each of its prices alone, down and up.
2. Along each, multiples grow until it breaks: the coarse steps find the first interval in which it does, bisection the
   multiple in it, to ``RESOLUTION``. Prices fall to no less than 0, so a direction ends where the last price is gone.
3. The smallest is the direction whose greatest price move, where it breaks, is least.

Breaking need not be monotone in the multiple: what is returned breaks, and none of the coarse steps below it did.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from seawall.ops.lab.stress.play import LEVELS, Result, play
from seawall.ops.lab.stress.scenario import Scenario, Step
from seawall.ops.lab.stress.system import Stand
from seawall.schemas.errors import UsageError

COARSE: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
RESOLUTION: Final = 1e-4
FALL_MAX: Final = -0.999999


class Found(NamedTuple):
    """Where one direction breaks: its multiple (None: nowhere), the moves there, and what they come to."""

    direction: str
    multiple: float | None
    size: float
    price: dict[str, float]
    result: Result | None


def search(
    scenario: Scenario, terms: dict[str, Any], stand: Stand, seen: Callable[[], None] = lambda: None
) -> list[Found]:
    """Return where each direction breaks, the smallest first, those that do not last.

    Raises
    ------
    UsageError
        The limit does not exist, or what is to break is broken as it stands.
    """
    breaks = _breaker(terms, stand)
    if breaks(play(_scaled(scenario, {}, 0.0), stand)):
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
    scenario: Scenario, name: str, part: dict[str, float], breaks: Callable[[Result], bool], stand: Stand,
    seen: Callable[[], None],
) -> Found:  # fmt: skip
    low, high, at = 0.0, None, None
    for multiple in COARSE:
        result = play(_scaled(scenario, part, multiple), stand)
        seen()
        if breaks(result):
            high, at = multiple, result
            break
        low = multiple
    while high is not None and high - low > RESOLUTION:
        middle = (low + high) / 2
        result = play(_scaled(scenario, part, middle), stand)
        seen()
        if breaks(result):
            high, at = middle, result
        else:
            low = middle
    moves = _scaled(scenario, part, high or 0.0).steps[-1].price
    size = max((abs(move) for move in moves.values()), default=0.0)
    return Found(name, high, size, moves, at)


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


def _breaker(terms: dict[str, Any], stand: Stand) -> Callable[[Result], bool]:
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
