"""The option sheet of one shard: terms, volatility and greeks of every option, computed once per instrument.

1. An option is marked like anything else; the mark of an inverse option is in coin, as on Deribit. Its volatility is
   the one that came with the mark, or else the one at which Black-76 gives the mark on the option's own forward.
2. Value and greeks are those of Black-76 on the forward as it stands, the last known volatility and the time of the
   slice, for options that are held, once per instrument. The value takes the place of the option's own mark across
   venues; a venue's own option mark serves the margin of accounts there (contract.md, "Prices").
3. An option without a usable volatility counts with a delta of 1 (a put: -1); one without a forward counts with its
   strike in the forward's place. Both are named by :meth:`OptionSheet.unvalued`, never guessed in silence.

Greeks of a unit are in quote currency and scaled as desks read them: delta is the value of the equivalent holding of
the underlying, gamma what delta changes by when the forward moves 1 %, vega what the value changes by per volatility
point, theta what it changes by in a day that passes.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import Columns, float_array, int_array, sum_by
from seawall.operators.core.holdings import Directory, Positions
from seawall.operators.core.pricing._marks import ACROSS_VENUES, MARK, RUNG, UNKNOWN, Marks
from seawall.operators.core.pricing._option_models import (
    DAYS_PER_YEAR,
    MarkState,
    black_valuation,
    black_value,
    implied_volatility,
    settlement_value,
    years_to_expiry,
)
from seawall.schemas import events as ev
from seawall.schemas.records import Marks as MarkColumns

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
NO_ROW = -1
DISTANCE_MAX = 1_000_000.0  # stands for infinity, as the largest ratio does (contract.md, "Ratios")


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


class OptionSheet:
    """Options of one shard.

    Attributes
    ----------
    greeks
        Rows delta, gamma, vega, the forward, and theta, by option; valid after :meth:`refresh`.
    value
        By option, in quote currency per unit of underlying; NaN where volatility or forward is not known.
    volatility
        Of every option the last known: 0 where its mark holds no time value, NaN where none ever told any.
    """

    def __init__(self, directory: Directory, marks: Marks) -> None:
        self._directory, self._marks = directory, marks
        self.terms = _terms([], directory)
        self.marked = Columns({"price": "f8", "forward": "f8", "time_us": "i8", "quoted": "f8"})
        self.priced = Columns({"forward": "f8", "volatility": "f8", "us": "i8"})  # what each was last valued at
        self.greeks: F8 = np.zeros((5, 0))
        self.value: F8 = np.zeros(0)
        self.volatility: F8 = np.zeros(0)
        self._marks_of: tuple[int, I8, I8] = (-1, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self.repriced = 0  # raised whenever any greek changes
        self._scale: F8 | None = None  # between two calls of ``refresh``

    def __len__(self) -> int:
        return len(self.terms.instrument)

    def learn(self) -> None:
        """Take the options that the directory knows; rows of those that were known stay."""
        self.terms = _terms(self._directory.instrument_records, self._directory)
        more = len(self) - self.marked.size
        if more:
            self.marked.append(more, price=np.nan, forward=np.nan, quoted=np.nan)
            self.priced.append(more)
        self._forget()

    def take(self, marks: MarkColumns) -> None:
        """Take the option marks of a slice, after :class:`Marks` has: those that it let stand."""
        rows = self.terms.row[int_array(marks.instrument)]
        chosen = np.flatnonzero(rows >= 0)
        if not len(chosen):
            return
        across = self._marks.across()[self.terms.instrument[rows[chosen]]]
        mark_rows, marked = self._marks.rows, self.marked
        kind = np.array([RUNG.get(kind, UNKNOWN) for kind in marks.kind])[chosen] if marks.kind else MARK
        taken = int_array(marks.time_us)[chosen] == mark_rows["time_us"][across]
        taken &= kind == mark_rows["standing"][across]
        chosen, across, at = chosen[taken], across[taken], rows[chosen[taken]]
        volatility = (
            float_array(marks.implied_volatility)[chosen] if marks.implied_volatility else np.full(len(chosen), -1.0)
        )
        columns = (
            mark_rows["price"][across],
            self.forwards()[at],
            mark_rows["time_us"][across],
            np.where(volatility > 0, volatility, np.nan),
        )
        found = self._implied(at, *columns)
        usable = np.isfinite(found) | np.isnan(self.volatility[at])  # of a mark that tells none the last known stands
        self.volatility[at[usable]] = found[usable]
        for name, column in zip(("price", "forward", "time_us", "quoted"), columns, strict=True):
            marked[name][at[usable]] = column[usable]

    def forwards(self) -> F8:
        """Return the mark of every option's forward, NaN where it has none."""
        forward = self.terms.forward
        prices = self._marks.rows["price"][self._marks.across()[np.maximum(forward, 0)]]
        found: F8 = np.where(forward >= 0, prices, np.nan)
        return found

    def refresh(self, at: I8, as_of_us: int) -> None:
        """Value the rows ``at`` at a time, and bring their greeks up to date."""
        rows = self.priced
        rows["forward"][at], rows["volatility"][at], rows["us"][at] = (
            self.forwards()[at],
            self.volatility[at],
            as_of_us,
        )
        self._price(at)
        self.apply_values()

    def values_at(self, at: I8, forward: F8) -> F8:
        """Return the values of rows ``at`` on other forwards, or rows of them, all else as they were last priced."""
        terms, inputs = self.terms, self.priced
        left = years_to_expiry(terms.expiry_us[at], inputs["us"][at])
        return black_value(forward, terms.strike[at], left, inputs["volatility"][at], terms.call[at], terms.rate[at])

    def apply_values(self) -> None:
        """Value what marks say of options at the values of now, but for marks of venues' own."""
        self._scale = None
        marks, terms, arrays = self._marks, self.terms, self._directory.arrays
        if self._marks_of[0] != marks.rows.size:
            option = terms.row[marks.rows["instrument"]]
            at = (option >= 0).nonzero()[0]
            self._marks_of = marks.rows.size, at, option[at]
        _, at, option = self._marks_of
        own = (marks.rows["venue"][at] != ACROSS_VENUES) & ~np.isnan(marks.rows["price"][at])
        past = terms.expiry_us[option] <= self.priced["us"][option]  # its last mark stands until it is settled
        known = np.isfinite(self.value[option]) & ~own & ~past
        prices, instrument = marks.rows["price"], terms.instrument[option]
        marked = np.where(np.isnan(prices[at]), prices[marks.across()[instrument]], prices[at])
        modelled = np.where(terms.coin[option], self.value[option] / self.greeks[3, option], self.value[option])
        value = np.where(known, modelled, np.where(np.isnan(marked), 0.0, marked))
        marks.unit[at] = arrays["size"][instrument] * value * marks.worth[at]

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
        bad = ~(np.isfinite(self.volatility[at]) & np.isfinite(self.forwards()[at]))
        return [self._directory.instrument_records[n].instrument for n in terms.instrument[at[bad]].tolist()]

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return what the sheet cannot compute again."""
        return {"marked": self.marked.snapshot(), "priced": self.priced.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot; the directory is restored."""
        self.terms = _terms(self._directory.instrument_records, self._directory)
        self.marked.restore(state["marked"])
        self.priced.restore(state["priced"])
        self._forget()

    def _forget(self) -> None:
        """Drop what was derived, and derive the greeks again from the inputs that they were computed at."""
        self._scale, self._marks_of = None, (-1, *self._marks_of[1:])
        names, self.value = ("price", "forward", "time_us", "quoted"), np.full(len(self), np.nan)
        self.volatility = self._implied(np.arange(len(self)), *(self.marked[name] for name in names))
        self.greeks = np.zeros((5, len(self)))
        self._price(np.flatnonzero(self.priced["us"]))

    def _implied(self, at: I8, price: F8, forward: F8, time_us: I8, quoted: F8) -> F8:
        """Return the volatilities by marks of rows: those that came with them, else the implied, NaN for none."""
        terms, found = self.terms, quoted.copy()
        left = np.isnan(quoted).nonzero()[0]
        if len(left):
            at, forward = at[left], forward[left]
            value = price[left] * np.where(terms.coin[at], forward, 1.0)
            years = years_to_expiry(terms.expiry_us[at], time_us[left])
            solved = implied_volatility(value, forward, terms.strike[at], years, terms.call[at], terms.rate[at])
            found[left] = np.where(solved.state == MarkState.BELOW_INTRINSIC, 0.0, solved.volatility)
        return found

    def _price(self, at: I8) -> None:
        """Compute value and greeks of rows at the inputs that ``priced`` holds."""
        if not len(at):
            return
        self.repriced += 1
        terms, inputs = self.terms, self.priced
        forward = np.where(np.isfinite(inputs["forward"][at]), inputs["forward"][at], terms.strike[at])
        left = years_to_expiry(terms.expiry_us[at], inputs["us"][at])
        volatility = inputs["volatility"][at]
        known = np.isfinite(volatility) & np.isfinite(inputs["forward"][at])
        found = black_valuation(
            forward, terms.strike[at], left, np.where(known, volatility, 0.0), terms.call[at], terms.rate[at]
        )
        delta = np.where(known, found.delta, np.where(terms.call[at], 1.0, -1.0))
        gamma, theta = found.gamma * forward * forward * 0.01, found.theta / DAYS_PER_YEAR
        self.greeks[:, at] = delta * forward, gamma, found.vega * 0.01, forward, theta
        self.value[at] = np.where(known, found.value, np.nan)


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
        # A premium that is settled every day is not discounted: nothing of it is paid ahead.
        rate=np.array([float(r.discount_rate) if r.premium == "upfront" else 0.0 for _, r in options]),
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


