"""Diversification: the cheapest transfers and position moves that bring each counterparty back under its limits.

The linear program, with t what is transferred from i to j and p what of a position in k moves from i to j (closed
there, opened here, so the firm's own exposure to k stays): most relief first, then least cost, such that

- of what is over a limit no more counts as relief than leaves: money for ``limit``, positions for ``gross_limit``;
- what a counterparty ends with is at most its limits, and nothing that is over one receives;
- what leaves i is at most what is free there and the margin that moves free; what arrives at j pays for its margin;
- no more of a position moves than is held, nor of an instrument than ``participation`` of its visible depth.

It is solved exactly (`solve_linear_program`). Amounts are counted in ``unit``: excesses are rounded up, room and free
funds down. Where no plan is enough, the priced rows of the solution are what binds: they alone keep more from being
possible.
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from seawall.operators.core.base import ConstraintRow, ordered_sums, solve_linear_program
from seawall.operators.core.mitigation._requests import (
    CHANGE_LIMIT_FAULT,
    ComputationRequest,
    ComputationResult,
    amount_to_cent,
    current_breach,
    is_change_limit,
    no_action,
    tightest_bound,
)
from seawall.operators.core.mitigation._sizes import PARTICIPATION, kept_share
from seawall.operators.core.mitigation._triggers import member_scopes

RATE_PARTS = 10_000  # margin rates and fees count to the basis point
HOLDINGS_MAX = 8  # positions of one counterparty that may move: the largest
Costs = dict[tuple[str, str], int]


class PositionHolding(NamedTuple):
    """A position: its worth, margin it frees and margin it needs elsewhere as fractions of that, and visible depth."""

    instrument: str
    notional: float
    frees: float
    needs: float
    depth: float


class CounterpartyFunds(NamedTuple):
    """A counterparty: our exposure to it, its limit, and what of ours could leave it, in the reporting currency.

    With positions also their gross notional, its limit, and the fee of trading there as a fraction.
    """

    name: str
    exposure: float
    limit: float
    free: float
    gross: float = 0.0
    gross_limit: float = math.inf
    holdings: tuple[PositionHolding, ...] = ()
    fee: float = 0.0005


class Transfer(NamedTuple):
    """Move ``units`` from one counterparty to another: money, or of a position where ``instrument`` is given."""

    source: str
    to: str
    units: int | Fraction
    instrument: str = ""


class TransferPlan(NamedTuple):
    """Transfers and moves in order of name, their cost in ten-thousandths of a unit; what stays over; what binds."""

    transfers: list[Transfer]
    cost: int | Fraction
    short: int | Fraction
    binding: list[str]
    moves: list[Transfer] = []  # noqa: RUF012 - never changed in place


def diversify(
    parties: list[CounterpartyFunds], costs: Costs, unit: float, default_bp: int = 1, participation: float = 0.1
) -> TransferPlan:
    """Return the cheapest plan; where ``short`` is above 0 it moves what can be moved.

    Parameters
    ----------
    costs
        Basis points of a transfer from one to another; ``default_bp`` for the rest; -1 where there is no way.
    unit
        The amount that amounts are counted in.

    Examples
    --------
    >>> desk = [CounterpartyFunds("a", 50, 30, 50), CounterpartyFunds("b", 5, 20, 5), CounterpartyFunds("c", 5, 12, 5)]
    >>> diversify(desk, {("a", "b"): 2, ("a", "c"): 1}, 1.0)  # doctest: +NORMALIZE_WHITESPACE
    TransferPlan(transfers=[Transfer(source='a', to='b', units=13, instrument=''),
                    Transfer(source='a', to='c', units=7, instrument='')], cost=33, short=0, binding=[], moves=[])
    """
    program = _Program(sorted(parties, key=lambda one: one.name), costs, unit, default_bp, participation)
    return program.solve()


class _Program:
    """The linear program of one desk: variables are reliefs, then transfers and moves in order of name."""

    def __init__(
        self, parties: list[CounterpartyFunds], costs: Costs, unit: float, default_bp: int, participation: float
    ) -> None:
        self._parties, self._unit, self._participation = parties, unit, participation
        self._rows: dict[str, ConstraintRow] = {}
        self._bounds: dict[str, Fraction] = {}
        excess = {(kind, one.name): self._up(over) for one in parties for kind, over in _over(one)}
        self._reliefs = [key for key, units in excess.items() if units > 0]
        self._excess = sum(excess.values())
        self._ways = list(self._ways_of(costs, default_bp))
        self._bound(excess)
        for number, (kind, name) in enumerate(self._reliefs):
            self._put(f"excess:{kind}:{name}", number, Fraction(1))
            self._put(f"way:{kind}:{name}", number, Fraction(1))
        for number, (way, _) in enumerate(self._ways, len(self._reliefs)):
            self._add(number, way)

    def solve(self) -> TransferPlan:
        """Solve it and read the plan out of the solution."""
        count = len(self._reliefs)
        first = {number: Fraction(-1) for number in range(count)}
        second = {number: cost for number, (_, cost) in enumerate(self._ways, count) if cost}
        names = list(self._rows)
        bounds = [self._bounds[name] for name in names]
        found = solve_linear_program(
            first, second, [self._rows[name] for name in names], bounds, count + len(self._ways)
        )
        amounts = found.values[count:]
        pairs = zip(self._ways, amounts, strict=True)
        used = [way._replace(units=_plain(units)) for (way, _), units in pairs if units]
        cost = sum((bp * units for (_, bp), units in zip(self._ways, amounts, strict=True)), Fraction(0))
        short = self._excess - sum(found.values[:count])
        binding = self._described([names[at] for at in found.priced]) if short else []
        money, moves = ([one for one in used if bool(one.instrument) == moved] for moved in (False, True))
        return TransferPlan(money, _plain(cost), _plain(Fraction(short)), binding, moves)

    def _ways_of(self, costs: Costs, default_bp: int) -> Iterator[tuple[Transfer, Fraction]]:
        """Yield what may be moved from those over a limit to those within both, with its cost in basis points."""
        over = {name for _, name in self._reliefs}
        for source in (one for one in self._parties if one.name in over):
            for to in (one for one in self._parties if one.name not in over):
                bp = costs.get((source.name, to.name), default_bp)
                if bp >= 0 and math.isfinite(to.limit):
                    yield Transfer(source.name, to.name, 0), Fraction(bp)
                fee = Fraction(math.ceil((source.fee + to.fee) * RATE_PARTS))
                for held in _largest(source) if math.isfinite(to.gross_limit) else ():
                    yield Transfer(source.name, to.name, 0, held.instrument), fee

    def _bound(self, excess: dict[tuple[str, str], int]) -> None:
        for kind, name in self._reliefs:
            self._row(f"excess:{kind}:{name}", excess[kind, name])
            self._row(f"way:{kind}:{name}", 0)
        for one in self._parties:
            self._row(f"free:{one.name}", self._down(one.free))
            for kind, left in (("limit", one.limit - one.exposure), ("gross", one.gross_limit - one.gross)):
                if math.isfinite(left):
                    self._row(f"{kind}:{one.name}", self._down(left))
            for held in _largest(one):
                self._row(f"held:{one.name}:{held.instrument}", self._down(held.notional))
                depth = self._participation * held.depth if held.depth > 0 else 0.0
                self._row(f"depth:{held.instrument}", self._down(depth))

    def _add(self, number: int, way: Transfer) -> None:
        """Put a transfer or a move into the rows that it counts in."""
        one, counts = Fraction(1), "gross" if way.instrument else "limit"
        if (counts, way.source) in self._reliefs:
            self._put(f"way:{counts}:{way.source}", number, -one)
        self._put(f"{counts}:{way.to}", number, one)
        frees = needs = one
        if way.instrument:
            mine = next(party.holdings for party in self._parties if party.name == way.source)
            held = next(one for one in mine if one.instrument == way.instrument)
            frees = -Fraction(math.floor(held.frees * RATE_PARTS), RATE_PARTS)
            needs = -Fraction(math.ceil(held.needs * RATE_PARTS), RATE_PARTS)
            self._put(f"held:{way.source}:{way.instrument}", number, one)
            self._put(f"depth:{way.instrument}", number, one)
        self._put(f"free:{way.source}", number, frees)
        self._put(f"free:{way.to}", number, -needs)

    def _row(self, name: str, bound: int) -> None:
        self._rows.setdefault(name, {})
        self._bounds[name] = Fraction(bound)

    def _put(self, name: str, number: int, value: Fraction) -> None:
        if value:
            self._rows[name][number] = value

    def _described(self, priced: list[str]) -> list[str]:
        """Return what binds: no way at all, or else limits, funds, holdings and depths."""
        sources = {way.source for way, _ in self._ways}
        stuck = dict.fromkeys(name for _, name in self._reliefs if name not in sources)
        rest = [name for name in priced if name.partition(":")[0] not in ("excess", "way")]
        kinds = ("free", "held", "depth", "limit", "gross")
        rest.sort(key=lambda name: (kinds.index(name.partition(":")[0]), name))
        return rest + [f"way:{name}" for name in stuck]

    def _up(self, amount: float) -> int:
        return max(math.ceil(amount / self._unit), 0)

    def _down(self, amount: float) -> int:
        return max(math.floor(amount / self._unit), 0)


def _over(one: CounterpartyFunds) -> Iterator[tuple[str, float]]:
    """Yield by how much a party is over each of its limits."""
    if math.isfinite(one.limit):
        yield "limit", one.exposure - one.limit
    if math.isfinite(one.gross_limit):
        yield "gross", one.gross - one.gross_limit


def _largest(one: CounterpartyFunds) -> list[PositionHolding]:
    return sorted(one.holdings, key=lambda held: (-held.notional, held.instrument))[:HOLDINGS_MAX]


def _plain(value: Fraction) -> int | Fraction:
    return value.numerator if value.denominator == 1 else value


# Money: CALL_MARGIN and RECALL_COLLATERAL by terms, WITHDRAW_FUNDS, and REROUTE of what we have at counterparties.

UNIT = 1_000.0  # amounts are counted in whole thousands: excesses rounded up, room and free funds down
BLOCKED = "withdrawals_blocked"


def collateral_by_terms(request: ComputationRequest) -> ComputationResult:
    """CALL_MARGIN and RECALL_COLLATERAL: what the terms of the target's netting sets make due now."""
    table = request.measures.tables.get("netting_set")
    if table is None or "margin_call" not in table.measures:
        return no_action("no netting set has terms; describe them, or leave compute out")
    row = table.values[table.measures.index("margin_call")]
    sets = [
        scope.partition(":")[2] for scope in member_scopes("netting_set", request.candidate.target, request.measures)
    ]
    due = {name: row.item(table.names.index(name)) for name in sets}
    amount = float(ordered_sums(np.array([value for _, value in sorted(due.items()) if value > 0])))
    if amount <= 0:
        return no_action("nothing is due under the terms")
    plan = {name: amount_to_cent(value) for name, value in sorted(due.items()) if value > 0}
    return ComputationResult({"amount": amount_to_cent(amount), "currency": request.currency}, plan, amount)


