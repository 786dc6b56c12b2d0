"""``seawall forecast --map``: what present books would be forced to sell and buy if prices moved, and what follows.

The journal is replayed to a time, as for ``exposures``: the map is that of all shards together, with the volatilities
and correlations that forecasts have then and the depth that signals told of last.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as View

from seawall.connectors.bus import Bus
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.foresight import liquidation as lq
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.markets import spread_of
from seawall.operators.core.foresight.passage import Exposed, paired
from seawall.operators.core.frames import Frame, Holdings
from seawall.ops.exposures import merged
from seawall.ops.limits import time_text
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import ACCOUNT

DAY_S = 86_400
SHOWN = (-0.5, -0.3, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.3, 0.5)
EQUITY, MARGIN = ACCOUNT.index("equity"), ACCOUNT.index("maintenance_margin")


class Underlying(NamedTuple):
    """The map of one underlying: notional sold and bought at each step, alone and with betas, and what impact makes."""

    name: str
    depth: float
    depth_known: bool
    alone: lq.LiquidationMap
    followed: lq.LiquidationMap
    multipliers: NDArray[np.float64]
    diverges_at: float


class Report(NamedTuple):
    """The maps of all underlyings in which anything is held."""

    as_of_us: int
    underlyings: list[Underlying]


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
    held, health = _together([last[shard] for shard in sorted(last)])
    frame = last[min(last)]
    assert frame.holdings is not None
    return Report(max(one.as_of_us for one in last.values()), _maps(states[0][1], frame.holdings, held, health))


def _together(frames: list[Frame]) -> tuple[Exposed, NDArray[np.float64]]:
    """Return the books of all shards as one, accounts numbered on from shard to shard."""
    parts, healths, first = [], [], 0
    for frame in frames:
        one, values = frame.holdings, frame.tables["account"].values
        assert one is not None
        parts.append(paired(one.account + first, one.underlying[one.instrument], one.gain, one.margin))
        healths.append(values[EQUITY] - values[MARGIN])
        first += values.shape[1]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Exposed(*columns), np.concatenate(healths)


def _maps(state: ForesightState, holdings: Holdings, held: Exposed, health: NDArray[np.float64]) -> list[Underlying]:
    steps, count = np.array(lq.STEPS), len(holdings.underlyings)
    stands = state.markets.of_underlyings(holdings)
    volatility, rho = spread_of(state.markets, stands, DAY_S), state.markets.rho_of(stands)
    known = np.where(stands >= 0, holdings.depth[np.maximum(stands, 0)], np.nan)
    depth, good = lq.depths(known, held)
    alone = lq.liquidation_map(held, health, held.gain - held.margin, count, steps)
    slopes = lq.beta_slopes(held, volatility, rho, len(health))
    followed = lq.liquidation_map(held, health, slopes, count, steps)
    ends = lq.cascade(followed, depth, steps)
    grown, first = lq.multipliers(ends, steps), lq.first_divergence(ends, steps)
    exposed = np.bincount(held.underlying, np.abs(held.gain), count) > 0
    return [
        Underlying(
            holdings.underlyings[at],
            depth.item(at),
            bool(good[at]),
            lq.LiquidationMap(alone.sold[at], alone.bought[at]),
            lq.LiquidationMap(followed.sold[at], followed.bought[at]),
            grown[at],
            first.item(at),
        )
        for at in exposed.nonzero()[0].tolist()
    ]


# --- forms ------------------------------------------------------------------------------------------------------------


def as_json(found: Report) -> dict[str, Any]:
    """Return the maps as plain values; null stands for a multiplier without bound."""
    rows = []
    for one in found.underlyings:
        forced = {
            f"{name}_{side}": getattr(part, side).tolist()
            for name, part in (("alone", one.alone), ("with_betas", one.followed))
            for side in ("sold", "bought")
        }
        row = {"scope": f"underlying:{one.name}", "depth": one.depth, "depth_known": one.depth_known, **forced}
        row["cascade_multiplier"] = [value if np.isfinite(value) else None for value in one.multipliers.tolist()]
        rows.append({**row, "diverges_at": None if np.isnan(one.diverges_at) else one.diverges_at})
    return {"as_of_us": found.as_of_us, "steps": list(lq.STEPS), "underlyings": rows}


def print_report(found: Report, console: Console | None = None) -> None:
    """Print a table per underlying: what some moves force, and what becomes of them."""
    console = console or Console()
    console.print(f"Liquidation map as of {time_text(found.as_of_us)} UTC")
    for one in found.underlyings:
        told = "" if one.depth_known else ", assumed: no signal told of it"
        rest = "comes to rest" if np.isnan(one.diverges_at) else f"diverges from a move of {one.diverges_at:+.0%}"
        title = f"{one.name}: depth {one.depth:,.0f}{told}; {rest}"
        view = View(title=title, title_justify="left")
        for name in ("move", "sold alone", "bought alone", "sold with betas", "bought with betas", "multiplier"):
            view.add_column(name, justify="right")
        for move in SHOWN:
            at = lq.STEPS.index(move)
            forced = (one.alone.sold, one.alone.bought, one.followed.sold, one.followed.bought)
            view.add_row(f"{move:+.0%}", *(f"{part[at]:,.0f}" for part in forced), f"{one.multipliers[at]:.2f}")
        console.print(view)
