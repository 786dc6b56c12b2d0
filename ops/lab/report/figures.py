"""Figures as inline SVG: one look for all, text as text, sizes in inches for a page 10 wide; needs ``matplotlib``."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from seawall.schemas.errors import UsageError

INK, MUTED, GRID = "#1d2733", "#5b6875", "#dde3e8"
BAD, GOOD, LIMIT = "#b3394a", "#1b6e8c", "#8a5a00"
LEVELS = {"warning": "#e0b23c", "soft": "#d97c2b", "hard": "#b3394a"}
SERIES = ("#1b6e8c", "#d97c2b", "#5a8f3d", "#8056a8", "#b3394a", "#7a6a53", "#3d8f86", "#c2569a")
WIDTH = 10.0
_style: Any = {
    "font.family": "sans-serif", "font.size": 9.5, "axes.edgecolor": MUTED, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.7,
    "xtick.color": MUTED, "ytick.color": MUTED, "text.color": INK, "axes.titlesize": 10.5, "axes.titlelocation": "left",
    "axes.titleweight": "bold", "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "seawall",
}  # fmt: skip
_ids = re.compile(r'(id="|xlink:href="#|url\(#)')


@contextmanager
def figure(
    rows: int = 1, columns: int = 1, height: float = 3.0, **options: Any
) -> Iterator[tuple[Any, Any, list[str]]]:
    """Yield a figure, its axes, and a list that holds its SVG when the block ends.

    Raises
    ------
    UsageError
        matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise UsageError("reports need matplotlib; install it with: pip install 'bytewax-seawall[lab]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn: list[str] = []
    with matplotlib.rc_context(_style):
        made, axes = pyplot.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)
        try:
            yield made, axes, drawn
            out = io.StringIO()
            made.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(made)
    drawn.append(out.getvalue()[out.getvalue().index("<svg") :])


def distinct(svg: str, name: str) -> str:
    """Return an SVG whose ids begin with a name, so that several stand in one page."""
    return _ids.sub(lambda found: f"{found[1]}{name}-", svg)


def moment(time_us: float) -> datetime:
    """Return a time as matplotlib takes it, UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC)


def money(value: float) -> str:
    """Return an amount for a person: 8.37 million.

    Examples
    --------
    >>> money(8371005.9), money(-12_300), money(0.2)
    ('8.37 million', '−12,300', '0')
    """
    size, sign = abs(value), "−" if value <= -0.5 else ""
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if size >= unit:
            return f"{sign}{size / unit:,.2f}{name}"
    return f"{sign}{size:,.0f}"


def money_axis(axis: Any) -> None:
    """Label an axis with amounts."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def _short(value: float) -> str:
    for unit, name in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:,.4g}{name}"
    return f"{value:,.4g}"


def time_axis(axes: Any) -> None:
    """Label the horizontal axis with times, UTC."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
