"""Systemic stress: six indicators, and one composite of them from 0 (calm) to 1 (crisis), once a minute of event time.

=======================  ===============================================  =============================  ========
part                     its value                                        its score is 0 ... 1 at        weight
=======================  ===============================================  =============================  ========
``turbulence``           squared distance of the last hour's returns       typical move of 1 ... 6         0.8
                         per asset (``comovement``)                        deviations
``absorption_ratio``     share of the first eigenvectors in the variance   1 ... 3 deviations above        0.4
                         of a day (``comovement``)                         what it usually is
``funding_stretch``      mean distance of perpetuals' funding rates from   1 ... 4 deviations              0.3
                         what they usually are, in deviations
``open_interest_stretch``  the same of logarithms of open interest         1 ... 4 deviations              0.3
``stablecoin_share``     share of stablecoins in all collateral            0 ... 5 % of all collateral     0.6
                                                                           lost to broken pegs
``network_centrality``   share of all others' own funds that the default   0 ... half of them              0.5
                         of one counterparty would cost (``contagion``)
=======================  ===============================================  =============================  ========

The composite is ``1 - (1 - w_1 s_1) (1 - w_2 s_2) ...``: each part alone takes it to its weight, several further,
and one that is calm, or of which nothing is known, takes nothing away. Scores of turbulence rise at once and fade with
a half-life of six hours: a crisis does not end with the hour that began it. The composite's worst of each of the last
720 hours is its history; ``rank`` is the share of them that today is above.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals
from seawall.operators.core.foresight.comovement import HOUR_MIN, READY, WARMING, Comovement
from seawall.operators.core.foresight.contagion import Claim, centralities, network
from seawall.operators.core.foresight.usual import Usual
from seawall.operators.core.valuation.arithmetic import exp, log

F8 = NDArray[np.float64]
WEIGHTS: Final = {
    "turbulence": 0.8,
    "absorption_ratio": 0.4,
    "funding_stretch": 0.3,
    "open_interest_stretch": 0.3,
    "stablecoin_share": 0.6,
    "network_centrality": 0.5,
}
ALARM: Final = 0.6  # the level that benchmarks and examples take for an alarm
FADE_PER_MINUTE: Final = float(exp(log(0.5) / 360.0))
USUAL_FADE: Final = 0.99588262  # per hour: a half-life of seven days
FUNDING_FLOOR: Final = 1e-5  # per eight hours: the least deviation of a rate
INTEREST_FLOOR: Final = 0.01
PEG_LOST: Final = 0.05
CENTRAL: Final = 0.5
HISTORY_MAX: Final = 720
EMPTY = "empty"


class Told(NamedTuple):
    """What is known at the end of a minute.

    ``price`` by underlying; ``funding`` (per eight hours) and ``interest`` (units) by instrument, NaN where unknown;
    ``collateral``: all of it, that in stablecoins, and what these lack to their pegs; who owes whom, and own funds.
    """

    price: F8
    funding: F8
    interest: F8
    collateral: F8
    claims: list[Claim]
    own_funds: dict[str, float]


class Part(NamedTuple):
    """An indicator: its value, its score from 0 to 1, and whether it is known."""

    value: float
    score: float
    state: str


NONE: Final = Part(0.0, 0.0, WARMING)


class Systemic:
    """The indicators and their composite, with what they have to remember."""

    def __init__(self) -> None:
        self._moves = Comovement()
        self._funding, self._interest = Usual(USUAL_FADE, FUNDING_FLOOR), Usual(USUAL_FADE, INTEREST_FLOOR)
        self._minute, self._hour, self._held = -1, -1, 0.0
        self._history: F8 = np.zeros(0)  # of past hours
        self._worst = 0.0  # of this hour
        self.parts = dict.fromkeys(WEIGHTS, NONE)
        self.central = ""  # whose default would cost most

    @property
    def stress(self) -> float:
        """The composite."""
        calm = 1.0
        for name, weight in WEIGHTS.items():
            calm *= 1.0 - weight * self.parts[name].score
        return 1.0 - calm

    @property
    def rank(self) -> float:
        """The share of past hours whose worst was below the composite now, 0 without any."""
        past = len(self._history)
        return float(np.count_nonzero(self._history < self.stress)) / past if past else 0.0

    def look(self, minute: int, told: Told) -> None:
        """Take what is known at the end of a minute of event time."""
        self._moves.look(minute, told.price)
        self._turn(minute // HOUR_MIN)
        rates, interest = told.funding, log(told.interest)
        self.parts = {
            "turbulence": self._turbulence(minute),
            "absorption_ratio": self._absorption(),
            "funding_stretch": _stretched(self._funding.stretch(rates)),
            "open_interest_stretch": _stretched(self._interest.stretch(interest)),
            "stablecoin_share": _stablecoins(told.collateral),
            "network_centrality": self._centrality(told),
        }
        if minute // HOUR_MIN != self._hour:
            self._funding.learn(rates)
            self._interest.learn(interest)
        self._minute, self._hour = minute, minute // HOUR_MIN
        self._worst = max(self._worst, self.stress)

    def row(self) -> dict[str, Any]:
        """Return the composite and its parts as they are published."""
        parts = {name: {**part._asdict(), "weight": WEIGHTS[name]} for name, part in self.parts.items()}
        head = {"systemic_stress": self.stress, "rank": self.rank, "hours": len(self._history)}
        return {**head, "most_central": self.central, "parts": parts}

    # --- parts ------------------------------------------------------------------------------------------------------

    def _turbulence(self, minute: int) -> Part:
        moves = self._moves
        passed = float(minute - self._minute) if self._minute >= 0 else 0.0
        faded = self._held * float(exp(passed * log(FADE_PER_MINUTE)))
        self._held = max(faded, _ramp(float(np.sqrt(moves.turbulence)), 1.0, 6.0))
        return Part(moves.turbulence, self._held, moves.state)

    def _absorption(self) -> Part:
        moves = self._moves
        return Part(moves.absorption, _ramp(moves.shift, 1.0, 3.0), moves.absorption_state)

    def _centrality(self, told: Told) -> Part:
        of = network(told.claims, told.own_funds)
        funded = np.count_nonzero(of.own_funds > 0)
        if funded < 2:
            self.central = ""
            return Part(0.0, 0.0, EMPTY if not told.claims else "no_own_funds")
        found = centralities(of)
        worst = int(found.argmax())
        self.central = of.names[worst] if found[worst] > 0 else ""
        return Part(found.item(worst), _ramp(found.item(worst), 0.0, CENTRAL), READY)

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
        self.parts = {name: Part(*part) for name, part in zip(WEIGHTS, parts, strict=True)}


def _stretched(off: F8) -> Part:
    """Return the mean distance of those that have a usual one."""
    far = np.abs(off[np.isfinite(off)])
    if not len(far):
        return NONE
    mean = float(totals(far) / len(far))
    return Part(mean, _ramp(mean, 1.0, 4.0), READY)


def _stablecoins(collateral: F8) -> Part:
    total, stable, lost = collateral.tolist()
    if not total > 0:
        return Part(0.0, 0.0, EMPTY)
    return Part(stable / total, _ramp(lost / total, 0.0, PEG_LOST), READY)


def _ramp(value: float, calm: float, crisis: float) -> float:
    return min(max((value - calm) / (crisis - calm), 0.0), 1.0)
