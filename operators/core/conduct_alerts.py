"""What an alert of the watch over accounts says: the score, each feature's share of it, and why in one sentence."""

import orjson

from seawall.operators.core import conduct_rows as cr
from seawall.operators.core.frames import Frame

KIND = "unusual_conduct"
SEVERITY = 2
SHARE_MIN = 0.15  # a contribution below it is not worth a clause


def alert_value(frame: Frame, name: str, row: list[float], squares: list[float], window_s: float) -> bytes:
    """Return the value of an alert.

    Parameters
    ----------
    frame
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
    score = total / (total + cr.HALF)
    shares = {feature: square / total for feature, square in zip(cr.FEATURES, squares, strict=True) if square > 0.0}
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    said = [clause(feature, row, frame.as_of_us, share) for feature, share in ranked if share >= SHARE_MIN]
    value = {
        "shard": frame.partition,
        "seq": frame.seq,
        "as_of_us": frame.as_of_us,
        "kind": KIND,
        "scope": f"account:{name}",
        "score": score,
        "severity": SEVERITY,
        "text": f"{name} behaves unlike itself (score {score:.2f}, window {window_s} s): {'; '.join(said)}",
        "contributions": shares,
    }
    return orjson.dumps(value)


def clause(feature: str, row: list[float], now_us: int, share: float) -> str:
    """Say what was seen of one feature and what is usual."""
    at = cr.FEATURES.index(feature)
    usual = row[cr.MEAN + at]
    if at == cr.DELAY:
        said = f"collateral is {(now_us - row[cr.SINCE]) / 1e6:.0f} s overdue, usually {usual:.0f} s"
    else:
        seen = row[cr.SUM + at]
        said = {
            "exposure_velocity": f"gross notional grew by {seen:.2f} times the account, usually {usual:.2f}",
            "utilisation_jump": f"the margin ratio rose by {seen:.3f}, usually {usual:.3f}",
            "fill_rate": f"{seen:.0f} fills, usually {usual:.1f}",
            "cancel_rate": f"{seen:.0f} cancelled orders, usually {usual:.1f}",
            "concentration_change": f"concentration rose by {seen:.2f}, usually {usual:.2f}",
        }[feature]
    return f"{said} ({share:.0%} of the score)"
