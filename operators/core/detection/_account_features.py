"""Account features: six measures of behaviour per account, each against what is usual for this very account.

====================  ==============================================================================================
exposure velocity     growth of gross notional over the window, as a fraction of the larger of itself and of equity
utilisation jump      growth of the margin ratio over the window
fill rate             fills in the window
cancel rate           orders that ended without a fill in the window
concentration change  growth of the Herfindahl index of positions over the window
collateral delay      seconds since collateral was due under a margin call that is still open
====================  ==============================================================================================

The window forgets by ``w / (w + age)``, which needs no exponential. Usual is a mean and a variance, exponentially
weighted in Welford's form and learned robustly as in `RobustMoments`: a value z standard deviations out counts for
min(1, 4 / z²). The score is S / (S + 9) of the sum S of squared standard deviations above the mean.

Only + − × ÷ and comparisons in a fixed order (architecture.md, "Same bits"): one account at a time in plain Python and
many as arrays give the same bits, so how many accounts a slice touches decides speed only.
"""

from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base import Moment

F8 = NDArray[np.float64]
B1 = NDArray[np.bool_]

FEATURES = (
    "exposure_velocity",
    "utilisation_jump",
    "fill_rate",
    "cancel_rate",
    "concentration_change",
    "collateral_delay",
)
WINDOWED = 5  # features summed over the window; the last is a time
DELAY = 5

# The row of an account: what it was when it was last touched, sums over the window, mean and variance of each feature.
COUNT, LAST, GROSS, RATIO, SEEN, NOW, SINCE, LATE, RUN, QUIET = range(10)
SUM, MEAN, VARIANCE = 10, 15, 21
WIDTH = 27

LEARN_RATE = 1.0 / 512.0  # a memory of about 500 touches
ORDINARY = 4.0  # up to two standard deviations learn in full
SQUARE_MAX = 100.0  # ten standard deviations: beyond, farther is not more unusual
HALF = 9.0  # one feature three standard deviations out scores one half
RATIO_MAX = 10.0  # margin ratios beyond are all alike
# The variance that a feature is taken to have at least, in its own unit squared: below these deviations nothing is odd.
FLOORS = (0.05 * 0.05, 0.02 * 0.02, 2.0 * 2.0, 2.0 * 2.0, 0.05 * 0.05, 100.0 * 100.0)
_FLOORS: F8 = np.array(FLOORS).reshape(-1, 1)


class BehaviourRule(NamedTuple):
    """Rule by which a score becomes an alert; times in microseconds."""

    level: float
    persistence: float
    refractory_us: float
    warm_up: float
    window_us: float


class AccountObservations(NamedTuple):
    """Input of accounts, arrays of one length; of a single one, numbers.

    Measures, activity, and since when an account owes collateral (0: it does not).
    """

    touched: Any
    equity: Any
    gross: Any
    ratio: Any
    fills: Any
    cancels: Any
    since_us: Any


# --- many accounts ----------------------------------------------------------------------------------------------------


def judge_accounts(rows: F8, given: AccountObservations, now_us: float, rule: BehaviourRule) -> tuple[F8, B1]:
    """Judge accounts and learn from them, in their rows of shape (WIDTH, accounts).

    Return squares by feature, shape (features, accounts), and who rings.
    """
    squares = np.zeros((len(FEATURES), rows.shape[1]))
    touched = given.touched.nonzero()[0]
    if len(touched) == rows.shape[1]:
        _touch_many(rows, given, now_us, rule, squares)
    elif len(touched):
        part, found = rows[:, touched], np.zeros((len(FEATURES), len(touched)))
        _touch_many(part, _of(given, touched), now_us, rule, found)
        rows[:, touched], squares[:, touched] = part, found
    if (given.since_us > 0.0).any() or (rows[SINCE] > 0.0).any():
        _delay_many(rows, given, now_us, squares)
    total = squares[0] + squares[1]
    for square in squares[2:]:
        total += square
    high = total / (total + HALF) >= rule.level
    if not high.any():
        rows[RUN] = 0.0
        return squares, high
    rows[RUN] = np.where(high, rows[RUN] + 1.0, 0.0)
    due: B1 = (rows[RUN] >= rule.persistence) & (now_us >= rows[QUIET])
    rows[QUIET][due] = now_us + rule.refractory_us
    return squares, due


def _of(given: AccountObservations, at: NDArray[np.int64]) -> AccountObservations:
    """Return what is given of some of the accounts."""
    measures = given.equity[at], given.gross[at], given.ratio[at]
    return AccountObservations(given.touched[at], *measures, given.fills[at], given.cancels[at], given.since_us[at])