# Option books: what options of accounts gain at a move of all forwards together.

DOWN = -np.array([0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 0.99])
UP = np.array([0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0])
GRID = np.concatenate([DOWN, UP])
REFINEMENTS_MAX = 16  # evaluations within one step of a grid; five do, but at the edge of an option about to expire
ROUNDING = 1e-9  # of all that is summed to a health: far more than rounding of sums and values makes of it
CLOSE = 1e-13  # of what is there: nearer to 0 a health is 0


class OptionBook(NamedTuple):
    """The option positions of a shard whose values are known, a row each.

    ``accounts`` are those that hold any, ``member`` is the place of each row's account among them. ``held`` is signed
    and in units of the option's value in the reporting currency, ``rated`` the maintenance margin per move of 1,
    ``delta`` the gain per move of 1 by the tangent, ``forward`` and ``value`` are those of now.
    """

    accounts: I8
    member: I8
    held: F8
    rated: F8
    delta: F8
    option: I8
    forward: F8
    value: F8
    sheet: OptionSheet

    @classmethod
    def of(
        cls, directory: Directory, positions: Positions, sheet: OptionSheet, at: I8, option: I8
    ) -> "OptionBook | None":
        """Return the option book of positions as they were last valued, None where there is none.

        ``at`` are the rows of positions in options, ``option`` the row of the sheet of each.
        """
        rows = positions.rows
        known = (rows["units"][at] != 0) & np.isfinite(sheet.value[option])
        at, option = at[known], option[known]
        if not len(at):
            return None
        arrays, number = directory.arrays, rows["instrument"][at]
        accounts, member = np.unique(rows["account"][at], return_inverse=True)
        held = rows["size"][at] * sheet.scale()[option]
        forward = sheet.greeks[3, option]
        rate = arrays["class_maintenance"][arrays["class"][number]]
        rated = np.abs(held) * forward * rate
        delta = held * sheet.greeks[0, option]
        return cls(accounts, member, held, rated, delta, option, forward, sheet.value[option], sheet)

    def sum(self, rows: F8) -> F8:
        """Return the sum of rows by account."""
        return sum_by(self.member, rows, len(self.accounts))

    def gained(self, moves: F8) -> F8:
        """Return what options and the margins rated on them gain at a move of each account's forwards."""
        move = moves[self.member]
        worth = self.sheet.values_at(self.option, self.forward * (1.0 + move))
        return self.sum(self.held * (worth - self.value) - self.rated * move)

    def gained_on_grid(self, wanted: B1) -> F8:
        """Return `gained` at moves of the grid, of shape (moves, accounts): an option is valued once for all.

        Of moves that are not ``wanted`` it is infinite.
        """
        held = np.zeros(len(self.sheet), dtype=bool)
        held[self.option] = True
        options, at, moves = np.flatnonzero(held), (np.cumsum(held) - 1)[self.option], GRID[wanted]
        forward = self.sheet.greeks[3, options] * (1.0 + moves[:, None])
        worth = self.sheet.values_at(options, forward) - self.sheet.value[options]
        gain = np.full((len(GRID), len(self.accounts)), np.inf)
        gain[wanted] = [
            self.sum(self.held * row[at] - self.rated * move) for move, row in zip(moves, worth, strict=True)
        ]
        return gain

    def undecided(self, rest: F8, known: B1) -> B1:
        """Return the moves of the grid to value: at all others each health that is not ``known`` to be lost is left.

        ``rest`` is health at each move without what options gain. A long option loses its value at most, and that in
        the direction away from it; a short one the move of the forward at most, since no delta is beyond 1. The move
        before one to value is needed too, and the last two for the line beyond.
        """
        terms, move = self.sheet.terms, np.abs(GRID)[:, None]
        call, strike = terms.call[self.option], terms.strike[self.option]
        lost = np.where(self.held > 0, self.held * self.value, 0.0)
        short = np.where(self.held < 0, -self.held * self.forward, 0.0)
        down = self.sum(lost * call) + move[: len(DOWN)] * self.sum(short * ~call)
        up = self.sum(lost * ~call) + move[len(DOWN) :] * self.sum(short * call)
        rated, size = self.sum(self.rated), self.sum(np.abs(self.held) * (self.forward + strike))
        left = rest - GRID[:, None] * rated - np.concatenate([down, up])
        rounding = ROUNDING * (np.abs(rest) + (1.0 + move) * (size + rated))
        found: B1 = ~((left > rounding) | known).all(axis=1) | bool((terms.rate < 0).any())
        found[:-1] |= found[1:]
        found[-2:] = True
        return found

    def of_accounts(self, chosen: NDArray[np.bool_]) -> "OptionBook":
        """Return the book of some of the accounts."""
        rows, place = chosen[self.member], np.cumsum(chosen) - 1
        return OptionBook(
            accounts=self.accounts[chosen],
            member=place[self.member[rows]],
            held=self.held[rows],
            rated=self.rated[rows],
            delta=self.delta[rows],
            option=self.option[rows],
            forward=self.forward[rows],
            value=self.value[rows],
            sheet=self.sheet,
        )

    def distances(self, equity: F8, maintenance: F8, slope: F8, curve: F8) -> F8:
        """Return the nearest move that takes the health of each of ``accounts`` to 0, 1,000,000 for none.

        All of an account's health but the values of its options and the margins rated on them is a parabola in the
        move, ``slope`` that of its tangent with them and ``curve`` the gain per square of the move. A grid finds the
        first step in each direction that leaves no health, `_refined` where in it that begins. Beyond the grid the
        line through its last two moves counts.
        """
        line, health = slope - self.sum(self.delta), equity - maintenance
        moves = GRID[:, None] * np.ones(len(health))
        rest = health + moves * line + moves * moves * curve
        wanted = self.undecided(rest, health <= 0)
        ways = np.split(rest + self.gained_on_grid(wanted), [len(DOWN)])
        steps = [_first_lost(grid, way, health) for grid, way in zip((DOWN, UP), ways, strict=True)]
        ends = [np.fmin(np.abs(step[1]), DISTANCE_MAX) for step in steps]  # DISTANCE_MAX: nothing is lost that way
        nearest = np.full(len(health), DISTANCE_MAX)
        for step, own, other in zip(steps, ends, ends[::-1], strict=True):
            tried = (own < DISTANCE_MAX) & (np.abs(step[0]) < other) & (health > 0)
            if tried.any():
                found = self.of_accounts(tried)._refined(step[:, tried], health[tried], line[tried], curve[tried])
                nearest[tried] = np.minimum(nearest[tried], np.abs(found))
        up = ways[1]
        falls = (up[-2] - up[-1]) / (UP[-1] - UP[-2])  # of the moves upwards, which have no end
        beyond = (up > 0).all(axis=0) & (falls > 0)
        nearest[beyond] = np.minimum(nearest[beyond], UP[-1] + up[-1, beyond] / falls[beyond])
        nearest[health <= 0] = 0.0
        nearest[maintenance <= 0] = DISTANCE_MAX
        return nearest

    def _refined(self, step: F8, health: F8, line: F8, curve: F8) -> F8:
        """Return the move in a step of the grid at which health is 0, by the method of Anderson and Björck (1973)."""
        near, far, before, after = step
        kept = np.zeros(
            len(health), dtype=np.int64
        )  # which end the last evaluation replaced: 1 the near one, -1 the far
        for _ in range(REFINEMENTS_MAX):
            move = far - after * (far - near) / (after - before)
            now: F8 = health + move * line + move * move * curve + self.gained(move)
            left = now > 0
            bent = 1.0 - now / np.where(left, before, np.where(after < 0, after, 1.0))
            bent = np.where(kept == np.where(left, 1, -1), np.where(bent > 0, bent, 0.5), 1.0)
            near, before = np.where(left, move, near), np.where(left, now, before * bent)
            far, after = np.where(left, far, move), np.where(left, after * bent, now)
            kept = np.where(left, 1, -1)
            if (np.abs(now) <= CLOSE * health).all():
                break
        found: F8 = far - after * (far - near) / (after - before)
        return found


def _first_lost(grid: F8, left: F8, health: F8) -> F8:
    """Return the step of a grid in which each health is lost: both ends, and the health at them; NaN for none."""
    lost: NDArray[np.bool_] = left <= 0
    first, each = lost.argmax(axis=0), np.arange(len(health))
    steps = np.stack(
        [np.append(0.0, grid)[first], grid[first], np.concatenate([health[None], left])[first, each], left[first, each]]
    )
    return np.where(lost.any(axis=0), steps, np.nan)
