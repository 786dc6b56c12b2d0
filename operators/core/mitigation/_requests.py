"""Computation requests: input and result of a computed command, and helpers that computations share."""

import math
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_UP, Decimal
from typing import Any, NamedTuple

from seawall.operators.core.base import Measures
from seawall.operators.core.mitigation._triggers import CommandCandidate

CHANGE_LIMIT_FAULT = "the limit is on a change over time, which says nothing of how much may stand"
PRICE_PLACES = Decimal(1).scaleb(-8)
ROUNDING_NOISE = 1e-10  # of a size
Limits = dict[str, dict[str, Any]]


class ComputationResult(NamedTuple):
    """Result of a computation; ``fault`` says why there is none, ``ours`` that it trades in our own books."""

    action: dict[str, str]
    plan: dict[str, str]
    size: float
    fault: str = ""
    ours: bool = False


class ComputationRequest(NamedTuple):
    """Inputs of a computation.

    The command, whom for, the measures, the limits in force, venues that may not be relied on with their states, the
    reporting currency, and since when a mark is fresh.
    """

    command: dict[str, Any]
    candidate: CommandCandidate
    measures: Measures
    limits: Limits
    ill: dict[str, str]
    currency: str
    fresh_us: int


def no_action(why: str) -> ComputationResult:
    """Return that there is nothing to do, and why."""
    return ComputationResult({}, {}, 0.0, why)


def rounding_noise(increments: float) -> float:
    """Return what doubles may lose of a size, which must not move it by an increment: never half of one."""
    return min(increments * ROUNDING_NOISE, 0.5)


def amount_to_cent(value: float) -> str:
    """Return an amount to the cent, upwards in exact decimals; less than a millionth above a cent is that cent.

    Examples
    --------
    >>> amount_to_cent(13.3333), amount_to_cent(1.1), amount_to_cent(0.1 + 0.2)
    ('13.34', '1.10', '0.30')
    """
    cents = int((Decimal(repr(round(value, 6))) * 100).to_integral_value(ROUND_CEILING))
    return f"{cents // 100}.{cents % 100:02d}"


def worst_price(price: float, sells: bool, bound: float) -> str:
    """Return the worst price at which something may trade, rounded towards the price that it is off.

    Examples
    --------
    >>> worst_price(100.0, True, 0.02), worst_price(0.5, False, 0.02)
    ('98', '0.51')
    """
    part = 1 - Decimal(repr(bound)) if sells else 1 + Decimal(repr(bound))
    worst = Decimal(repr(price)) * part
    exact = worst.as_tuple().exponent
    if isinstance(exact, int) and exact < -8:
        worst = worst.quantize(PRICE_PLACES, rounding=ROUND_UP if sells else ROUND_DOWN)
    return format(worst.normalize(), "f")


def is_change_limit(breach: dict[str, Any], limits: Limits) -> bool:
    """Tell whether a limit that broke is on a change over time: its bound is no level to come back to."""
    return "window_s" in limits.get(breach["limit"], {})


def current_breach(breach: dict[str, Any], measures: Measures) -> dict[str, Any]:
    """Return a breach with the value that its measure has now: a rule may fire long after its limit broke."""
    kind, _, name = breach["scope"].partition(":")
    table = measures.tables.get(kind)
    if table is None or breach["measure"] not in table.measures or (name or kind) not in table.names:
        return breach
    value = table.values.item(table.measures.index(breach["measure"]), table.names.index(name or kind))
    return {**breach, "value": value}


def tightest_bound(kind: str, name: str, measure: str, limits: Limits) -> float:
    """Return the tightest soft bound (hard, where there is none) on a measure of a scope; infinity without any.

    A limit on a change over ``window_s`` bounds no level.
    """
    scopes = (f"{kind}:{name}", f"{kind}:*")
    bounds: list[float] = [
        float(limit["soft"] if "soft" in limit else limit.get("hard", math.inf))
        for limit in limits.values()
        if limit["scope"] in scopes and limit["measure"] == measure and limit.get("direction", "above") == "above"
        if "window_s" not in limit
    ]
    return min(bounds, default=math.inf)
