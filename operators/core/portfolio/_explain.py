"""P&L explain: the change of the P&L of every account within a minute of event time, as a sum of its causes.

1. What was held when the minute began is taken at its prices of then and of now. Options give delta, gamma, vega and
   theta by their sensitivities of then (Taylor); everything else, which is exact, counts as delta: other positions,
   balances, what is settled in an asset that moved, expiries, and what was paid in after it came.
2. Fills count at what they were made at against the prices of now, fees and funding by themselves.
3. The rest of the change is unexplained: of options beyond their sensitivities or without a volatility, of what had no
   price when the minute began, and whatever the book does that has no name here.

See contract.md, "P&L explain".
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import MeasureTable, ordered_sums, sum_by, widen_table
from seawall.operators.core.holdings import Balances, Directory, Positions
from seawall.operators.core.portfolio._cash_flows import Contributions, Funding
from seawall.operators.core.pricing import Marks, OptionSheet
from seawall.schemas.measures import DRAWDOWN, EXPLAINED, PNL, UNEXPLAINED

F8 = NDArray[np.float64]
SECOND_US, MINUTE_US, DAY_US = 1_000_000, 60_000_000, 86_400_000_000
# The book when a minute begins, at the marks across venues: ``totals`` (P&L, accrued funding and contributions by
# account), open positions, balances (``owner``, ``asset``, …), and of positions in options (``at``) row and greeks.
Baseline = dict[str, NDArray[Any]]


class PnlExplain:
    """The P&L explain of one shard: flows of the minute that runs, and the terms of the last one that ended.

    Attributes
    ----------
    on, named
        Whether minutes are explained; whether limits name P&L, drawdown or what is unexplained of accounts.
    terms, firm
        The terms `EXPLAINED` of the last minute, by account from its holder's side, and added up from our side.
    times_us
        When that minute began and ended; 0 before the first.
    traded, realised, moved, fees, carry
        Flows of the minute that runs: positions by fills and the cash of these; transfers; fees; funding and interest.
    """

    def __init__(
        self,
        directory: Directory,
        marks: Marks,
        positions: Positions,
        balances: Balances,
        sheet: OptionSheet,
        funding: Funding,
        contributions: Contributions,
    ) -> None:
        self._directory, self._marks, self._sheet = directory, marks, sheet
        self._positions, self._balances = positions, balances
        self._funding, self._contributions = funding, contributions
        self.on = self.named = self._required = False
        self.terms, self.firm = np.zeros((len(EXPLAINED), 0)), np.zeros(len(EXPLAINED))
        self.times_us, self._begun_us = [0, 0], 0
        self._base: Baseline | None = None
        self._begin_flows()

    def ask(self, named: list[tuple[str, str]]) -> None:
        """Take the kinds of scope and measures that limits name."""
        self.named |= any(kind == "account" and measure in (*PNL, DRAWDOWN) for kind, measure in named)
        self._required |= any(measure == UNEXPLAINED for _, measure in named)
        self.switch(self.on)

    def switch(self, on: bool) -> None:
        """Explain minutes from now on, or (unless a limit asks for it) no longer."""
        self.on = on or self._required
        if not self.on:
            self._base, self._begun_us = None, 0
            self._begin_flows()
        self._funding.booked = self.carry if self.on else None

    def grow(self) -> None:
        """Make room for the instruments that the directory has just learned."""
        self.traded.classify(np.zeros(len(self._directory.instrument_records), dtype=np.int64), 1)

    def fill(self, account: int, instrument: int, units: int, value: float) -> None:
        """Take a trade in a derivative at the value of a unit."""
        slot = self.traded.slot(account, instrument, self._marks.row(instrument))
        key = account << 20 | int(self._directory.arrays["settlement"][instrument])
        self.realised.add(key, self.traded.fill(slot, units, value))

    def transfer(self, key: int, amount: float, purpose: str) -> None:
        """Take a transfer to a balance."""
        paid = {"fee": self.fees, "funding": self.carry, "interest": self.carry}
        paid.get(purpose, self.moved).add(key, amount)

    def close(self, as_of_us: int, pnl: F8) -> bool:
        """Explain the minute that ends with this second, or ended in silence before it; return whether one did.

        ``pnl`` is by account, as last measured.
        """
        if _minute(as_of_us) == _minute(self._begun_us):
            return False
        base, accrued = self._base, np.zeros(len(pnl))
        if self._funding.known:
            _, accrued = self._funding.unrealised(as_of_us, len(pnl))
        totals = np.stack([pnl, accrued, self._contributions.worth])
        if base is not None:
            self.terms = self._explained(base, totals, as_of_us)
            self.firm = ordered_sums(self._directory.arrays["stake"] * self.terms)
            self.times_us = [self._begun_us, as_of_us]
        self._begun_us, self._base = as_of_us, self._baseline(totals)
        self._begin_flows()
        return base is not None

    def rows(self) -> list[dict[str, Any]]:
        """Return the terms of each account in which anything is not 0."""
        names, at = self._directory.own_names, (self.terms != 0.0).any(axis=0).nonzero()[0].tolist()
        return [explained_row(f"account:{names[i]}", self.times_us[0], self.terms[:, i]) for i in at]

    def widened(self, tables: dict[str, MeasureTable], pnl: F8) -> dict[str, MeasureTable]:
        """Return the tables with P&L, and what of it is unexplained, among the measures of accounts."""
        own = np.zeros((len(PNL), len(pnl)))
        own[0], own[1, : self.terms.shape[1]] = pnl, self.terms[-1]
        return {**tables, "account": widen_table(tables["account"], PNL, own)}

    def _begin_flows(self) -> None:
        self.traded, self.realised, self.moved, self.fees, self.carry = Positions(), *(Balances() for _ in range(4))
        self._funding.booked = self.carry if self.on else None
        self.grow()

    def _baseline(self, totals: F8) -> Baseline:
        rows, balances, marks, sheet = self._positions.rows, self._balances.rows, self._marks, self._sheet
        across = marks.across()
        held = ((rows["units"] != 0) & (marks.worth[across[rows["instrument"]]] != 0)).nonzero()[0]
        found = {name: rows[name][held] for name in ("account", "instrument", "size", "cost")}
        found["cost"][self._directory.arrays["upfront"][found["instrument"]]] = 0.0  # it has left the balance
        mark, of = across[found["instrument"]], np.full(len(held), -1)
        if self._directory.has_option:
            of = sheet.terms.row[found["instrument"]]
        at = (of >= 0).nonzero()[0]
        option = of[at]
        return {
            **found,
            "totals": totals,
            "unit": marks.unit[mark],
            "worth": marks.worth[mark],
            "owner": balances["account"].copy(),
            "asset": balances["asset"].copy(),
            "amount": balances["amount"].copy(),
            "price": marks.asset_worth[balances["asset"]],
            "at": at,
            "option": option,
            "scale": sheet.scale()[option],
            "value": sheet.value[option],
            "greeks": sheet.greeks[:, option],
            "volatility": sheet.priced["volatility"][option],
            "us": sheet.priced["us"][option],
        }

    def _explained(self, base: Baseline, totals: F8, as_of_us: int) -> F8:
        """Return the terms of the minute by account; ``totals`` is what stands now of what stood when it began."""
        marks, (known, count), change = self._marks, (base["totals"].shape[1], totals.shape[1]), totals.copy()
        change[:, :known] -= base["totals"]
        mark = marks.across()[base["instrument"]]
        gained = base["size"] * (marks.unit[mark] - base["unit"])
        greeks = self._sensitivities(base, gained[base["at"]], as_of_us)
        gained[base["at"]] = greeks[0]
        gained -= base["cost"] * (marks.worth[mark] - base["worth"])
        revalued = base["amount"] * (marks.asset_worth[base["asset"]] - base["price"])
        moved, carry, fees, realised = (
            sum_by(one.rows["account"], one.rows["amount"] * marks.asset_worth[one.rows["asset"]], count)
            for one in (self.moved, self.carry, self.fees, self.realised)
        )
        rows = self.traded.rows
        made = rows["size"] * marks.unit[rows["mark"]] - rows["cost"] * marks.worth[rows["mark"]]
        ended = self._ended(rows["instrument"], as_of_us)
        held = sum_by(base["account"], gained, count) + sum_by(base["owner"], revalued, count)
        parts = [
            held + moved - change[2] + sum_by(rows["account"], np.where(ended, made, 0.0), count),
            *(sum_by(base["account"][base["at"]], part, count) for part in greeks[1:]),
            change[1] + carry,
            fees,
            realised + sum_by(rows["account"], np.where(ended, 0.0, made), count),
        ]
        return np.stack([change[0], *parts, change[0] - np.stack(parts).cumsum(axis=0)[-1]])

    def _sensitivities(self, base: Baseline, gained: F8, as_of_us: int) -> F8:
        """Return delta, gamma, vega and theta of what each option position made, shape (4, options).

        ``gained`` is all of it. What expired counts as delta, and so does the move of what a premium is paid in;
        without a value, then or now, nothing is told.
        """
        sheet, option, greeks, size = self._sheet, base["option"], base["greeks"], base["size"][base["at"]]
        value = sheet.value[option]
        move = sheet.greeks[3, option] / np.where(greeks[3] > 0, greeks[3], 1.0) - 1.0
        points = 100.0 * (sheet.priced["volatility"][option] - base["volatility"])
        days = (sheet.priced["us"][option] - base["us"]) / DAY_US
        found = np.stack([greeks[0] * move, 50.0 * greeks[1] * move * move, greeks[2] * points, greeks[4] * days])
        found = size * base["scale"] * found
        found[0] += size * (sheet.scale()[option] - base["scale"]) * value
        ended = self._ended(sheet.terms.instrument[option], as_of_us)
        found = np.where(np.isfinite(base["value"]) & np.isfinite(value) & ~ended, found, 0.0)
        found[0] += np.where(ended, gained, 0.0)
        return found

    def _ended(self, instrument: NDArray[np.int64], as_of_us: int) -> NDArray[np.bool_]:
        """Return which instruments have expired."""
        expires_us = np.array(self._directory.expires_us, dtype=np.int64)[instrument]
        return (expires_us > 0) & (expires_us <= as_of_us)

    # --- state ------------------------------------------------------------------------------------------------------

    def _flows(self) -> tuple[Positions | Balances, ...]:
        return self.traded, self.realised, self.moved, self.fees, self.carry

    def snapshot(self) -> list[Any] | None:
        """Return the state for :func:`snapshot.pack`; None where nothing is explained, nor asked for."""
        if not (self.on or self.named):
            return None
        flows = [one.snapshot() for one in self._flows()]
        switches, times = [self.on, self.named, self._required], [self.times_us, self._begun_us]
        return [switches, times, self.terms, self.firm, self._base, flows]

    def restore(self, state: list[Any] | None) -> None:
        """Take the state of a snapshot; the directory is restored."""
        if state is None:
            return
        switches, (self.times_us, self._begun_us), self.terms, self.firm, self._base, flows = state
        self.on, self.named, self._required = switches
        self._begin_flows()
        for one, kept in zip(self._flows(), flows, strict=True):
            one.restore(kept)
        self.grow()


def explained_row(scope: str, since_us: int, terms: F8) -> dict[str, Any]:
    """Return the explain of a scope as it is written."""
    return {"scope": scope, "since_us": since_us, **dict(zip(EXPLAINED, terms.tolist(), strict=True))}


def _minute(as_of_us: int) -> int:
    """Return the minute that the end of a second belongs to; slices that end one may lie before it is full."""
    return -(-as_of_us // SECOND_US) * SECOND_US // MINUTE_US
