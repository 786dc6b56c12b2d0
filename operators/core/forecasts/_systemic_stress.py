"""Systemic stress: six indicators, and one composite of them from 0 (calm) to 1 (crisis), once a minute of event time.

`ReturnComovement` gives turbulence and the absorption ratio, `EwmStatistics` what is usual, `SystemicStress` the whole.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import eigenvalues, exp, log, mahalanobis, ordered_sums
from seawall.operators.core.forecasts._cascades import Claim, claims_network, debt_rank_centralities

# Usual values: exponentially weighted mean and deviation of some values, and how far from them one lies today.

F8 = NDArray[np.float64]
WARM_HOURS_MIN: Final = 48.0  # weight of observations from which a deviation is known


class EwmStatistics:
    """Mean and deviation of values that are observed once an hour; values are numbered, more may come.

    Parameters
    ----------
    fade
        Weight of an observation an hour later.
    floor
        The least deviation: what moves by less has not moved.

    References
    ----------
    D. H. D. West, "Updating mean and variance estimates", Communications of the ACM 22 (1979).
    """

    def __init__(self, fade: float, floor: float) -> None:
        self._fade, self._floor = fade, floor
        self._rows: F8 = np.zeros((3, 0))  # weight, mean, variance

    def stretch(self, values: F8) -> F8:
        """Return by how many deviations each value differs from its mean, NaN where one of them is unknown."""
        self._grow(len(values))
        weight, mean, variance = self._rows[:, : len(values)]
        off = (values - mean) / np.maximum(np.sqrt(variance), self._floor)
        return np.where(weight >= WARM_HOURS_MIN, off, np.nan)

    def learn(self, values: F8) -> None:
        """Take the values of an hour; NaN is none."""
        self._grow(len(values))
        known = np.isfinite(values).nonzero()[0]
        weight, mean, variance = self._rows[:, known]
        before = self._fade * weight
        weight = before + 1.0
        off = values[known] - mean
        after = mean + off / weight
        variance = (before * variance + off * (values[known] - after)) / weight
        self._rows[:, known] = np.stack([weight, after, variance])

    def _grow(self, count: int) -> None:
        more = count - self._rows.shape[1]
        if more > 0:
            self._rows = np.concatenate([self._rows, np.zeros((3, more))], axis=1)

    def snapshot(self) -> Any:
        """Return the state as an array."""
        return self._rows.copy()

    def restore(self, state: Any) -> None:
        """Take the state of a snapshot."""
        self._rows = state


# Comovement of assets: returns of an hour against what is usual, as turbulence and as an absorption ratio.
#
# Turbulence is the Mahalanobis distance of the returns of the last 60 minutes from none, by the covariance of all hours
# before the one in which they began, per asset: 1 on average. It is seen every minute, learned from once an hour.
#
# The absorption ratio is the share of the first fifth of the eigenvectors in the variance of all standardised returns:
# how much one cause explains. It is taken over about a day, and compared with what it usually is.
#
# Correlations lie between those observed and none, ``n / (n + hours)`` of the latter and at least a twentieth, so a
# covariance can be inverted however few the hours and however alike the assets; the state then says ``singular``.
#
# References
# ----------
# M. Kritzman, Y. Li, "Skulls, financial turbulence, and risk management", Financial Analysts Journal 66 (2010).
# M. Kritzman, Y. Li, S. Page, R. Rigobon, "Principal components as a measure of systemic risk", Journal of Portfolio
# Management 37 (2011).

I8 = NDArray[np.int64]
ASSETS_MAX: Final = 48  # the first underlyings that came to be priced
HOUR_MIN: Final = 60  # minutes
FADES: Final = (0.99711590, 0.97153194)  # per hour: half-lives of ten days and of one
WARM_HOURS: Final = 48.0
SHARE_MIN: Final = 0.05  # of no correlation
CLIP: Final = 6.0  # deviations: what is learned of a single hour
SINGULAR: Final = 1e-9  # of the mean eigenvalue
SHIFT_MIN: Final = 0.01  # the least deviation of the absorption ratio
WARMING, CONSTANT, IS_SINGULAR, READY = "warming", "constant", "singular", "ready"


class ReturnComovement:
    """Turbulence and absorption ratio of the prices of some assets; assets are numbered, more may come."""

    def __init__(self) -> None:
        self._minutes: list[int] = []  # of the prices kept: those of the last hour, and the last before
        self._prices: list[F8] = []  # logarithms
        self._last: F8 = np.zeros(0)  # logarithms of prices at the last full hour
        self._hour = -1
        self._pending: F8 = np.zeros(0)  # the returns of the last full hour, not learned yet
        self._sums = [np.zeros((0, 0)) for _ in FADES]  # of products, long and short
        self._weights: F8 = np.zeros(0)  # hours known of each, faded as the long sums
        self._usual = EwmStatistics(FADES[0], SHIFT_MIN)
        self.turbulence, self.absorption, self.shift = 0.0, 0.0, 0.0
        self.state = self.absorption_state = WARMING

    def look(self, minute: int, price: F8) -> None:
        """Take prices (NaN: none) as they stand at the end of a minute of event time."""
        now = log(price[:ASSETS_MAX])
        self._grow(len(now))
        hour = minute // HOUR_MIN
        if hour != self._hour:
            self._end_hour(now, hour)
        self.state, self.turbulence = self._turbulence(minute, now)
        self._minutes.append(minute)
        self._prices.append(now)

    # --- a minute ---------------------------------------------------------------------------------------------------

    def _turbulence(self, minute: int, now: F8) -> tuple[str, float]:
        while len(self._minutes) > 1 and self._minutes[1] <= minute - HOUR_MIN:
            del self._minutes[0], self._prices[0]
        if not self._minutes:
            return WARMING, 0.0
        elapsed = max(minute - self._minutes[0], HOUR_MIN)
        then = np.append(self._prices[0], np.full(len(now) - len(self._prices[0]), np.nan))
        returns = (now - then) * float(np.sqrt(HOUR_MIN / elapsed))
        known = np.isfinite(returns) & (self._weights >= WARM_HOURS)
        variance = self._sums[0].diagonal() / np.maximum(self._weights, 1.0)
        at = (known & (variance > 0)).nonzero()[0]
        if len(at) < 2:
            return (CONSTANT if np.count_nonzero(known) >= 2 else WARMING), 0.0
        units = returns[at] / np.sqrt(variance[at])
        correlation, singular = self._correlation(0, at)
        return (IS_SINGULAR if singular else READY), mahalanobis(correlation, units) / len(at)

    # --- an hour ----------------------------------------------------------------------------------------------------

    def _end_hour(self, now: F8, hour: int) -> None:
        """Learn the hour before the one that ends; the returns of the one that ends wait."""
        if self._hour >= 0:
            self._learn(self._pending)
            self._pending = (now - self._last) / float(np.sqrt(hour - self._hour))
            self.absorption_state, self.absorption, self.shift = self._absorption()
        self._last, self._hour = now, hour

    def _learn(self, returns: F8) -> None:
        returns = np.append(returns, np.full(len(self._last) - len(returns), np.nan))
        known = np.isfinite(returns)
        deviation = np.sqrt(self._sums[0].diagonal() / np.maximum(self._weights, 1.0))
        most = np.where(self._weights >= WARM_HOURS, CLIP * np.maximum(deviation, 1e-6), np.inf)
        taken = np.where(known, np.minimum(np.maximum(np.where(known, returns, 0.0), -most), most), 0.0)
        for at, fade in enumerate(FADES):
            self._sums[at] = fade * self._sums[at] + taken[:, None] * taken[None, :]
        self._weights = FADES[0] * self._weights + known

    def _absorption(self) -> tuple[str, float, float]:
        """Return the state, the ratio of the last day, and by how many deviations it is more than usual."""
        at = ((self._weights >= WARM_HOURS) & (self._sums[1].diagonal() > 0)).nonzero()[0]
        if len(at) < 2:
            return (CONSTANT if np.count_nonzero(self._weights >= WARM_HOURS) >= 2 else WARMING), 0.0, 0.0
        sums = self._sums[1][np.ix_(at, at)]
        scale = np.sqrt(sums.diagonal())
        found = eigenvalues(sums / (scale[:, None] * scale[None, :]))
        first = -(-len(at) // 5)
        ratio = float(found[:first].cumsum()[-1] / found.cumsum()[-1])
        shift = self._usual.stretch(np.array([ratio])).item(0)
        self._usual.learn(np.array([ratio]))
        return (READY, ratio, shift) if shift == shift else (WARMING, ratio, 0.0)  # noqa: PLR0124 (known)

    def _correlation(self, at: int, of: I8) -> tuple[F8, bool]:
        """Return the correlations of some assets, drawn to none, and whether those observed are singular."""
        sums = self._sums[at][np.ix_(of, of)]
        scale = np.sqrt(sums.diagonal())
        observed = sums / (scale[:, None] * scale[None, :])
        hours = float(self._weights[of].min())
        share = max(len(of) / (len(of) + hours), SHARE_MIN)
        drawn = (1.0 - share) * observed
        drawn[np.arange(len(of)), np.arange(len(of))] = 1.0
        return drawn, _is_singular(observed)

    def _grow(self, count: int) -> None:
        more = count - len(self._last)
        if more > 0:
            none = np.full(more, np.nan)
            self._last, self._pending = np.append(self._last, none), np.append(self._pending, none)
            self._sums = [np.pad(sums, ((0, more), (0, more))) for sums in self._sums]
            self._weights = np.append(self._weights, np.zeros(more))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Return the state as plain values and arrays."""
        learned = [self._last, self._pending, *self._sums, self._weights, self._usual.snapshot()]
        said = [self.turbulence, self.absorption, self.shift, self.state, self.absorption_state]
        return [list(self._minutes), list(self._prices), self._hour, learned, said]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        self._minutes, self._prices, self._hour, learned, said = state
        self._last, self._pending, long, short, self._weights, usual = learned
        self._sums = [long, short]
        self._usual.restore(usual)
        self.turbulence, self.absorption, self.shift, self.state, self.absorption_state = said


