"""Diversification that moves positions too: against every vertex of the same linear program, written down anew."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations
from random import Random

import pytest

from seawall.operators.core.mitigation._funds import CounterpartyFunds, PositionHolding, diversify

PARTICIPATION = Fraction(1, 2)


def desk_with_positions(rng: Random) -> list[CounterpartyFunds]:
    """Return two or three counterparties, whole amounts, with up to two positions where something is over a limit."""
    found = []
    for name in "abc"[: rng.choice((2, 3))]:
        held = tuple(
            PositionHolding(
                k, rng.randrange(1, 9), rng.choice((0.1, 0.5)), rng.choice((0.1, 0.5)), rng.randrange(2, 20)
            )
            for k in ("X", "Y")[: rng.randrange(3)]
        )
        gross = sum(one.notional for one in held)
        limits = rng.randrange(1, 9), rng.choice((rng.randrange(9), 20))
        found.append(CounterpartyFunds(name, rng.randrange(9), limits[0], rng.randrange(5), gross, limits[1], held))
    return found


class Vertices:
    """The same program written down anew, and solved by looking at every vertex of it."""

    def __init__(self, desk: list[CounterpartyFunds]) -> None:
        self.desk = desk
        over = [p for p in desk if p.exposure > p.limit or p.gross > p.gross_limit]
        under = [p for p in desk if p not in over]
        self.ways = [(i, j, None) for i in over for j in under]
        self.ways += [(i, j, h) for i in over for j in under for h in i.holdings]
        self.excess = sum(max(p.exposure - p.limit, 0) + max(p.gross - p.gross_limit, 0) for p in desk)

    def rows(self) -> Iterator[tuple[list[Fraction], Fraction, str]]:
        """Yield coefficients, bound and name of each row a·x <= b, without x >= 0."""

        def row(of: Callable[[CounterpartyFunds, CounterpartyFunds, PositionHolding | None], float]) -> list[Fraction]:
            return [Fraction(of(*way)).limit_denominator(10_000) for way in self.ways]

        for p in self.desk:
            yield (
                row(lambda i, j, h, p=p: 0 if h else (j is p) - 0),
                max(Fraction(p.limit - p.exposure), Fraction(0)),
                f"limit:{p.name}",
            )
            yield (
                row(lambda i, j, h, p=p: (j is p) if h else 0),
                max(Fraction(p.gross_limit - p.gross), Fraction(0)),
                f"gross:{p.name}",
            )
            yield (
                row(
                    lambda i, j, h, p=p: (
                        (-(h.frees) if i is p else h.needs if j is p else 0) if h else (i is p) - (j is p)
                    )
                ),
                Fraction(p.free),
                f"free:{p.name}",
            )
            for held in p.holdings:
                yield (
                    row(lambda i, j, h, p=p, held=held: i is p and h is held),
                    Fraction(held.notional),
                    f"held:{p.name}:{held.instrument}",
                )
        depths = {h.instrument: h.depth for p in self.desk for h in p.holdings}
        for name, depth in depths.items():
            yield (
                row(lambda i, j, h, name=name: h is not None and h.instrument == name),
                Fraction(int(PARTICIPATION * depth)),
                f"depth:{name}",
            )

    def relief(self, x: list[Fraction]) -> Fraction:
        """Return how much of what is over limits is gone: no more counts than is over."""
        total = Fraction(0)
        for p in self.desk:
            for kind, over in (("money", p.exposure - p.limit), ("gross", p.gross - p.gross_limit)):
                left = sum(
                    (
                        a
                        for (i, _, h), a in zip(self.ways, x, strict=True)
                        if i is p and (h is None) == (kind == "money")
                    ),
                    Fraction(0),
                )
                total += max(min(left, Fraction(over)), Fraction(0))
        return total

    def cost(self, x: list[Fraction]) -> Fraction:
        return sum((a * (10 if h else 1) for (_, _, h), a in zip(self.ways, x, strict=True)), Fraction(0))

    def best(self, without: Callable[[str], bool] = lambda name: False) -> tuple[Fraction, Fraction]:
        """Return most relief and its least cost, over every vertex; relief bends where an excess is gone."""
        size = len(self.ways)
        rows = [(a, b) for a, b, name in self.rows() if not without(name)]
        rows += [([-Fraction(at == n) for n in range(size)], Fraction(0)) for at in range(size)]
        bends = []
        for p in self.desk:
            for kind, over in (("money", p.exposure - p.limit), ("gross", p.gross - p.gross_limit)):
                if over > 0:
                    bends.append(
                        (
                            [Fraction(i is p and (h is None) == (kind == "money")) for i, _, h in self.ways],
                            Fraction(over),
                        )
                    )
        found = (Fraction(0), Fraction(0))
        for tight in combinations([*rows, *bends], size):
            x = solved([list(a) for a, _ in tight], [b for _, b in tight])
            if x is not None and all(sum(c * v for c, v in zip(a, x, strict=True)) <= b for a, b in rows):
                found = min(found, (-self.relief(x), self.cost(x)))
        return -found[0], found[1]


def solved(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction] | None:
    """Return the solution of a square system, None where there is not exactly one (Gauss)."""
    size = len(right)
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for at in range(size):
        lead = next((r for r in range(at, size) if rows[r][at]), None)
        if lead is None:
            return None
        rows[at], rows[lead] = rows[lead], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for other in range(size):
            if other != at and rows[other][at]:
                rows[other] = [one - rows[other][at] * two for one, two in zip(rows[other], rows[at], strict=True)]
    return [row[-1] for row in rows]


def small_enough(seed: int) -> Vertices:
    """Return a case whose vertices can all be looked at, and of which something is over a limit."""
    rng = Random(seed)
    while True:
        case = Vertices(desk_with_positions(rng))
        if case.excess and 0 < len(case.ways) <= 4 - seed % 2 and any(h for *_, h in case.ways):
            return case


@pytest.mark.parametrize("seed", range(12))
def test_no_vertex_is_better_and_what_is_named_as_binding_is_all_that_holds_it_up(
    seed: int,
) -> None:
    case = small_enough(seed)
    plan = diversify(case.desk, {}, 1.0, participation=float(PARTICIPATION))
    assert (case.excess - plan.short, plan.cost) == case.best()
    assert bool(plan.binding) == (plan.short > 0)
    if plan.short:
        relief, _ = case.best(without=lambda name: name not in plan.binding)
        assert relief == case.excess - plan.short


def test_moving_a_position_frees_the_margin_that_keeps_money_where_it_is() -> None:
    held = (PositionHolding("X", 100.0, 0.2, 0.2, 1000.0),)
    desk = [CounterpartyFunds("a", 50, 30, 5, 100, 200, held), CounterpartyFunds("b", 0, 40, 0, 0, 200)]
    assert diversify([desk[0], desk[1]._replace(gross_limit=math.inf)], {}, 1.0).binding == ["free:a"]
    plan = diversify(desk, {}, 1.0)
    assert (plan.short, [(one.to, one.units) for one in plan.transfers]) == (0, [("b", 20)])
    assert [(one.instrument, one.units) for one in plan.moves] == [("X", 75)]  # 15 of margin at 0.2
