"""What a backtest showed, in sentences for someone who was not there."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from seawall.ops.lab.report.figures import money

Json = dict[str, Any]
MEANS = {
    "CALL_MARGIN": "asked a client for more collateral",
    "CANCEL_ORDERS": "cancelled a client's working orders",
    "REDUCE_ONLY": "let a client only reduce its positions",
    "REDUCE_POSITION": "closed out part of a client's position, and our hedge of it",
    "HALT_TRADING": "stopped a client's trading",
    "BLOCK_COUNTERPARTY": "took no new business from a counterparty",
    "SUSPEND": "suspended trading",
    "REINSTATE": "let trading go on",
    "RECALL_COLLATERAL": "called collateral back",
    "WITHDRAW_FUNDS": "took our money out of a venue",
    "REROUTE": "sent orders to other venues",
    "HEDGE": "hedged an exposure",
    "SET_LIMIT": "changed a limit",
    "SET_HAIRCUT": "changed a haircut",
    "SWITCH_STRATEGY_PROFILE": "changed how a strategy trades",
    "ENTER_DEGRADED_MODE": "went into a degraded mode",
}


LABELS = {"unmitigated": "nobody acts", "mitigated": "Seawall’s commands obeyed"}


def label(one: Json) -> str:
    """Return what a variant is called in a report."""
    return LABELS.get(one["name"], str(one["name"]))


def scene(result: Json, with_: Json) -> str:
    """Return whose book it is and what was done with it."""
    book = result["assumptions"]["book"]
    first, last = (clock(time_us) for time_us in result["period_us"])
    told = f"A book of {with_['clients']} clients"
    if book:
        told += f", {money(book['notional'])} gross, hedged at one venue,"
    return (
        f"{told} was put through the market of {first} to {last} UTC twice: once with nobody acting, and once with "
        "Seawall’s commands obeyed. A hedged firm loses what its clients cannot pay."
    )


def clock(time_us: float, year: bool = True) -> str:
    """Return a time for a person, UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%d %b %Y %H:%M" if year else "%d %b %H:%M").lstrip("0")


def headline(without: Json | None, with_: Json) -> str:
    """Return the result in a sentence or two."""
    ends = (
        f"With Seawall’s commands obeyed, clients could not pay {money(with_['shortfall'])} at the end "
        f"({money(with_['shortfall_max'])} at the worst moment)."
    )
    if without is None:
        return ends
    saved = without["loss"] - with_["loss"]
    verb = "saved" if saved >= 0 else "cost"
    return (
        f"Left alone, clients could not have paid {money(without['shortfall'])} at the end and "
        f"{money(without['shortfall_max'])} at the worst moment. {ends} Acting {verb} {money(abs(saved))}."
    )


def happened(result: Json) -> list[str]:
    """Return what markets did: the deepest falls, each from its highest price before."""
    falls = []
    for name, points in result["prices"].items():
        high, deepest = points[0], (0.0, points[0], points[0])
        for point in points:
            high = max(high, point, key=lambda one: one[1])
            deepest = min(deepest, (point[1] / high[1] - 1, high, point), key=lambda one: one[0])
        falls.append((deepest, name))
    falls.sort(key=lambda one: one[0][0])
    told = [
        f"{name} fell {-drop:.0%}, from {high[1]:,.6g} on {clock(high[0], False)} "
        f"to {low[1]:,.6g} on {clock(low[0], False)}"
        for (drop, high, low), name in falls[:5]
        if drop < -0.005
    ]
    return told or ["No price fell by more than half a per cent."]


def did(with_: Json) -> list[str]:
    """Return what was commanded, kind by kind, with the times of the first and the last."""
    times: dict[str, list[int]] = {}
    targets: dict[str, set[str]] = {}
    for one in with_["commands"]:
        times.setdefault(one["type"], []).append(one["as_of_us"])
        targets.setdefault(one["type"], set()).add(one["target"])
    told = []
    kinds: Counter[str] = Counter(with_["command_kinds"])
    for kind, count in kinds.most_common():
        found = times.get(kind, [])
        span = f", from {clock(min(found), False)} to {clock(max(found), False)}" if found else ""
        many = f" for {len(targets.get(kind, ()))} of them" if len(targets.get(kind, ())) > 1 else ""
        told.append(f"{kind}: {MEANS.get(kind, 'acted')}, {count:,} times{many}{span}")
    withheld = sum(with_["withheld"].values())
    if withheld:
        told.append(f"{withheld:,} commands above the bounds of the playbook were withheld for a person to decide")
    return told or ["No limit asked for a command."]


def timeline(with_: Json) -> list[tuple[int, str]]:
    """Return the moments that matter, in order of time."""
    found: list[tuple[int, str]] = []
    seen: set[str] = set()
    for one in with_["breaches"]:
        if one["level"] not in ("none", *seen):
            seen.add(one["level"])
            said = f"{one['scope']}, {one['measure']} {one['value']:,.4g}, bound {one['bound']:,.4g}"
            found.append((one["as_of_us"], f"limit {one['limit']} reaches {one['level']} for the first time: {said}"))
    for one in with_["commands"]:
        if one["type"] not in seen:
            seen.add(one["type"])
            found.append((one["as_of_us"], f"first {one['type']}, on {one['target']} by rule {one['rule']}"))
    if with_["shortfall_max"] > 0:
        worst = money(with_["shortfall_max"])
        found.append((with_["trace"]["worst_us"], f"the worst moment: clients owe {worst} beyond all that they have"))
    return sorted(found)
