"""``seawall forecast --map``: what present books would be forced to sell and buy if prices moved, and what follows.

The journal is replayed to a time, as for ``exposures``: the map is that of all shards together, with the volatilities
and correlations that forecasts have then and the depth that signals told of last. Once a minute the stream publishes
the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table as View

from seawall.connectors.bus import Bus
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.foresight import cascades as cs
from seawall.operators.core.foresight import liquidation as lq
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.frames import Frame
from seawall.ops.exposures import merged
from seawall.ops.limits import time_text
from seawall.schemas.errors import UsageError

SHOWN = (-0.5, -0.3, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.3, 0.5)


class Report(NamedTuple):
    """The map of each underlying in which anything is held, as it is published."""

    as_of_us: int
    underlyings: list[dict[str, Any]]


def report(bus: Bus, shards: int, as_of_us: int | None, seen: Callable[[], None]) -> Report:
    """Return the maps at a time; ``seen`` is called once per slice.

    Raises
    ------
    UsageError
        The run makes no forecasts.
    """
    states = [(ExposureState(shard), ForesightState(shard)) for shard in range(shards)]
    last: dict[int, Frame] = {}
    for piece in merged(bus, shards, as_of_us):
        seen()
        exposure, foresight = states[piece.shard]
        frame = foresight.step(exposure.step(piece, ""))
        if frame.holdings is not None:
            last[piece.shard] = frame
    if not last:
        raise UsageError("no forecasts here; set enabled = true under [forecasts] and run again")
    shards_ = [last[shard] for shard in sorted(last)]
    books = cs.together([_map(frame, states[frame.partition][1]) for frame in shards_])
    first = shards_[0].holdings
    assert first is not None
    depth = np.full(len(books.exposed), np.nan)
    known = cs.depths_of(first, states[shards_[0].partition][1].markets)
    depth[: len(known)] = known
    found = cs.cascaded(books, depth)
    names = max((frame.holdings.underlyings for frame in shards_ if frame.holdings is not None), key=len)
    rows = [cs.row(found, at, names[at]) for at in cs.held(books)]
    return Report(max(one.as_of_us for one in shards_), rows)


def _map(frame: Frame, state: ForesightState) -> cs.ShardMap:
    assert frame.holdings is not None
    return cs.shard_map(frame.holdings, frame.tables["account"].values, state.markets)


# --- forms ------------------------------------------------------------------------------------------------------------


def as_json(found: Report) -> dict[str, Any]:
    """Return the maps as plain values; null stands for a multiplier without bound."""
    return {"as_of_us": found.as_of_us, "steps": list(lq.STEPS), "underlyings": found.underlyings}


def print_report(found: Report, console: Console | None = None) -> None:
    """Print a table per underlying: what some moves force, and what becomes of them."""
    console = console or Console()
    console.print(f"Liquidation map as of {time_text(found.as_of_us)} UTC")
    for one in found.underlyings:
        told = "" if one["depth_known"] else ", assumed: no signal told of it"
        first = one["diverges_at"]
        rest = "comes to rest" if first is None else f"diverges from a move of {first:+.0%}"
        title = f"{one['scope'].partition(':')[2]}: depth {one['depth']:,.0f}{told}; {rest}"
        view = View(title=title, title_justify="left")
        for name in ("move", "sold alone", "bought alone", "sold with betas", "bought with betas", "multiplier"):
            view.add_column(name, justify="right")
        for move in SHOWN:
            at = lq.STEPS.index(move)
            forced = (one[side][at] for side in ("alone_sold", "alone_bought", "with_betas_sold", "with_betas_bought"))
            grown = one["cascade_multiplier"][at]
            size = "without end" if grown is None else f"{grown:.2f}"
            view.add_row(f"{move:+.0%}", *(f"{part:,.0f}" for part in forced), size)
        console.print(view)
