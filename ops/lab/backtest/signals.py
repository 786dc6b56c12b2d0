"""The market stage of a backtest: history in, the signals that ``market`` would write out, a process per group.

The steps are those of the live dataflow: its merge order, its ``Cutter`` and its ``GroupState``. No command changes
what a market did, so variants share the signals; they are kept under the hash of the history and of the market's terms.
"""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path

from seawall.operators.core.market.cutter import Cutter
from seawall.operators.core.market.group import GroupState
from seawall.ops.lab.backtest.history import RAW, kind_of, lines
from seawall.schemas.decode import decode_event
from seawall.schemas.errors import Rejected
from seawall.schemas.events import Event, Mark
from seawall.schemas.markets import MarketTerms

KINDS = {*RAW, "funding", "open_interest", "venue_status", "instrument", "notice", "mark"}
TOLD_EVERY = 2_000


def market_events(files: list[Path], first_us: int, last_us: int) -> Iterator[tuple[int, Event]]:
    """Yield the market's records of all files in merge order, with their effective times.

    What lies before ``first_us`` only describes instruments.
    """
    for time_us, _, _, line in heapq.merge(*(lines(path, number, last_us) for number, path in enumerate(files))):
        kind = kind_of(line)
        if kind not in KINDS or (time_us < first_us and kind != "instrument"):
            continue
        try:
            event = decode_event(line)
        except Rejected:
            continue  # `market` skips what it cannot read; the sequencer's step rejects it by name
        if not isinstance(event, Mark) or event.venue:
            yield time_us, event


def write_signals(
    files: list[Path],
    first_us: int,
    last_us: int,
    terms: MarketTerms,
    group: int,
    out: Path,
    tell: Callable[[int], None],
) -> None:
    """Write the signals of one group, a line each.

    Parameters
    ----------
    tell
        Is given the event time that was reached, for a progress bar.
    """
    cutter, state = Cutter(terms.groups, terms.interval_us), GroupState(group, terms)
    with out.open("wb") as file:

        def step() -> None:
            for number, item in cutter.take():
                if number == group:
                    file.writelines(record.value + b"\n" for record in state.step(item))

        for count, (time_us, event) in enumerate(market_events(files, first_us, last_us)):
            cutter.add(time_us, event)
            step()
            if count % TOLD_EVERY == 0:
                tell(time_us)
        cutter.finish()
        step()
