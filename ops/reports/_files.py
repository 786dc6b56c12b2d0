"""Single files: ``seawall detect`` scores a CSV, ``seawall saccr`` computes the exposure of a netting set.

Detection streams one CSV through the composite detector, causally, in one pass, with constant parameters: one row out
per row in, in the same order, with the time column unchanged, ``anomaly_score``, ``alert``, ``state`` and, for alerts,
``explanation``. Where a column is named as the price, a circuit-breaker rule alerts beside the score, and the
explanation says which of the two it was. A row whose values are not all finite numbers is answered with state
``invalid`` and never learned; during warm-up (150 rows) the state is ``warming``. In both the score is 0 because a
column of numbers needs one: read the state. ``--plot`` draws the series, the score and the alerts.
"""

import csv
import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from seawall.operators.core.base import DocumentError, parse_json
from seawall.operators.core.credit import exposure_at_default
from seawall.operators.core.detection import ALERT_SCORE, PRICE_BAND, AlertPolicy, AlertSource, Sample, ScoreState
from seawall.schemas.errors import UsageError

# The picture of ``seawall detect --plot``: the series, the score, and where it alerted.

POINTS_MAX = 20_000  # more than that is ink, not information; alerts are always drawn
COLOURS = {AlertSource.SCORE: "#b22222", AlertSource.RULE: "#e08a00", AlertSource.BOTH: "#6a1b9a"}


class Drawn(NamedTuple):
    """Values of one row that are drawn; ``alert`` says what raised one."""

    row: int
    sample: Sample
    score: float
    alert: AlertSource | None


def draw_detection(
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
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - extra lab
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num  # noqa: PLC0415 - extra lab
        from matplotlib.figure import Figure  # noqa: PLC0415 - extra lab
    except ImportError as error:
        raise UsageError("plots need matplotlib: pip install 'bytewax-seawall[lab]'") from error
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


# ``seawall detect``: stream one CSV through the composite detector, causally, in one pass, with constant parameters.

EPOCH_UNITS = ((1e14, 1), (1e11, 1_000), (0.0, 1_000_000))  # from this size on: microseconds, milliseconds, seconds
EPOCH_MAX = 1e17
HEAD_CHARS = 65_536  # how much of the header line is looked at to find the separator
RULED, SCORED = (AlertSource.RULE, AlertSource.BOTH), (AlertSource.SCORE, AlertSource.BOTH)


@dataclass(frozen=True)
class DetectionSummary:
    """Summary of one file."""

    rows: int
    invalid: int
    alerts: int
    by_rule: int
    by_score: int
    out: str

    def as_dict(self) -> dict[str, object]:
        """Return the fields for ``--json``."""
        return asdict(self)


def detect_csv(
    path: Path,
    time: str,
    values: Sequence[str],
    out: Path,
    plot: Path | None = None,
    price: str | None = None,
    band: float = PRICE_BAND,
) -> DetectionSummary:
    """Write score and alert for each row of a CSV (``.gz`` too; separated by comma, semicolon or tab).

    Parameters
    ----------
    path, out
        Input and output; the output appears under its name when it is complete.
    time
        Column of event times: ISO 8601 (UTC unless it says otherwise) or seconds, milliseconds or microseconds since
        1970. A time that is none of these is passed through and the row is judged without its hour of day.
    values
        Columns that are judged together.
    plot
        Where to draw series, scores and alerts as a PNG; needs matplotlib.
    price
        The one of ``values`` that is a price: moves of ``band`` against the past hour alert too.
    band
        A fraction between 0 and 1.

    Raises
    ------
    UsageError
        The file or a column does not exist, no row follows the header, or ``price`` is not one of ``values``.
    """
    if price is not None and price not in values:
        raise UsageError(f"--price {price} is not judged; name it with --value {price} too")
    if not 0.0 < band < 1.0:
        raise UsageError(f"--band {band:g} is no fraction between 0 and 1; 0.07 is 7 % within an hour")
    watch = AlertPolicy(tuple(values), price, band)
    rows = invalid = by_rule = by_score = both = 0
    drawn: list[Drawn] = []
    with _read(path, time, values) as source, _replacing(out) as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow((time, "anomaly_score", "alert", "state", "explanation"))
        for stamp, sample in source:
            score, alert, why = watch.observe(sample)
            writer.writerow((stamp, repr(score.value), int(alert is not None), score.state, why))
            rows, invalid, both = (
                rows + 1,
                invalid + (score.state is ScoreState.INVALID),
                both + (alert is AlertSource.BOTH),
            )
            by_rule, by_score = by_rule + (alert in RULED), by_score + (alert in SCORED)
            if plot is not None:
                drawn.append(Drawn(rows, sample, score.value, alert))
        if rows == 0:
            raise UsageError(f"{path} has no rows below its header")
    if plot is not None:
        draw_detection(plot, path.name, values, drawn)
    return DetectionSummary(rows, invalid, by_rule + by_score - both, by_rule, by_score, str(out))


def parse_row_time(text: str) -> int | None:
    """Return microseconds since 1970 for an ISO 8601 or a numeric time, None for anything else.

    Examples
    --------
    >>> parse_row_time("2021-05-19 13:00:00"), parse_row_time("1621429200000"), parse_row_time("noon")
    (1621429200000000, 1621429200000000, None)
    """
    try:
        number = float(text)
    except ValueError:
        return _parse_iso(text)
    if not 0.0 <= number <= EPOCH_MAX:
        return None
    return int(number * next(unit for least, unit in EPOCH_UNITS if number >= least))


def _parse_iso(text: str) -> int | None:
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return int((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


@contextmanager
def _read(path: Path, time: str, values: Sequence[str]) -> Iterator[Iterator[tuple[str, Sample]]]:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    with _open_text(path) as file:
        try:
            header_line = file.readline(HEAD_CHARS).lstrip("\ufeff")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} cannot be read as text: {error}") from error
        separator = max(",;\t", key=header_line.count)
        header = next(csv.reader([header_line], delimiter=separator), [])
        missing = [name for name in (time, *values) if name not in header]
        if missing or not values:
            raise UsageError(f"{path} has no column {', '.join(missing) or 'to judge'}; it has {', '.join(header)}")
        yield _samples(csv.reader(file, delimiter=separator), header.index(time), [header.index(v) for v in values])


def _samples(reader: Iterator[list[str]], time: int, values: Sequence[int]) -> Iterator[tuple[str, Sample]]:
    for row in reader:
        if row:
            stamp = row[time] if time < len(row) else ""
            numbers = tuple(_number(row[index]) if index < len(row) else float("nan") for index in values)
            yield stamp, Sample(parse_row_time(stamp), numbers)


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


@contextmanager
def _replacing(out: Path) -> Iterator[IO[str]]:
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} into")
    part = out.with_name(f".{out.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


# ``seawall saccr``: the exposure at default of one netting set.


def netting_set_exposure(file: Path) -> dict[str, Any]:
    """Return the SA-CCR exposure at default of the netting set in a JSON file, with every figure on the way.

    Raises
    ------
    UsageError
        The file cannot be read, or is no netting set.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; name an existing file") from error
    try:
        return exposure_at_default(parse_json(text))
    except DocumentError as error:
        raise UsageError(f"{file.name}: {error}") from error
