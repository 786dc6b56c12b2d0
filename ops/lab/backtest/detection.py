"""How good detection was: which sharp moves were told of, how early, and how many alerts came for nothing.

An *episode* of an instrument is a move of ``move`` or more, up or down, within ``within_s``; it begins at the extreme
that the price came from and *breaks out* when the move is complete. Moves less than ``quiet_s`` apart are one.
An episode is told of by an alert on the instrument from its beginning until ``within_s`` after it broke out; an alert
with no break-out within ``within_s`` before or after it is false. Labels come from prices alone, so nobody chose them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Json = dict[str, Any]
SECOND_US = 1_000_000
DAY_US = 86_400_000_000


class Episode(NamedTuple):
    """A sharp move of one instrument."""

    instrument: str
    began_us: int
    broke_out_us: int
    move: float


class Quality(NamedTuple):
    """What detection was worth; ``lead_s``: how long before the break-out the first alert of each told episode came."""

    episodes: int
    told: int
    alerts: int
    false: int
    instrument_days: float
    lead_s: list[float]

    def as_dict(self) -> Json:
        """Return the quality as JSON values, with recall, precision and alerts per instrument and day."""
        recall = self.told / self.episodes if self.episodes else None
        precision = 1 - self.false / self.alerts if self.alerts else None
        median = float(np.median(self.lead_s)) if self.lead_s else None
        days = self.instrument_days
        per_day = self.alerts / days if days else None
        return self._asdict() | {
            "recall": recall, "precision": precision, "median_lead_s": median, "alerts_per_instrument_day": per_day
        }  # fmt: skip


def episodes(
    instrument: str, times_us: Sequence[int], prices: Sequence[float], terms: Mapping[str, Any]
) -> list[Episode]:
    """Return the sharp moves of one instrument, in order.

    Parameters
    ----------
    times_us, prices
        Of equal length, in order of time.
    terms
        The plan's ``[detection]``.
    """
    window, quiet = terms["within_s"] * SECOND_US, terms["quiet_s"] * SECOND_US
    found: list[Episode] = []
    lows: list[int] = []
    highs: list[int] = []
    for at, (now, price) in enumerate(zip(times_us, prices, strict=True)):
        for kept, above in ((lows, False), (highs, True)):
            while kept and times_us[kept[0]] < now - window:
                kept.pop(0)
            while kept and (prices[kept[-1]] <= price if above else prices[kept[-1]] >= price):
                kept.pop()
            kept.append(at)
        rise, fall = price / prices[lows[0]] - 1, price / prices[highs[0]] - 1
        move, origin = (rise, lows[0]) if rise >= -fall else (fall, highs[0])
        if abs(move) < terms["move"]:
            continue
        if found and now - found[-1].broke_out_us < quiet:
            continue
        found.append(Episode(instrument, times_us[origin], now, move))
    return found


def quality(
    series: Mapping[str, tuple[Sequence[int], Sequence[float]]], alerts: Sequence[Json], terms: Mapping[str, Any]
) -> Quality:
    """Compare alerts with what prices did.

    Parameters
    ----------
    series
        Instrument -> times and prices.
    alerts
        ``as_of_us`` and ``scope`` of each; those on other scopes than instruments are left out.
    """
    window = terms["within_s"] * SECOND_US
    moves = [found for name in sorted(series) for found in episodes(name, *series[name], terms)]
    told: dict[str, list[int]] = {}
    for alert in alerts:
        kind, _, name = alert["scope"].partition(":")
        if kind == "instrument":
            told.setdefault(name, []).append(alert["as_of_us"])
    leads, false = [], 0
    for move in moves:
        first = [at for at in told.get(move.instrument, ()) if move.began_us <= at <= move.broke_out_us + window]
        if first:
            leads.append((move.broke_out_us - min(first)) / SECOND_US)
    for name, times in told.items():
        mine = [move.broke_out_us for move in moves if move.instrument == name]
        false += sum(all(abs(at - out) > window for out in mine) for at in times)
    days = sum((times[-1] - times[0]) / DAY_US for times, _ in series.values() if len(times) > 1)
    return Quality(len(moves), len(leads), sum(map(len, told.values())), false, days, leads)
