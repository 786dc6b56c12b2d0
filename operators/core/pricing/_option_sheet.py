"""The option sheet of one shard: terms, volatility and greeks of every option, computed once per instrument.

1. An option is marked like anything else; the mark of an inverse option is in coin, as on Deribit. Its volatility is
   the one that came with the mark, or else the one at which Black-76 gives the mark on the option's own forward.
2. Greeks are those of Black-76 on the forward as it stands. They are computed for options that are held, once per
   instrument, and again where forward or volatility moved (all of them once a second, those that moved by more than
   ``MOVE_MIN`` at once), and once every ``AGE_MAX_US`` for the time that passed.
3. An option without a usable volatility counts with a delta of 1 (a put: -1); one without a forward counts with its
   strike in the forward's place. Both are named by :meth:`OptionSheet.unvalued`, never guessed in silence.

Greeks of a unit are in quote currency and scaled as desks read them: delta is the value of the equivalent holding of
the underlying, gamma what delta changes by when the forward moves 1 %, vega what the value changes by per volatility
point.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, float_array, int_array
from seawall.operators.core.holdings import Directory
from seawall.operators.core.pricing._marks import SOURCE_RANKS, Marks
from seawall.operators.core.pricing._option_models import (
    MarkState,
    black_valuation,
    implied_volatility,
    settlement_value,
    years_to_expiry,
)
from seawall.schemas import events as ev
from seawall.schemas.records import Marks as MarkColumns

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
MOVE_MIN = 5e-4  # of forward or volatility: what five basis points change waits for the end of the second
AGE_MAX_US = 10_000_000
NO_ROW = -1


@dataclass(frozen=True, slots=True)
class OptionTerms:
    """Terms by row of the sheet; ``row`` leads from an instrument's number to its row, ``NO_ROW`` for other kinds."""

    instrument: I8
    row: I8
    strike: F8
    call: B1
    expiry_us: I8
    coin: B1
    rate: F8
    forward: I8
    forwards: frozenset[int]


class RepricingRecord:
    """Forward and volatility at which each row was last repriced, and when: what decides whether it is due again."""

    def __init__(self) -> None:
        self.rows = Columns({"forward": "f8", "volatility": "f8", "us": "i8"})

    def due(self, at: I8, forward: F8, volatility: F8, as_of_us: int, move_min: float, ages: B1 | bool = True) -> I8:
        """Return which of the rows ``at`` are due, and take their inputs as those of today.

        ``ages`` marks those that time alone makes due; what is no option only prices do.
        """
        rows = self.rows
        past, since = rows["us"][at], as_of_us - rows["us"][at]
        over = _moved(forward, rows["forward"][at], move_min) | _moved(volatility, rows["volatility"][at], move_min)
        due = (past == 0) | ((since >= AGE_MAX_US) & ages) | over
        found: I8 = at[due]
        rows["forward"][found], rows["volatility"][found], rows["us"][found] = forward[due], volatility[due], as_of_us
        return found


