"""Exposures and the liquidation map of a run at a given time.

``seawall exposures`` shows the measures of every scope beside the limits on it. The journal is replayed to that time:
values, effective bounds and levels are exact, where the topic ``exposures`` leaves out rows that hardly moved and has
no bounds at all. Only exposure and limits run, so it takes a fraction of a replay.

``seawall forecast --map`` shows what present books would be forced to sell and buy if prices moved. The map is that of
all shards together, with the volatilities and correlations that forecasts have then and the last depth of the signals.
Once a minute the stream publishes the same.
"""

import csv
import heapq
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import orjson
from rich.console import Console, Group
from rich.table import Table as View

from seawall.connectors.bus import Bus, read_all
from seawall.operators.core import forecasts as cs
from seawall.operators.core import forecasts as lq
from seawall.operators.core.base import MeasuredSlice, Measures
from seawall.operators.core.forecasts import ForecastState
from seawall.operators.core.limits import LimitsState, LimitStatus, limit_statuses
from seawall.operators.core.pipeline import Pipeline
from seawall.ops.reports._limits import time_text
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import EXPLAINED, UNEXPLAINED
from seawall.schemas.records import Slice, decode_slice

# ``seawall exposures``: the measures of every scope at a time, beside the limits on it.

BAR = 12
COLOURS = {"none": "green", "warning": "yellow", "soft": "dark_orange", "hard": "red"}
MEASURES_SHOWN = ("equity", "gross_notional", "net_notional", "current_exposure", "pnl", "margin_ratio")


class ScopeExposure(NamedTuple):
    """One scope: its measures, and the limits on it, most used first."""

    scope: str
    measures: dict[str, float]
    limits: list[LimitStatus]

    @property
    def utilisation(self) -> float:
        """Utilisation of its most used limit; 0 without limits."""
        return self.limits[0].utilisation if self.limits else 0.0


class ExposureReport(NamedTuple):
    """Every scope at a time; ``as_of_us`` is that of the last slice that counts."""

    as_of_us: int
    scopes: list[ScopeExposure]


def report_exposures(bus: Bus, shards: int, as_of_us: int | None, seen: Callable[[], None]) -> ExposureReport:
    """Return all scopes at a time, those with the most used limits first.

    Parameters
    ----------
    as_of_us
        Slices up to this one count; None for all.
    seen
        Called once per slice, for a progress bar.
    """
    fold = ExposureFold(shards)
    for piece in merge_slices(bus, shards, as_of_us):
        seen()
        fold.step(piece)
    return fold.report()


class ExposureFold:
    """Risk over a journal, slice by slice; a shard's slices come in order, shards in any."""

    def __init__(self, shards: int) -> None:
        self._risk = Pipeline(shards)
        self.as_of_us = 0

    def step(self, piece: Slice) -> None:
        """Take one slice."""
        self.as_of_us = max(self.as_of_us, piece.as_of_us)
        self._risk.take(piece, "")

    def report(self) -> ExposureReport:
        """Return all scopes as they stand, those with the most used limits first."""
        scopes = [
            scope
            for one in self._risk.parts()
            if one.measured is not None
            for scope in _scopes(one.decider.limits, one.measured.measures)
        ]
        return ExposureReport(self.as_of_us, sorted(scopes, key=lambda scope: (-scope.utilisation, scope.scope)))

    def owners(self) -> dict[str, str]:
        """Return the counterparty of each scope of a shard: account, netting set and counterparty itself."""
        found: dict[str, str] = {}
        for one in self._risk.measured().values():
            table = one.measures.tables.get("account")
            for name, owners in zip(table.names if table is not None else (), one.measures.owners, strict=False):
                party = next((owner for owner in owners if owner.startswith("counterparty:")), "")
                found |= dict.fromkeys((f"account:{name}", party), party)
                found |= {owner: party for owner in owners if owner.startswith("netting_set:")}
        return found


def merge_slices(bus: Bus, shards: int, as_of_us: int | None) -> Iterator[Slice]:
    """Yield slices in turns of ``(as_of_us, shard)``."""

    def stream(shard: int) -> Iterator[tuple[int, int, int, Slice]]:
        for stored in read_all(bus, "journal", shard):
            piece = decode_slice(stored.value)
            if as_of_us is not None and piece.as_of_us > as_of_us:
                return
            yield piece.as_of_us, shard, stored.offset, piece

    for *_, piece in heapq.merge(*(stream(shard) for shard in range(shards))):
        yield piece


