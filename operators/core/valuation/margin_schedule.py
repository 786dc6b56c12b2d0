"""Margin rates as venues publish them: fixed, tiered by notional with a deduction, scaled by open interest.

Everything is elementwise over positions. Notionals are absolute amounts in one currency, rates fractions of notional.

References
----------
Binance, "Leverage and margin of USDⓈ-M futures": tiers with a maintenance amount that is deducted, so that the
requirement is continuous. dYdX v4 chain @84d4664, ``x/perpetuals/types/liquidity_tier.go`` (open-interest scaling) and
``x/liquidations/keeper/liquidations.go`` (fillable price).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
TIERS_MAX = 256


@dataclass(frozen=True, slots=True)
class Tier:
    """One step of a schedule: rates from a notional on, and what is deducted from the maintenance margin there."""

    notional_from: float
    initial_rate: float
    maintenance_rate: float
    deduction: float = 0.0


class ScheduleError(ValueError):
    """A schedule that cannot be: the instrument, the tier and the rule, in one line."""


@dataclass(frozen=True, slots=True)
class ScheduleTable:
    """The tiers of many instruments, arrays of shape (instruments, tiers) padded with tiers that begin at infinity."""

    notional_from: F8
    initial_rate: F8
    maintenance_rate: F8
    deduction: F8

    @classmethod
    def of(cls, schedules: Sequence[Sequence[Tier]]) -> "ScheduleTable":
        """Return the table of one schedule per instrument, in their order; a fixed rate is a schedule of one tier.

        Raises
        ------
        ScheduleError
            Where the tiers do not begin at 0, do not rise, or a rate is not in [0, 1] with maintenance <= initial.
        """
        width = max((len(tiers) for tiers in schedules), default=1)
        table = np.zeros((4, len(schedules), max(width, 1)))
        table[0] = np.inf
        for number, tiers in enumerate(schedules):
            _check(number, tiers)
            for place, tier in enumerate(tiers):
                table[:, number, place] = tier.notional_from, tier.initial_rate, tier.maintenance_rate, tier.deduction
        return cls(table[0], table[1], table[2], table[3])

    def margins(self, instrument: I8, notional: F8) -> tuple[F8, F8]:
        """Return initial and maintenance margin of positions, each at the tier of its own notional.

        Parameters
        ----------
        instrument : int64, shape (positions,)
            Row of the table.
        notional : float64, shape (positions,)
            Absolute notional.

        Returns
        -------
        tuple of float64, shape (positions,)
            Initial and maintenance margin; the maintenance margin never below 0.

        Examples
        --------
        >>> table = ScheduleTable.of([[Tier(0, 0.01, 0.005), Tier(50_000, 0.02, 0.01, 250)]])
        >>> [m.tolist() for m in table.margins(np.array([0, 0]), np.array([50_000.0, 100_000.0]))]
        [[1000.0, 2000.0], [250.0, 750.0]]
        """
        tier = np.count_nonzero(notional[:, None] >= self.notional_from[instrument], axis=1) - 1
        at = (instrument, np.maximum(tier, 0))
        maintenance = np.maximum(notional * self.maintenance_rate[at] - self.deduction[at], 0.0)
        return notional * self.initial_rate[at], maintenance

    def maintenance_slope(self, instrument: I8, notional: F8) -> F8:
        """Return the maintenance rate at the margin: the change of the requirement per unit of notional."""
        tier = np.count_nonzero(notional[:, None] >= self.notional_from[instrument], axis=1) - 1
        rates: F8 = self.maintenance_rate[instrument, np.maximum(tier, 0)]
        return rates


def continuous_deductions(tiers: Sequence[Tier]) -> list[Tier]:
    """Return the tiers with the deductions that make the maintenance margin continuous, for venues that print none.

    Examples
    --------
    >>> continuous_deductions([Tier(0, 0.01, 0.005), Tier(50_000, 0.02, 0.01)])[1].deduction
    250.0
    """
    result: list[Tier] = []
    deduction = previous = 0.0
    for tier in tiers:
        deduction += tier.notional_from * (tier.maintenance_rate - previous)
        previous = tier.maintenance_rate
        result.append(Tier(tier.notional_from, tier.initial_rate, tier.maintenance_rate, deduction))
    return result


def open_interest_scaled_rate(base: ArrayLike, open_interest: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> F8:
    """Return the initial margin rate, which rises from ``base`` to 1 as open interest goes from ``lower`` to ``upper``.

    ``open_interest`` and its bounds are notionals in one currency. An ``upper`` of 0 means that nothing is scaled.

    Examples
    --------
    >>> open_interest_scaled_rate(0.5, [0.0, 1.5e6, 9e6], 1e6, 2e6).tolist()
    [0.5, 0.75, 1.0]
    """
    rate, low, high = (np.asarray(x, np.float64) for x in (base, lower, upper))
    interest = np.asarray(open_interest, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(high > low, (interest - low) / (high - low), np.where(interest > high, 1.0, 0.0))
    scale = np.minimum(np.maximum(np.where(high > 0, scale, 0.0), 0.0), 1.0)
    scaled: F8 = np.minimum(rate + scale * (1.0 - rate), 1.0)
    return scaled


def fillable_price(
    position: ArrayLike,
    oracle_price: ArrayLike,
    position_maintenance: ArrayLike,
    net_collateral: ArrayLike,
    maintenance: ArrayLike,
    bankruptcy_adjustment: ArrayLike = 1.0,
    spread_to_maintenance: ArrayLike = 1.5,
) -> F8:
    """Return the worst price at which dYdX v4 lets a liquidation fill.

    Parameters
    ----------
    position
        Signed size.
    oracle_price
        Price of one unit; the net notional of the position is ``position x oracle_price``.
    position_maintenance
        Maintenance margin of this position.
    net_collateral, maintenance
        Total net collateral and total maintenance margin of the account.
    bankruptcy_adjustment, spread_to_maintenance
        Venue parameters; the second is a multiple of ``position_maintenance``.

    Examples
    --------
    >>> round(float(fillable_price(0.1, 50_000.0, 500.0, 499.0, 500.0, 1.0, 0.1)), 6)
    49999.0
    """
    size = np.asarray(position, np.float64)
    health = np.asarray(net_collateral, np.float64) / np.asarray(maintenance, np.float64)
    depth = np.minimum(np.maximum(np.asarray(bankruptcy_adjustment, np.float64) * (1.0 - health), 0.0), 1.0)
    spread = depth * np.asarray(spread_to_maintenance, np.float64) * np.asarray(position_maintenance, np.float64)
    price: F8 = (size * np.asarray(oracle_price, np.float64) - spread) / size
    return price


def _check(number: int, tiers: Sequence[Tier]) -> None:
    if not tiers or tiers[0].notional_from != 0 or len(tiers) > TIERS_MAX:
        raise ScheduleError(f"schedule {number}: TIERS_MUST_BEGIN_AT_0 and be 1 to {TIERS_MAX}")
    for place, tier in enumerate(tiers):
        if place and not tier.notional_from > tiers[place - 1].notional_from:
            raise ScheduleError(
                f"schedule {number}, tier {place}: NOTIONAL_FROM_MUST_RISE (got {tier.notional_from:g})"
            )
        if not 0 <= tier.maintenance_rate <= tier.initial_rate <= 1 or not tier.deduction >= 0:
            raise ScheduleError(
                f"schedule {number}, tier {place}: RATES_MUST_BE_0_TO_1_AND_MAINTENANCE_NOT_ABOVE_INITIAL"
            )
