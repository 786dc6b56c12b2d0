"""Diversification: the cheapest transfers that bring what we have at each counterparty back under its limit.

The linear program is: least sum of cost x amount over transfers from i to j, such that what leaves i is at most what
is free there, what i ends with is at most its limit, and nothing that is over its limit receives. Its matrix is that
of a network, so with whole numbers every vertex of it is whole too, and it is solved exactly as a flow of least cost:
successive cheapest paths in Python's integers, ties broken by the order of names. A solver in floating point finds
the same cost, but among equal plans whichever its host's arithmetic leads it to, and a decision has to be the same
bytes everywhere (``ops/decisions/mitigation.md``). Amounts are whole multiples of ``unit``: excesses are rounded up,
room and free funds down.

Where no plan exists, the smallest cut of the network says which limits bind.
"""

import math
from typing import NamedTuple


class Party(NamedTuple):
    """A counterparty: our exposure to it, its limit, and what of ours could leave it, in the reporting currency."""

    name: str
    exposure: float
    limit: float
    free: float


class Transfer(NamedTuple):
    """Move ``units`` whole units from one counterparty to another."""

    source: str
    to: str
    units: int


class Plan(NamedTuple):
    """Transfers in order of name and their cost in ten-thousandths of a unit; what stays over, and what binds."""

    transfers: list[Transfer]
    cost: int
    short: int
    binding: list[str]


def diversify(parties: list[Party], costs: dict[tuple[str, str], int], unit: float, default_bp: int = 1) -> Plan:
    """Return the cheapest plan; where ``short`` is above 0 it moves what can be moved.

    Parameters
    ----------
    costs
        Basis points of a transfer from one to another; ``default_bp`` for the rest; -1 where there is no way.
    unit
        The smallest amount that is moved.

    Examples
    --------
    >>> desk = [Party("a", 50, 30, 50), Party("b", 5, 20, 5), Party("c", 5, 12, 5)]
    >>> diversify(desk, {("a", "b"): 2, ("a", "c"): 1}, 1.0)  # doctest: +NORMALIZE_WHITESPACE
    Plan(transfers=[Transfer(source='a', to='b', units=13), Transfer(source='a', to='c', units=7)],
         cost=33, short=0, binding=[])
    """
    parties = sorted(parties)
    excess = [max(math.ceil((one.exposure - one.limit) / unit), 0) for one in parties]
    room = [max(math.floor((one.limit - one.exposure) / unit), 0) if not over else 0
            for one, over in zip(parties, excess, strict=True)]  # fmt: skip
    free = [max(math.floor(one.free / unit), 0) for one in parties]
    leaving = [min(over, able) for over, able in zip(excess, free, strict=True)]
    price = {
        (i, j): costs.get((parties[i].name, parties[j].name), default_bp)
        for i in range(len(parties)) if leaving[i]
        for j in range(len(parties)) if room[j]
    }  # fmt: skip
    flow = cheapest(leaving, room, {way: cost for way, cost in price.items() if cost >= 0})
    moved = [Transfer(parties[i].name, parties[j].name, units) for (i, j), units in sorted(flow.items()) if units]
    cost = sum(price[way] * units for way, units in flow.items())
    short = sum(excess) - sum(units for *_, units in moved)
    return Plan(moved, cost, short, _binding(parties, excess, leaving, room, flow, price) if short else [])


def cheapest(supply: list[int], demand: list[int], price: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """Return the largest flow from supplies to demands, and of those one that costs least."""
    flow = dict.fromkeys(price, 0)
    left, room = list(supply), list(demand)
    while True:
        path = _path(left, room, price, flow)
        if path is None:
            return flow
        ways, ahead = path
        amount = min(
            [left[ways[0][0]], room[ways[-1][1]]] + [flow[w] for w, on in zip(ways, ahead, strict=True) if not on]
        )
        for way, on in zip(ways, ahead, strict=True):
            flow[way] += amount if on else -amount
        left[ways[0][0]] -= amount
        room[ways[-1][1]] -= amount


def _path(
    left: list[int], room: list[int], price: dict[tuple[int, int], int], flow: dict[tuple[int, int], int]
) -> tuple[list[tuple[int, int]], list[bool]] | None:
    """Return the cheapest way from what is left to what has room, forward and back over ways in use (Bellman-Ford)."""
    best: dict[tuple[str, int], int] = {("from", i): 0 for i, units in enumerate(left) if units}
    came: dict[tuple[str, int], tuple[str, int]] = {}
    for _ in range(len(left) + len(room)):
        changed = False
        for (i, j), cost in sorted(price.items()):
            for one, other, step, usable in (
                (("from", i), ("to", j), cost, True),
                (("to", j), ("from", i), -cost, flow[i, j] > 0),
            ):
                if usable and one in best and best[one] + step < best.get(other, 1 << 62):
                    best[other], came[other], changed = best[one] + step, one, True
        if not changed:
            break
    ends = [(best["to", j], j) for j, units in enumerate(room) if units and ("to", j) in best]
    if not ends:
        return None
    at = ("to", min(ends)[1])
    ways, ahead = [], []
    while at in came:
        before = came[at]
        on = at[0] == "to"
        ways.append((before[1], at[1]) if on else (at[1], before[1]))
        ahead.append(on)
        at = before
    return ways[::-1], ahead[::-1]


def _binding(
    parties: list[Party],
    excess: list[int],
    leaving: list[int],
    room: list[int],
    flow: dict[tuple[int, int], int],
    price: dict[tuple[int, int], int],
) -> list[str]:
    """Return what binds: funds that are not free, and the limits of all that what is left could still reach."""
    sent = [sum(units for (i, _), units in flow.items() if i == at) for at in range(len(parties))]
    found = [f"free:{one.name}" for one, over, able in zip(parties, excess, leaving, strict=True) if able < over]
    reached = {at for at, able in enumerate(leaving) if sent[at] < able}
    full: set[int] = set()
    while True:
        ends = {j for (i, j), cost in price.items() if i in reached and cost >= 0} - full
        if not ends:
            break
        full |= ends
        reached |= {i for (i, j), units in flow.items() if j in ends and units}
    stuck = [
        f"way:{parties[at].name}"
        for at in sorted(reached)
        if all(i != at or cost < 0 for (i, _), cost in price.items())
    ]
    return found + stuck + [f"limit:{parties[at].name}" for at in sorted(full) if room[at]]
