"""The picture of ``seawall detect --plot``: the series, the score, and where it alerted."""

from collections.abc import Sequence
from pathlib import Path

from seawall.operators.core.detection.composite import ALERT_SCORE
from seawall.operators.core.detection.samples import Sample
from seawall.schemas.errors import UsageError

POINTS_MAX = 20_000  # more than that is ink, not information; alerts are always drawn


def draw(plot: Path, title: str, columns: Sequence[str], rows: Sequence[tuple[int, Sample, float, bool]]) -> None:
    """Write a PNG with one panel per column and one for the score; vertical lines are alerts.

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

    timed = all(sample.time_us is not None for _, sample, _, _ in rows)
    moments = [np.datetime64(sample.time_us or 0, "us") for _, sample, _, _ in rows] if timed else []
    at = date2num(np.array(moments)) if timed else np.array([row for row, _, _, _ in rows], float)  # type: ignore[no-untyped-call]
    step = max(1, len(rows) // POINTS_MAX)
    alerts = [at[index] for index, row in enumerate(rows) if row[3]]
    figure = Figure(figsize=(12, 2.2 * (len(columns) + 1)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(columns) + 1, 1, sharex=True)
    for index, (panel, column) in enumerate(zip(panels, columns, strict=False)):
        panel.plot(at[::step], [sample.values[index] for _, sample, _, _ in rows[::step]], lw=0.7, color="#1f4e79")
        panel.set_ylabel(column)
    panels[-1].plot(at[::step], [value for _, _, value, _ in rows[::step]], lw=0.6, color="#555555")
    panels[-1].axhline(ALERT_SCORE, lw=0.8, ls="--", color="#b22222")
    panels[-1].set_ylabel("anomaly score")
    panels[-1].set_ylim(0.0, 1.02)
    for panel in panels:
        for when in alerts:
            panel.axvline(when, lw=0.7, alpha=0.6, color="#b22222")
    if timed:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    figure.suptitle(f"{title}: {len(alerts)} alerts in {len(rows)} rows", fontsize=11)
    figure.savefig(plot, dpi=110)