def _is_singular(correlation: F8) -> bool:
    """Tell whether a correlation matrix has a pivot of nothing: some asset is a sum of others."""
    left = correlation.copy()
    for at in range(len(left)):
        pivot = left.item(at, at)
        if pivot < SINGULAR:
            return True
        left[at + 1 :, at + 1 :] -= left[at + 1 :, at : at + 1] * left[at : at + 1, at + 1 :] / pivot
    return False


# Systemic stress: six indicators, and one composite of them from 0 (calm) to 1 (crisis), once a minute of event time.
#
# =======================  ===============================================  =============================  ========
# part                     its value                                        its score is 0 ... 1 at        weight
# =======================  ===============================================  =============================  ========
# ``turbulence``           squared distance of the last hour's returns       typical move of 1 ... 6         0.8
#                          per asset                                         deviations
# ``absorption_ratio``     share of the first eigenvectors in the variance   1 ... 3 deviations above        0.4
#                          of a day                                          what it usually is
# ``funding_stretch``      mean distance of perpetuals' funding rates from   1 ... 4 deviations              0.3
#                          what they usually are, in deviations
# ``open_interest_stretch``  the same of logarithms of open interest         1 ... 4 deviations              0.3
# ``stablecoin_share``     share of stablecoins in all collateral            0 ... 5 % of all collateral     0.6
#                                                                            lost to broken pegs
# ``network_centrality``   share of all others' own funds that the default   0 ... half of them              0.5
#                          of one counterparty would cost
# =======================  ===============================================  =============================  ========
#
# The composite is ``1 - (1 - w_1 s_1) (1 - w_2 s_2) ...``: each part alone takes it to its weight, several further,
# and one that is calm, or of which nothing is known, takes nothing away. Scores of turbulence rise at once and fade
# with a half-life of six hours: a crisis does not end with the hour that began it. The composite's worst of each of the
# last 720 hours is its history; ``rank`` is the share of them that today is above.

