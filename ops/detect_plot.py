"""The picture of ``seawall detect --plot``: the series, the score, and where it alerted."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seawall.operators.core.detection.composite import ALERT_SCORE
from seawall.operators.core.detection.samples import Sample
from seawall.operators.core.detection.watch import Source
from seawall.schemas.errors import UsageError

POINTS_MAX = 20_000  # more than that is ink, not information; alerts are always drawn
COLOURS = {Source.SCORE: "#b22222", Source.RULE: "#e08a00", Source.BOTH: "#6a1b9a"}


class Drawn(NamedTuple):
    """What is drawn of one row; ``alert`` says what raised one."""

    row: int
    sample: Sample
    score: float
    alert: Source | None


def draw(
    plot: Path, title: str, columns: Sequence[str], rows: Sequence[Drawn], fall_us: tuple[int, int] | None = None
) -> None:
    """Write a PNG with one panel per column and one for the score; vertical lines are alerts.

    ``fall_us`` is a span of event time to shade.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need matplotlib: pip install 'bytewax-seawall[lab]'") from error
    import numpy as np

    timed = all(row.sample.time_us is not None for row in rows)
    moments = [np.datetime64(row.sample.time_us or 0, "us") for row in rows] if timed else []
    at = date2num(np.array(moments)) if timed else np.array([row.row for row in rows], float)  # type: ignore[no-untyped-call]
    step = max(1, len(rows) // POINTS_MAX)
    raised = [(at[index], row.alert) for index, row in enumerate(rows) if row.alert is not None]
    figure = Figure(figsize=(12, 2.2 * (len(columns) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(columns) + 1, 1, sharex=True)
    for index, (panel, column) in enumerate(zip(panels, columns, strict=False)):
        panel.plot(at[::step], [row.sample.values[index] for row in rows[::step]], lw=0.7, color="#1f4e79")
        panel.set_ylabel(column)
    panels[-1].plot(at[::step], [row.score for row in rows[::step]], lw=0.6, color="#555555")
    panels[-1].axhline(ALERT_SCORE, lw=0.8, ls="--", color="#b22222")
    panels[-1].set_ylabel("anomaly score")
    panels[-1].set_ylim(0.0, 1.02)
    for panel in panels:
        if fall_us is not None:
            begin, end = date2num(np.array(fall_us, "datetime64[us]"))  # type: ignore[no-untyped-call]
            panel.axvspan(begin, end, color="#999999", alpha=0.2, lw=0)
        for when, source in raised:
            panel.axvline(when, lw=0.8, alpha=0.7, color=COLOURS[source])
    if timed:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    for source, colour in COLOURS.items():
        count = sum(found is source for _, found in raised)
        if count:
            panels[0].plot([], [], lw=1.5, color=colour, label=f"{count} by {source}")
    if raised:
        panels[0].legend(loc="upper left", fontsize=8, framealpha=0.8)
    figure.suptitle(f"{title}: {len(raised)} alerts in {len(rows)} rows", fontsize=11)
    figure.savefig(plot, dpi=110)