def _touch_many(rows: F8, given: AccountObservations, now_us: float, rule: BehaviourRule, squares: F8) -> None:
    known = rows[COUNT] > 0.0
    scale = np.maximum(np.maximum(given.equity, rows[GROSS]), 1.0)
    growth, rise, spread = (given.gross - rows[GROSS]) / scale, given.ratio - rows[RATIO], rows[NOW] - rows[SEEN]
    moves = np.array([growth, rise, given.fills, given.cancels, spread])
    if not known.all():
        for feature in (0, 1, 4):
            moves[feature][~known] = 0.0
    values = rows[SUM : SUM + WINDOWED]
    values *= rule.window_us / (rule.window_us + (now_us - rows[LAST]))
    values += moves
    warm = rows[COUNT] >= rule.warm_up
    rows[COUNT] += 1.0
    mean, variance = rows[MEAN : MEAN + WINDOWED], rows[VARIANCE : VARIANCE + WINDOWED]
    rate = np.maximum(1.0 / rows[COUNT], LEARN_RATE)
    _judge_many(values, mean, variance, _FLOORS[:WINDOWED], warm, squares[:WINDOWED], rate)
    rows[LAST], rows[GROSS], rows[RATIO], rows[SEEN] = now_us, given.gross, given.ratio, rows[NOW]


def _judge_many(values: F8, mean: F8, variance: F8, floors: F8, warm: B1, squares: F8, rate: F8) -> None:
    """Fill in the squares that count as unusual, then learn the values."""
    gap = values - mean
    apart = gap * gap
    square = np.maximum(variance, floors)
    np.divide(apart, square, out=square)
    if not warm.all():
        square *= warm
    np.multiply(np.minimum(square, SQUARE_MAX, out=squares), gap > 0.0, out=squares)
    weight = np.divide(ORDINARY, np.maximum(square, ORDINARY, out=square), out=square)  # 1 up to ORDINARY
    weight *= rate
    mean += np.multiply(gap, weight, out=gap)
    apart *= weight
    variance += apart
    variance *= np.subtract(1.0, weight, out=weight)


def _delay_many(rows: F8, given: AccountObservations, now_us: float, squares: F8) -> None:
    """Judge those who owe, learn from those who have just delivered."""
    owing, since = given.since_us > 0.0, rows[SINCE]
    late = np.maximum((now_us - np.where(owing, given.since_us, since)) / 1e6, 0.0)
    gap = late - rows[MEAN + DELAY]
    square = gap * gap / np.maximum(rows[VARIANCE + DELAY], FLOORS[DELAY])
    squares[DELAY] = np.where(owing & (gap > 0.0), np.minimum(square, SQUARE_MAX), 0.0)
    delivered = (~owing & (since > 0.0)).nonzero()[0]
    if len(delivered):
        part = rows[:, delivered]
        part[LATE] += 1.0
        rate, unused = np.maximum(1.0 / part[LATE], LEARN_RATE), np.zeros((1, len(delivered)))
        places = part[MEAN + DELAY :][:1], part[VARIANCE + DELAY :][:1]
        _judge_many(late[delivered].reshape(1, -1), *places, _FLOORS[DELAY:], part[LATE] > 1.0, unused, rate)
        rows[:, delivered] = part
    rows[SINCE] = np.where(owing, given.since_us, 0.0)


# Alerts on account behaviour: the score, each feature's share of it, and why in one sentence.

ALERT_KIND = "unusual_conduct"
ALERT_SEVERITY = 2
SHARE_MIN = 0.15  # a contribution below it is not worth a clause


def behaviour_alert(moment: Moment, name: str, row: list[float], squares: list[float], window_s: float) -> bytes:
    """Return the value of an alert.

    Parameters
    ----------
    moment
        The slice in which the account rang.
    name, row
        The account, and its numbers after it was judged.
    squares
        What each feature adds to the sum that is scored.
    window_s
        The window of the sums.
    """
    total = 0.0
    for square in squares:
        total += square
    score = total / (total + HALF)
    shares = {feature: square / total for feature, square in zip(FEATURES, squares, strict=True) if square > 0.0}
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    said = [feature_clause(feature, row, moment.as_of_us, share) for feature, share in ranked if share >= SHARE_MIN]
    value = {
        "shard": moment.partition,
        "seq": moment.seq,
        "as_of_us": moment.as_of_us,
        "kind": ALERT_KIND,
        "scope": f"account:{name}",
        "score": score,
        "severity": ALERT_SEVERITY,
        "text": f"{name} behaves unlike itself (score {score:.2f}, window {window_s} s): {'; '.join(said)}",
        "contributions": shares,
    }
    return orjson.dumps(value)


def feature_clause(feature: str, row: list[float], now_us: int, share: float) -> str:
    """Say what was seen of one feature and what is usual."""
    at = FEATURES.index(feature)
    usual = row[MEAN + at]
    if at == DELAY:
        said = f"collateral is {(now_us - row[SINCE]) / 1e6:.0f} s overdue, usually {usual:.0f} s"
    else:
        seen = row[SUM + at]
        said = {
            "exposure_velocity": f"gross notional grew by {seen:.2f} times the account, usually {usual:.2f}",
            "utilisation_jump": f"the margin ratio rose by {seen:.3f}, usually {usual:.3f}",
            "fill_rate": f"{seen:.0f} fills, usually {usual:.1f}",
            "cancel_rate": f"{seen:.0f} cancelled orders, usually {usual:.1f}",
            "concentration_change": f"concentration rose by {seen:.2f}, usually {usual:.2f}",
        }[feature]
    return f"{said} ({share:.0%} of the score)"