INDICATOR_WEIGHTS: Final = {
    "turbulence": 0.8,
    "absorption_ratio": 0.4,
    "funding_stretch": 0.3,
    "open_interest_stretch": 0.3,
    "stablecoin_share": 0.6,
    "network_centrality": 0.5,
}
STRESS_ALARM: Final = 0.6  # the level that benchmarks and examples take for an alarm
FADE_PER_MINUTE: Final = float(exp(log(0.5) / 360.0))
USUAL_FADE: Final = 0.99588262  # per hour: a half-life of seven days
FUNDING_FLOOR: Final = 1e-5  # per eight hours: the least deviation of a rate
INTEREST_FLOOR: Final = 0.01
PEG_LOST: Final = 0.05
CENTRALITY_MAX: Final = 0.5
HISTORY_MAX: Final = 720
EMPTY_STATE = "empty"


class MarketState(NamedTuple):
    """State of markets and counterparties at the end of a minute.

    ``price`` by underlying; ``funding`` (per eight hours) and ``interest`` (units) by instrument, NaN where unknown;
    ``collateral``: all of it, that in stablecoins, and what these lack to their pegs; who owes whom, and own funds.
    """

    price: F8
    funding: F8
    interest: F8
    collateral: F8
    claims: list[Claim]
    own_funds: dict[str, float]


class Indicator(NamedTuple):
    """An indicator: its value, its score from 0 to 1, and whether it is known."""

    value: float
    score: float
    state: str


UNKNOWN_INDICATOR: Final = Indicator(0.0, 0.0, WARMING)