def withdrawable_funds(request: ComputationRequest) -> ComputationResult:
    """WITHDRAW_FUNDS: what is over the level aimed at, of what is free there and within the stated size.

    Ahead of a failing venue, where no limit broke, all that is free goes, as far as ``size_max`` says.
    """
    breach, measures, target = request.candidate.breach, request.measures, request.candidate.target
    if request.ill.get(target.partition(":")[2]) == BLOCKED:
        return no_action("withdrawals are blocked there")
    if breach is None and "size_max" not in request.command:
        return no_action("neither a limit nor size_max says how much to withdraw")
    if breach is not None and breach["measure"] != "current_exposure":
        return no_action("only a limit on current_exposure says how much to withdraw")
    if breach is not None and is_change_limit(breach, request.limits):
        return no_action(CHANGE_LIMIT_FAULT)
    table = measures.tables.get("account")
    if table is None:
        return no_action("the accounts of a target that is wider than a counterparty are not known in one place")
    excess = math.inf if breach is None else _excess(request, breach)
    equity, initial = (table.values[table.measures.index(name)] for name in ("equity", "initial_margin"))
    free = 0.0
    for account in member_scopes("account", target, measures):
        at = table.names.index(account.partition(":")[2])
        free += max(equity.item(at) - initial.item(at), 0.0) if account in measures.house else 0.0
    amount = min(excess, free, float(request.command.get("size_max", math.inf)))
    if amount <= 0:
        return no_action("nothing of ours is free there")
    plan = {"free": amount_to_cent(free)} | ({"excess": amount_to_cent(excess)} if math.isfinite(excess) else {})
    return ComputationResult({"amount": amount_to_cent(amount), "currency": request.currency}, plan, amount)