def _scopes(state: LimitsState, measures: Measures) -> Iterator[ScopeExposure]:
    """Yield the scopes that hold anything or have a limit that is used."""
    of: dict[str, list[LimitStatus]] = {}
    for standing in limit_statuses(state, measures):
        of.setdefault(standing.scope, []).append(standing)
    for kind, table in measures.tables.items():
        for name, values in zip(table.names, table.values.T.tolist(), strict=False):
            scope = "firm" if kind == "firm" else f"{kind}:{name}"
            if any(values) or any(one.utilisation for one in of.get(scope, ())):
                yield ScopeExposure(scope, dict(zip(table.measures, values, strict=True)), of.get(scope, []))


# --- forms ------------------------------------------------------------------------------------------------------------


def exposures_json(found: ExposureReport) -> dict[str, Any]:
    """Return the report as plain values."""
    scopes = [
        {"scope": one.scope, **one.measures, "limits": [limit._asdict() for limit in one.limits]}
        for one in found.scopes
    ]
    return {"as_of_us": found.as_of_us, "scopes": scopes}


def exposures_csv(found: ExposureReport) -> str:
    """Return one row per scope, measure and limit on it; limit columns are empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("as_of_us", "scope", "measure", "value", "limit", "warning", "soft", "hard", "level", "utilisation")
    writer.writerow(head)
    for one in found.scopes:
        for measure, value in one.measures.items():
            limits = [limit for limit in one.limits if limit.measure == measure]
            for limit in limits:
                bounds = ["" if bound is None else repr(bound) for bound in limit.bounds]
                tail = [repr(limit.value), limit.limit, *bounds, limit.level, repr(limit.utilisation)]
                writer.writerow([found.as_of_us, one.scope, measure, *tail])
            if not limits:
                writer.writerow([found.as_of_us, one.scope, measure, repr(value), "", "", "", "", "", ""])
    return out.getvalue()


def print_exposures(found: ExposureReport, count_max: int, console: Console | None = None) -> None:
    """Print a table per kind of scope, each row with the bar of its most used limit."""
    kinds: dict[str, list[ScopeExposure]] = {}
    for one in found.scopes:
        kinds.setdefault(one.scope.partition(":")[0], []).append(one)
    views = [_view(kind, scopes, count_max) for kind, scopes in kinds.items()]
    console = console or Console()
    console.print(f"Exposures as of {time_text(found.as_of_us)} UTC")
    console.print(Group(*views) if views else "No scope holds anything yet.")


def _view(kind: str, scopes: list[ScopeExposure], count_max: int) -> View:
    more = f", {len(scopes) - count_max} more with --top" if len(scopes) > count_max else ""
    view = View(title=f"{kind}: {len(scopes)}{more}", title_justify="left")
    shown = [name for name in MEASURES_SHOWN if name in scopes[0].measures]
    view.add_column(kind, overflow="fold")
    for name in shown:
        view.add_column(name.replace("_", "\n"), justify="right", no_wrap=True)  # never without its exponent
    view.add_column("most used limit", overflow="fold")
    view.add_column("utilisation", no_wrap=True)
    for one in scopes[:count_max]:
        limit = one.limits[0] if one.limits else None
        tail = ["", ""] if limit is None else [limit.limit, utilisation_bar(limit)]
        view.add_row(one.scope.partition(":")[2] or kind, *(f"{one.measures[n]:,.4g}" for n in shown), *tail)
    return view


def utilisation_bar(limit: LimitStatus) -> str:
    """Return how much of a limit is used as a bar, coloured by its level."""
    filled = min(BAR, round(limit.utilisation * BAR))
    share = f"{limit.utilisation:.0%}" if limit.utilisation < 100 else "over"
    level = "" if limit.level == "none" else f" {limit.level}"
    return f"[{COLOURS[limit.level]}]{'█' * filled}{'░' * (BAR - filled)}[/] {share}{level}"


# ``seawall exposures --explain``: why P&L moved, as the topic ``exposures`` has it.


def read_explains(bus: Bus, shards: int, as_of_us: int | None) -> list[dict[str, Any]]:
    """Return the last P&L explain of each scope up to a time (None: of all), what is unexplained most first.

    Raises
    ------
    UsageError
        The run explains none.
    """
    last: dict[str, dict[str, Any]] = {}
    for partition in range(shards + 1):
        for stored in read_all(bus, "exposures", partition):
            record = orjson.loads(stored.value) if b'"explained"' in stored.value else {}
            if as_of_us is None or record.get("as_of_us", 0) <= as_of_us:
                last |= {row["scope"]: {"as_of_us": record["as_of_us"], **row} for row in record.get("explained", ())}
    if not last:
        raise UsageError("no P&L is explained here; set pnl_explain = true, or a limit on unexplained, and run again")
    return sorted(last.values(), key=lambda row: -abs(row["unexplained"]))


def explain_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line per scope: the minute that ended last in which its P&L moved, as a sum of what is not 0."""
    for row in found:
        terms = (f"{name} {row[name]:,.6g}" for name in EXPLAINED[1:] if row[name] or name == UNEXPLAINED)
        until = time_text(row["as_of_us"])
        yield f"{row['scope']}, minute until {until}: P&L {row['pnl']:,.6g} = {' + '.join(terms)}"


