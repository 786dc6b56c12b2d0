"""What of a signal becomes part of the journal: marks as marks, and as an event what risk decides on.

The robust mark stands above every single venue's (contract.md, "Prices": exposures and stress use it); with one venue
there is none, and a venue's own ``mark`` record is in the journal already, so only mids and lasts are added.
Instruments that no reference record describes are passed over: their raw records were rejected.
"""

from collections.abc import Mapping
from typing import Any

from seawall.schemas import events as ev

MarkKey = tuple[int, str, str]
MarkValue = tuple[float, int, float]
NO_VOLATILITY = -1.0
ROBUST = "robust"


def marks_of_signal(signal: ev.Signal, instruments: Mapping[str, Any]) -> list[tuple[MarkKey, MarkValue]]:
    """Return the marks of a signal as (ordinal, kind, venue) and (price, time, no volatility)."""
    found: list[tuple[MarkKey, MarkValue]] = []
    for row in signal.instruments:
        known = instruments.get(row.instrument)
        if known is None:
            continue
        if row.source == ROBUST:
            found.append(((known.ordinal, ROBUST, ""), (row.price, row.time_us, NO_VOLATILITY)))
        for venue in row.venues:
            if venue.kind != "mark":
                found.append(((known.ordinal, venue.kind, venue.venue), (venue.price, venue.time_us, NO_VOLATILITY)))
    return found


def journaled_signal(signal: ev.Signal, instruments: Mapping[str, Any], by_venue: bool = False) -> ev.Signal | None:
    """Return alerts, and depth, volatility and score of the instruments scored; None where there are none of these.

    ``by_venue``: with the books of single venues, which only a playbook that weighs venues needs.
    """
    rows = [
        ev.SignalRow(
            instrument=row.instrument,
            price=row.price,
            source=row.source,
            time_us=row.time_us,
            venues=row.venues if by_venue else [],
            depth=row.depth,
            realised_volatility=row.realised_volatility,
            ew_volatility=row.ew_volatility,
            state=row.state,
            score=row.score,
        )
        for row in signal.instruments
        if row.state and row.instrument in instruments
    ]
    if not (rows or signal.alerts):
        return None
    return ev.Signal(
        event_time_us=signal.event_time_us,
        group=signal.group,
        groups=signal.groups,
        seq=signal.seq,
        instruments=rows,
        alerts=signal.alerts,
    )