def _excess(request: ComputationRequest, breach: dict[str, Any]) -> float:
    breach = current_breach(breach, request.measures)
    keep = kept_share(
        {**breach, "measure": "gross_notional"}, request.limits.get(breach["limit"]), request.command.get("to")
    )
    return float(breach["value"]) * (1.0 - (1.0 if keep is None else keep))


def diversify_funds(request: ComputationRequest) -> ComputationResult:
    """REROUTE of the firm's money, and with ``positions`` of its positions, back under the limits on counterparties."""
    moves = bool(request.command.get("positions"))
    parties = [
        _party(name, row, request, moves) for name, row in sorted((request.measures.computation.parties or {}).items())
    ]
    known = [one for one in parties if math.isfinite(one.limit) or math.isfinite(one.gross_limit)]
    participation = float(request.command.get("participation", PARTICIPATION))
    plan = diversify(known, {}, UNIT, participation=participation)
    figures = {
        "cost": amount_to_cent(float(plan.cost) * UNIT / 10_000),
        "short": amount_to_cent(float(plan.short) * UNIT),
    }
    if plan.binding:
        figures["binding"] = ",".join(plan.binding)
    if not plan.transfers and not plan.moves:
        return no_action(f"no transfer helps; what binds: {', '.join(plan.binding) or 'nothing is over its limit'}")
    action = {"currency": request.currency}
    if plan.transfers:
        action["transfers"] = ",".join(f"{one.source}>{one.to}={_amount(one)}" for one in plan.transfers)
    if plan.moves:
        action["moves"] = ",".join(_moved(plan, request))
    size = UNIT * float(sum(one.units for one in (*plan.transfers, *plan.moves)))
    return ComputationResult(action, figures, size, ours=bool(plan.moves))