class SystemicStress:
    """The indicators and their composite, with what they have to remember."""

    def __init__(self) -> None:
        self._moves = ReturnComovement()
        self._funding, self._interest = (
            EwmStatistics(USUAL_FADE, FUNDING_FLOOR),
            EwmStatistics(USUAL_FADE, INTEREST_FLOOR),
        )
        self._minute, self._hour, self._held = -1, -1, 0.0
        self._history: F8 = np.zeros(0)  # of past hours
        self._worst = 0.0  # of this hour
        self.parts = dict.fromkeys(INDICATOR_WEIGHTS, UNKNOWN_INDICATOR)
        self.central = ""  # whose default would cost most

    @property
    def stress(self) -> float:
        """The composite."""
        calm = 1.0
        for name, weight in INDICATOR_WEIGHTS.items():
            calm *= 1.0 - weight * self.parts[name].score
        return 1.0 - calm

    @property
    def rank(self) -> float:
        """The share of past hours whose worst was below the composite now, 0 without any."""
        past = len(self._history)
        return float(np.count_nonzero(self._history < self.stress)) / past if past else 0.0

    def look(self, minute: int, markets: MarketState) -> None:
        """Take what is known at the end of a minute of event time."""
        self._moves.look(minute, markets.price)
        self._turn(minute // HOUR_MIN)
        rates, interest = markets.funding, log(markets.interest)
        self.parts = {
            "turbulence": self._turbulence(minute),
            "absorption_ratio": self._absorption(),
            "funding_stretch": _stretched(self._funding.stretch(rates)),
            "open_interest_stretch": _stretched(self._interest.stretch(interest)),
            "stablecoin_share": _stablecoins(markets.collateral),
            "network_centrality": self._centrality(markets),
        }
        if minute // HOUR_MIN != self._hour:
            self._funding.learn(rates)
            self._interest.learn(interest)
        self._minute, self._hour = minute, minute // HOUR_MIN
        self._worst = max(self._worst, self.stress)

    def row(self) -> dict[str, Any]:
        """Return the composite and its parts as they are published."""
        parts = {name: {**part._asdict(), "weight": INDICATOR_WEIGHTS[name]} for name, part in self.parts.items()}
        head = {"systemic_stress": self.stress, "rank": self.rank, "hours": len(self._history)}
        return {**head, "most_central": self.central, "parts": parts}

    # --- parts ------------------------------------------------------------------------------------------------------

    def _turbulence(self, minute: int) -> Indicator:
        moves = self._moves
        passed = float(minute - self._minute) if self._minute >= 0 else 0.0
        faded = self._held * float(exp(passed * log(FADE_PER_MINUTE)))
        self._held = max(faded, _ramp(float(np.sqrt(moves.turbulence)), 1.0, 6.0))
        return Indicator(moves.turbulence, self._held, moves.state)

    def _absorption(self) -> Indicator:
        moves = self._moves
        return Indicator(moves.absorption, _ramp(moves.shift, 1.0, 3.0), moves.absorption_state)

    def _centrality(self, markets: MarketState) -> Indicator:
        of = claims_network(markets.claims, markets.own_funds)
        funded = np.count_nonzero(of.own_funds > 0)
        if funded < 2:
            self.central = ""
            return Indicator(0.0, 0.0, EMPTY_STATE if not markets.claims else "no_own_funds")
        found = debt_rank_centralities(of)
        worst = int(found.argmax())
        self.central = of.names[worst] if found[worst] > 0 else ""
        return Indicator(found.item(worst), _ramp(found.item(worst), 0.0, CENTRALITY_MAX), READY)

    def _turn(self, hour: int) -> None:
        if hour != self._hour:
            if self._hour >= 0:
                self._history = np.append(self._history, self._worst)[-HISTORY_MAX:]
            self._worst = 0.0

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> list[Any]:
        """Return the state as plain values and arrays."""
        usual = [self._funding.snapshot(), self._interest.snapshot()]
        times = [self._minute, self._hour, self._held, self._worst, self.central]
        parts = [list(part) for part in self.parts.values()]
        return [self._moves.snapshot(), usual, times, self._history.copy(), parts]

    def restore(self, state: list[Any]) -> None:
        """Take the state of a snapshot."""
        moves, (funding, interest), times, self._history, parts = state
        self._moves.restore(moves)
        self._funding.restore(funding)
        self._interest.restore(interest)
        self._minute, self._hour, self._held, self._worst, self.central = times
        self.parts = {name: Indicator(*part) for name, part in zip(INDICATOR_WEIGHTS, parts, strict=True)}


def _stretched(off: F8) -> Indicator:
    """Return the mean distance of those that have a usual one."""
    far = np.abs(off[np.isfinite(off)])
    if not len(far):
        return UNKNOWN_INDICATOR
    mean = float(ordered_sums(far) / len(far))
    return Indicator(mean, _ramp(mean, 1.0, 4.0), READY)


def _stablecoins(collateral: F8) -> Indicator:
    total, stable, lost = collateral.tolist()
    if not total > 0:
        return Indicator(0.0, 0.0, EMPTY_STATE)
    return Indicator(stable / total, _ramp(lost / total, 0.0, PEG_LOST), READY)


def _ramp(value: float, calm: float, crisis: float) -> float:
    return min(max((value - calm) / (crisis - calm), 0.0), 1.0)