class OptionSheet:
    """Options of one shard; ``greeks`` has the rows delta, gamma, vega and the forward, valid after :meth:`refresh`."""

    def __init__(self, directory: Directory, marks: Marks) -> None:
        self._directory, self._marks = directory, marks
        self.terms = _terms([], directory)
        self.marked = Columns({"price": "f8", "forward": "f8", "time_us": "i8", "quoted": "f8"})
        self.priced = RepricingRecord()
        self.greeks: F8 = np.zeros((4, 0))
        self.repriced = 0  # raised whenever any greek changes
        self._scale: F8 | None = None  # between two calls of ``refresh``
        self._volatility: F8 = np.zeros(0)
        self._unsolved: B1 = np.zeros(0, dtype=bool)

    def __len__(self) -> int:
        return len(self.terms.instrument)

    def learn(self) -> None:
        """Take the options that the directory knows; rows of those that were known stay."""
        self.terms = _terms(self._directory.instrument_records, self._directory)
        more = len(self) - self.marked.size
        if more:
            self.marked.append(more, price=np.nan, forward=np.nan, quoted=np.nan)
            self.priced.rows.append(more)
        self._forget()

    def take(self, marks: MarkColumns) -> None:
        """Take the option marks of a slice, after :class:`Marks` has: those that it let stand."""
        rows = self.terms.row[int_array(marks.instrument)]
        chosen = np.flatnonzero(rows >= 0)
        if not len(chosen):
            return
        across = self._marks.across()[self.terms.instrument[rows[chosen]]]
        mark_rows, marked = self._marks.rows, self.marked
        kind = (
            np.array([SOURCE_RANKS.get(kind, 0) for kind in marks.kind])[chosen] if marks.kind else SOURCE_RANKS["mark"]
        )
        taken = int_array(marks.time_us)[chosen] == mark_rows["time_us"][across]
        taken &= kind == mark_rows["standing"][across]
        chosen, across, at = chosen[taken], across[taken], rows[chosen[taken]]
        volatility = (
            float_array(marks.implied_volatility)[chosen] if marks.implied_volatility else np.full(len(chosen), -1.0)
        )
        marked["price"][at], marked["time_us"][at] = mark_rows["price"][across], mark_rows["time_us"][across]
        marked["forward"][at] = self.forwards()[at]
        marked["quoted"][at] = np.where(volatility > 0, volatility, np.nan)
        self._unsolved[at] = True

    def forwards(self) -> F8:
        """Return the mark of every option's forward, NaN where it has none."""
        forward = self.terms.forward
        prices = self._marks.rows["price"][self._marks.across()[np.maximum(forward, 0)]]
        found: F8 = np.where(forward >= 0, prices, np.nan)
        return found

    def volatilities(self) -> F8:
        """Return the volatility of every option: 0 where its mark holds no time value, NaN where it has none."""
        at = np.flatnonzero(self._unsolved)
        if len(at):
            self._unsolved[at] = False
            self._solve(at)
        return self._volatility

    def refresh(self, at: I8, as_of_us: int, exact: bool) -> None:
        """Bring the greeks of the rows ``at`` up to date; ``exact``: whatever moved at all."""
        self._scale = None
        forward, volatility = self.forwards()[at], self.volatilities()[at]
        self._price(self.priced.due(at, forward, volatility, as_of_us, 0.0 if exact else MOVE_MIN))

    def scale(self) -> F8:
        """Return what a quote-currency unit of each option's greeks is worth in the reporting currency."""
        if self._scale is None:
            terms, arrays = self.terms, self._directory.arrays
            worth = self._marks.asset_worth[arrays["settlement"][terms.instrument]]
            forward = np.where(self.greeks[3] > 0, self.greeks[3], 1.0)  # 0: never held, so never priced
            self._scale = arrays["size"][terms.instrument] * np.where(terms.coin, worth / forward, worth)
        return self._scale

    def unvalued(self, at: I8) -> list[str]:
        """Return the options among the rows ``at`` that have no volatility or no forward, in order of number."""
        terms = self.terms
        bad = ~(np.isfinite(self.volatilities()[at]) & np.isfinite(self.forwards()[at]))
        return [self._directory.instrument_records[n].instrument for n in terms.instrument[at[bad]].tolist()]

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return what the sheet cannot compute again."""
        return {"marked": self.marked.snapshot(), "priced": self.priced.rows.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot; the directory is restored."""
        self.terms = _terms(self._directory.instrument_records, self._directory)
        self.marked.restore(state["marked"])
        self.priced.rows.restore(state["priced"])
        self._forget()

    def _forget(self) -> None:
        """Drop what was derived, and derive the greeks again from the inputs that they were computed at."""
        self._scale = None
        self._volatility = np.full(len(self), np.nan)
        self._unsolved = np.ones(len(self), dtype=bool)
        self.greeks = np.zeros((4, len(self)))
        self._price(np.flatnonzero(self.priced.rows["us"]))

    def _solve(self, at: I8) -> None:
        terms, marked = self.terms, self.marked
        quoted = marked["quoted"][at]
        has = np.isfinite(quoted)
        self._volatility[at[has]] = quoted[has]
        at = at[~has]
        if not len(at):
            return
        forward = marked["forward"][at]
        value = marked["price"][at] * np.where(terms.coin[at], forward, 1.0)
        left = years_to_expiry(terms.expiry_us[at], marked["time_us"][at])
        found = implied_volatility(value, forward, terms.strike[at], left, terms.call[at], terms.rate[at])
        self._volatility[at] = np.where(found.state == MarkState.BELOW_INTRINSIC, 0.0, found.volatility)

    def _price(self, at: I8) -> None:
        """Compute the greeks of rows at the inputs that ``priced`` holds."""
        if not len(at):
            return
        self.repriced += 1
        terms, inputs = self.terms, self.priced.rows
        forward = np.where(np.isfinite(inputs["forward"][at]), inputs["forward"][at], terms.strike[at])
        left = years_to_expiry(terms.expiry_us[at], inputs["us"][at])
        volatility = inputs["volatility"][at]
        known = np.isfinite(volatility) & np.isfinite(inputs["forward"][at])
        found = black_valuation(
            forward, terms.strike[at], left, np.where(known, volatility, 0.0), terms.call[at], terms.rate[at]
        )
        delta = np.where(known, found.delta, np.where(terms.call[at], 1.0, -1.0))
        self.greeks[:, at] = delta * forward, found.gamma * forward * forward * 0.01, found.vega * 0.01, forward


def _terms(records: list[ev.Instrument], directory: Directory) -> OptionTerms:
    options = [(number, r) for number, r in enumerate(records) if r.kind == "option"]
    row = np.full(len(records), NO_ROW, dtype=np.int64)
    row[[number for number, _ in options]] = np.arange(len(options))
    spots = {(r.base, r.quote): n for n, r in reversed(list(enumerate(records))) if r.kind == "spot"} if options else {}
    forward = [_forward(r, directory, spots) for _, r in options]
    return OptionTerms(
        instrument=np.array([number for number, _ in options], dtype=np.int64),
        row=row,
        strike=np.array([float(r.strike) for _, r in options]),
        call=np.array([r.option_type == "call" for _, r in options], dtype=bool),
        expiry_us=np.array([r.expiry_us for _, r in options], dtype=np.int64),
        coin=np.array([r.inverse for _, r in options], dtype=bool),
        rate=np.array([float(r.discount_rate) for _, r in options]),
        forward=np.array(forward, dtype=np.int64),
        forwards=frozenset(forward) - {NO_ROW},
    )


def _forward(record: ev.Instrument, directory: Directory, spots: dict[tuple[str, str], int]) -> int:
    """Return the instrument whose mark is an option's forward; absent: the spot of its underlying.

    See contract.md, "Reference".
    """
    if record.forward:
        return directory.instruments.get(record.forward, NO_ROW)
    underlying = record.underlying or record.base
    return next((spots[underlying, q] for q in (record.quote, directory.currency) if (underlying, q) in spots), NO_ROW)


def payoff(record: ev.Instrument, price: float) -> float:
    """Return what one unit of underlying pays at a settlement mark, in the settlement asset."""
    call = record.option_type == "call"
    return float(settlement_value(price, float(record.strike), call, record.inverse))


def _moved(now: F8, then: F8, move_min: float) -> B1:
    moved: B1 = (np.abs(now - then) > move_min * np.abs(then)) | (np.isnan(now) != np.isnan(then))
    return moved