# ``seawall forecast --map``: what present books would be forced to sell and buy if prices moved, and what follows.

MOVES_SHOWN = (-0.5, -0.3, -0.2, -0.1, -0.05, 0.05, 0.1, 0.2, 0.3, 0.5)


class LiquidationReport(NamedTuple):
    """The map of each underlying in which anything is held, as it is published."""

    as_of_us: int
    underlyings: list[dict[str, Any]]


def report_liquidations(bus: Bus, shards: int, as_of_us: int | None, seen: Callable[[], None]) -> LiquidationReport:
    """Return the maps at a time; ``seen`` is called once per slice.

    Raises
    ------
    UsageError
        The run makes no forecasts.
    """
    risk = Pipeline(shards)
    last: dict[int, MeasuredSlice] = {}
    for piece in merge_slices(bus, shards, as_of_us):
        seen()
        risk.take(piece, "")
        measured = risk.shards[piece.shard].measured
        if measured is not None and measured.holdings is not None:
            last[piece.shard] = measured
    if not last:
        raise UsageError("no forecasts here; set enabled = true under [forecasts] and run again")
    shards_ = sorted(last)
    ordered = [last[shard] for shard in shards_]
    books = cs.ShardLiquidationMap.sum(
        [_liquidation_map(last[shard], risk.shards[shard].forecast) for shard in shards_]
    )
    first = last[shards_[0]].holdings
    assert first is not None
    depth = np.full(len(books.exposed), np.nan)
    known = cs.underlying_depths(first, risk.shards[shards_[0]].forecast.markets)
    depth[: len(known)] = known
    found = books.cascade(depth)
    names = max((one.holdings.underlyings for one in ordered if one.holdings is not None), key=len)
    rows = [found.row(at, names[at]) for at in books.exposed_underlyings()]
    return LiquidationReport(max(one.measures.moment.as_of_us for one in ordered), rows)


def _liquidation_map(measured: MeasuredSlice, state: ForecastState) -> cs.ShardLiquidationMap:
    assert measured.holdings is not None
    return cs.ShardLiquidationMap.of_book(measured.holdings, measured.measures.tables["account"].values, state.markets)


# --- forms ------------------------------------------------------------------------------------------------------------


def liquidations_json(found: LiquidationReport) -> dict[str, Any]:
    """Return the maps as plain values; null stands for a multiplier without bound."""
    return {"as_of_us": found.as_of_us, "steps": list(lq.MAP_STEPS), "underlyings": found.underlyings}


def print_liquidations(found: LiquidationReport, console: Console | None = None) -> None:
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
        for move in MOVES_SHOWN:
            at = lq.MAP_STEPS.index(move)
            forced = (one[side][at] for side in ("alone_sold", "alone_bought", "with_betas_sold", "with_betas_bought"))
            grown = one["cascade_multiplier"][at]
            size = "without end" if grown is None else f"{grown:.2f}"
            view.add_row(f"{move:+.0%}", *(f"{part:,.0f}" for part in forced), size)
        console.print(view)