def _party(name: str, row: list[Any], request: ComputationRequest, moves: bool) -> CounterpartyFunds:
    """Return a counterparty with its limits; one that may not be relied on receives nothing more."""
    exposure, free, gross, fee, held = row
    holdings: dict[str, PositionHolding] = {}
    for _, instrument, _, notional, frees, needs, _, depth in held if moves else ():
        before = holdings.get(instrument, PositionHolding(instrument, 0.0, frees, needs, depth))
        holdings[instrument] = before._replace(
            notional=before.notional + notional, frees=min(before.frees, frees), needs=max(before.needs, needs)
        )
    limit = tightest_bound("counterparty", name, "current_exposure", request.limits)
    gross_limit = tightest_bound("counterparty", name, "gross_notional", request.limits) if moves else math.inf
    if name in request.ill:
        limit, gross_limit = min(limit, max(exposure, 0.0)), min(gross_limit, max(gross, 0.0))
        free = 0.0 if request.ill[name] == BLOCKED else free
    return CounterpartyFunds(name, exposure, limit, free, gross, gross_limit, tuple(holdings.values()), fee)


def _amount(one: Transfer) -> str:
    units = one.units * int(UNIT)
    return str(units) if isinstance(units, int) else amount_to_cent(math.floor(units * 100) / 100)


def _moved(plan: TransferPlan, request: ComputationRequest) -> list[str]:
    """Return the moves as ``from>to:account:instrument=quantity``, whole increments, account by account."""
    found = []
    for one in plan.moves:
        left = float(one.units) * UNIT
        rows = [row for row in (request.measures.computation.parties or {})[one.source][4] if row[1] == one.instrument]
        for account, instrument, units, notional, _, _, increment, _ in rows:
            part = min(left / notional, 1.0) if notional > 0 else 0.0
            whole, left = math.floor(abs(units) * part), left - notional * part
            if whole:
                signed = whole if units > 0 else -whole
                quantity = format(signed * Decimal(increment), "f")
                found.append(f"{one.source}>{one.to}:{account}:{instrument}={quantity}")
    return found
