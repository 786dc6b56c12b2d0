"""What the demo reports after the run: its commands between the moments of the story, and its breaches by limit."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.text import Text

from seawall.operators.core.limit_rules import LEVELS
from seawall.ops.demo.scenario import Moment
from seawall.schemas import dsse
from seawall.schemas.dsse import PublicKey
from seawall.schemas.errors import VerificationError
from seawall.schemas.measures import RATIOS
from seawall.schemas.records import Stored

COLOURS = {"none": "green", "warning": "yellow", "soft": "dark_orange", "hard": "red"}


class Issued(NamedTuple):
    """A command as it stands on its topic, and whether its signature was found good."""

    payload: dict[str, Any]
    good: bool


def results_console() -> Console:
    """Return the console of results: standard output; no row is ever cut."""
    return Console(highlight=False, soft_wrap=True)


def clock(time_us: int) -> str:
    """Return the UTC time of day of an event time, to a tenth of a second."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%H:%M:%S.%f")[:10]


def target(command: dict[str, Any]) -> str:
    """Return the target of a command as one word."""
    found = command["target"]
    return "firm" if found["scope"] == "firm" else f"{found['scope']}:{found['id']}"


def because(command: dict[str, Any], playbook: list[dict[str, Any]]) -> str:
    """Return why a command was issued: the measure that broke a limit, or the news that a rule waits for."""
    reason = command["reason"]
    if "limit" in reason:
        values = (number(float(reason[name]), reason["measure"]) for name in ("observed", "bound"))
        return f"{reason['level']}: {reason['measure']} {' against '.join(values)}"
    when: dict[str, str] = next((rule["when"] for rule in playbook if rule["id"] == reason["rule"]), {})
    return ", ".join(f"{name} {value}" for name, value in when.items())


def number(value: float, measure: str) -> str:
    """Return a measure's value: ratios to three places, money whole."""
    return f"{value:,.3f}" if measure in RATIOS else f"{value:,.0f}"


def check_commands(stored: Iterable[Stored], keys: dict[str, PublicKey]) -> list[Issued]:
    """Verify the signature of each command; return them in order of time."""
    found = []
    for record in stored:
        try:
            dsse.verify(record.value, record.headers.get("dsse", ""), keys, dsse.COMMAND_TYPE)
            good = True
        except VerificationError:
            good = False
        found.append(Issued(orjson.loads(record.value), good))
    return sorted(found, key=lambda issued: int(issued.payload["iat_us"]))


def command_lines(issued: list[Issued], moments: Iterable[Moment], playbook: list[dict[str, Any]]) -> list[Text]:
    """Return the commands in order of time, between the moments of the story."""
    rows = [
        Row(
            command["iat_us"],
            (clock(command["iat_us"]), command["type"], target(command), because(command, playbook)),
            Text("verified", "green") if good else Text("BAD SIGNATURE", "bold red"),
        )
        for command, good in issued
    ]
    lines = _aligned(("at (UTC)", "command", "target", "because"), rows, "signature")
    story = [(m.time_us, Text.assemble(f"{clock(m.time_us)}  ", (m.text, "italic"))) for m in moments]
    placed = [*story, *zip((row.time_us for row in rows), lines[1:], strict=True)]
    return [lines[0], *(line for _, line in sorted(placed, key=lambda entry: entry[0]))]


def breach_lines(stored: Iterable[Stored]) -> list[Text]:
    """Return a line per limit and scope: when it first broke, how far it went, and where it stands at the end."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for breach in sorted((orjson.loads(record.value) for record in stored), key=lambda found: int(found["as_of_us"])):
        groups.setdefault((breach["limit"], breach["scope"]), []).append(breach)
    rows = []
    for (limit, scope), changes in groups.items():
        worst = max(changes, key=lambda change: (LEVELS.index(change["level"]), change["utilisation"]))
        value, bound = (number(worst[name], worst["measure"]) for name in ("value", "bound"))
        how = f"{worst['level']}: {worst['measure']} {value} against {bound}"
        first, last = changes[0]["as_of_us"], changes[-1]["level"]
        rows.append(Row(first, (clock(first), limit, scope, how), Text(last, COLOURS[last])))
    return _aligned(("first", "limit", "scope", "worst"), rows, "at the end")


class Row(NamedTuple):
    """One row: its time, its cells, and a last cell that may be coloured."""

    time_us: int
    cells: tuple[str, ...]
    last: Text


def _aligned(head: tuple[str, ...], rows: list[Row], last: str) -> list[Text]:
    """Return the head and the rows with their cells below each other."""
    table = [head, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
    ends = [Text(last, "bold"), *(row.last for row in rows)]
    styles = ["bold", *([""] * len(rows))]
    return [Text.assemble((text, style), "  ", end) for text, style, end in zip(texts, styles, ends, strict=True)]
