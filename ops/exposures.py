"""``seawall exposures``: the measures of every scope at a time, beside the limits on it.

The journal is replayed to that time: exact values, effective bounds and levels, where the topic ``exposures`` leaves
rows that hardly moved and has no bounds at all. Only exposure and limits run, so it takes a fraction of a replay.
"""

import csv
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.progress import Progress
from rich.table import Table as View

from seawall.connectors.bus import Bus, read_all
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import KEY, FirmState
from seawall.operators.core.foresight.foresight import ForesightState
from seawall.operators.core.foresight.wide import WideForesightState
from seawall.operators.core.frames import Frame
from seawall.operators.core.limit_report import LimitStanding, standings
from seawall.operators.core.limits import LimitsState
from seawall.ops.limits import time_text
from seawall.schemas.slices import Slice, decode_slice

BAR = 12
COLOURS = {"none": "green", "warning": "yellow", "soft": "dark_orange", "hard": "red"}
MEASURES_SHOWN = ("equity", "gross_notional", "net_notional", "current_exposure", "pnl", "margin_ratio")


class Scope(NamedTuple):
    """One scope: its measures, and the limits on it, most used first."""

    scope: str
    measures: dict[str, float]
    limits: list[LimitStanding]

    @property
    def utilisation(self) -> float:
        """How much of its most used limit is used; 0 without limits."""
        return self.limits[0].utilisation if self.limits else 0.0


class Report(NamedTuple):
    """Every scope at a time; ``as_of_us`` is that of the last slice that counts."""

    as_of_us: int
    scopes: list[Scope]


def report(bus: Bus, shards: int, as_of_us: int | None, seen: Callable[[], None]) -> Report:
    """Return all scopes at a time, those with the most used limits first.

    Parameters
    ----------
    as_of_us
        Slices up to this one count; None for all.
    seen
        Called once per slice, for a progress bar.
    """
    fold = Fold(shards)
    for piece in merged(bus, shards, as_of_us):
        seen()
        fold.step(piece)
    return fold.report()


class Fold:
    """Exposure, foresight and limits over a journal, slice by slice; a shard's slices come in order, shards in any."""

    def __init__(self, shards: int) -> None:
        self._states = [(ExposureState(one), ForesightState(one), LimitsState(str(one), one)) for one in range(shards)]
        self._firm, self._systemic, self._wide = FirmState(), WideForesightState(shards), LimitsState(KEY, shards)
        self._last: dict[str, tuple[LimitsState, Frame]] = {}
        self.as_of_us = 0

    def step(self, piece: Slice) -> None:
        """Take one slice."""
        self.as_of_us = max(self.as_of_us, piece.as_of_us)
        exposure, foresight, limits = self._states[piece.shard]
        frame = foresight.step(exposure.step(piece, ""))
        limits.step(frame)
        if frame.decides:
            self._last[frame.key] = (limits, frame)
        for second in self._firm.step(frame.partial) if frame.partial is not None else ():
            foreseen = self._systemic.step(second)
            self._wide.step(foreseen)
            self._last[KEY] = (self._wide, foreseen)

    def report(self) -> Report:
        """Return all scopes as they stand, those with the most used limits first."""
        scopes = [scope for key in sorted(self._last) for scope in _scopes(*self._last[key])]
        return Report(self.as_of_us, sorted(scopes, key=lambda scope: (-scope.utilisation, scope.scope)))

    def owners(self) -> dict[str, str]:
        """Return the counterparty of each scope of a shard: account, netting set and counterparty itself."""
        found: dict[str, str] = {}
        for _, frame in self._last.values():
            table = frame.tables.get("account")
            for name, owners in zip(table.names if table is not None else (), frame.owners, strict=False):
                party = next((owner for owner in owners if owner.startswith("counterparty:")), "")
                found |= dict.fromkeys((f"account:{name}", party), party)
                found |= {owner: party for owner in owners if owner.startswith("netting_set:")}
        return found


@contextmanager
def progress(bus: Bus, shards: int) -> Iterator[Callable[[], None]]:
    """Yield what to call once per slice: it moves a progress bar on a terminal, and does nothing elsewhere."""
    total = sum(bus.end("journal", shard) for shard in range(shards))
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        task = bars.add_task("replaying the journal", total=total)
        yield lambda: bars.advance(task)


def merged(bus: Bus, shards: int, as_of_us: int | None) -> Iterator[Slice]:
    """Yield slices in turns of ``(as_of_us, shard)``."""
    import heapq

    def stream(shard: int) -> Iterator[tuple[int, int, int, Slice]]:
        for stored in read_all(bus, "journal", shard):
            piece = decode_slice(stored.value)
            if as_of_us is not None and piece.as_of_us > as_of_us:
                return
            yield piece.as_of_us, shard, stored.offset, piece

    for *_, piece in heapq.merge(*(stream(shard) for shard in range(shards))):
        yield piece


def _scopes(state: LimitsState, frame: Frame) -> Iterator[Scope]:
    """Yield the scopes of a frame that hold anything or have a limit that is used."""
    of: dict[str, list[LimitStanding]] = {}
    for standing in standings(state, frame):
        of.setdefault(standing.scope, []).append(standing)
    for kind, table in frame.tables.items():
        for name, values in zip(table.names, table.values.T.tolist(), strict=False):
            scope = "firm" if kind == "firm" else f"{kind}:{name}"
            if any(values) or any(one.utilisation for one in of.get(scope, ())):
                yield Scope(scope, dict(zip(table.measures, values, strict=True)), of.get(scope, []))


# --- forms ------------------------------------------------------------------------------------------------------------


def as_json(found: Report) -> dict[str, Any]:
    """Return the report as plain values."""
    scopes = [
        {"scope": one.scope, **one.measures, "limits": [limit._asdict() for limit in one.limits]}
        for one in found.scopes
    ]
    return {"as_of_us": found.as_of_us, "scopes": scopes}


def as_csv(found: Report) -> str:
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


def print_report(found: Report, count_max: int, console: Console | None = None) -> None:
    """Print a table per kind of scope, each row with the bar of its most used limit."""
    kinds: dict[str, list[Scope]] = {}
    for one in found.scopes:
        kinds.setdefault(one.scope.partition(":")[0], []).append(one)
    views = [_view(kind, scopes, count_max) for kind, scopes in kinds.items()]
    console = console or Console()
    console.print(f"Exposures as of {time_text(found.as_of_us)} UTC")
    console.print(Group(*views) if views else "No scope holds anything yet.")


def _view(kind: str, scopes: list[Scope], count_max: int) -> View:
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
        tail = ["", ""] if limit is None else [limit.limit, bar(limit)]
        view.add_row(one.scope.partition(":")[2] or kind, *(f"{one.measures[n]:,.4g}" for n in shown), *tail)
    return view


def bar(limit: LimitStanding) -> str:
    """Return how much of a limit is used as a bar, coloured by its level."""
    filled = min(BAR, round(limit.utilisation * BAR))
    share = f"{limit.utilisation:.0%}" if limit.utilisation < 100 else "over"
    level = "" if limit.level == "none" else f" {limit.level}"
    return f"[{COLOURS[limit.level]}]{'█' * filled}{'░' * (BAR - filled)}[/] {share}{level}"
