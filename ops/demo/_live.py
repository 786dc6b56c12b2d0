"""Display of the demo: a live summary on a terminal, plain lines anywhere else, and the tables printed afterwards.

The run itself needs the main thread (signals, the engine), so this is a thread beside it that reads the bus, as any
subscriber could: the run reports nothing itself.
"""

import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, NamedTuple

import orjson
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seawall.connectors.bus import Bus, open_bus
from seawall.operators.core.limits import LEVELS
from seawall.ops.demo.scenario import Moment, Scenario
from seawall.schemas import evidence
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError, VerificationError
from seawall.schemas.evidence import PublicKey
from seawall.schemas.measures import RATIOS
from seawall.schemas.records import Stored

# Watching a run from outside: what stands on its topics so far, read from another thread while it is written.
#
# Nothing is told by the run itself. A reader of the bus sees what any subscriber would see, so what the demo shows
# while it runs is what stands.

TOPICS = ("breaches", "commands", "alerts", "rejects")


class TopicWatch:
    """Watch over the topics of one run; ``look`` reads on from where it stopped.

    Attributes
    ----------
    clock_us
        The event time that every shard and the second operator have passed, 0 before the first slice.
    counts
        Records by topic.
    standing
        Level by (limit, scope), of limits that are broken now.
    commands
        Payloads in order of time.
    firm
        The firm's measures, last values.
    """

    def __init__(self, bus: Bus, shards: int) -> None:
        self._bus, self._shards = bus, shards
        self._next: Counter[tuple[str, int]] = Counter()
        self._printed = 0
        self.clock_us = 0
        self.counts: Counter[str] = Counter()
        self.standing: dict[tuple[str, str], str] = {}
        self.commands: list[dict[str, Any]] = []
        self.firm: dict[str, float] = {}

    def look(self) -> list[dict[str, Any]]:
        """Read what came since the last look; return the commands that the clock has passed since, in order of time.

        Shards do not keep step, so a command is held back until nothing earlier can follow.
        """
        self._print_time()
        for topic in TOPICS:
            for partition in range(self._shards + 1):
                for stored in self._new(topic, partition):
                    self._take(topic, orjson.loads(stored.value))
        for stored in self._new("exposures", self._shards):
            self.firm |= orjson.loads(stored.value)["firm"]
        self.commands.sort(key=lambda command: int(command["iat_us"]))
        known = self._printed
        self._printed = sum(command["iat_us"] <= self.clock_us for command in self.commands)
        return self.commands[known : self._printed]

    def broken(self) -> list[tuple[str, str, str]]:
        """Return (level, limit, scope) of what is broken now, the worst first."""
        found = [(level, limit, scope) for (limit, scope), level in self.standing.items()]
        return sorted(found, key=lambda entry: (-LEVELS.index(entry[0]), entry[2]))

    def _print_time(self) -> None:
        """Take the last slice that each shard has accounted for; the audit record of a slice is its last."""
        times = []
        for partition in range(self._shards + 1):
            end = self._bus.end("audit", partition)
            last = self._bus.read("audit", partition, end - 1, 1) if end else []
            times.append(int(orjson.loads(last[0].value)["body"].get("as_of_us", 0)) if last else 0)
        self.clock_us = max(self.clock_us, min(times))
        self.counts["journal"] = sum(self._bus.end("journal", shard) for shard in range(self._shards))
        self.counts["exposures"] = sum(self._bus.end("exposures", part) for part in range(self._shards + 1))

    def _take(self, topic: str, content: dict[str, Any]) -> None:
        self.counts[topic] += 1
        if topic == "commands":
            self.commands.append(content)
        elif topic == "breaches":
            place = (content["limit"], content["scope"])
            if content["level"] == LEVELS[0]:
                self.standing.pop(place, None)
            else:
                self.standing[place] = content["level"]

    def _new(self, topic: str, partition: int) -> Iterator[Stored]:
        """Yield the records of a partition that were not read yet."""
        place = (topic, partition)
        while found := self._bus.read(topic, partition, self._next[place]):
            self._next[place] = found[-1].offset + 1
            yield from found


# What the demo reports after the run: its commands between the moments of the story, and its breaches by limit.

COLOURS = {"none": "green", "warning": "yellow", "soft": "dark_orange", "hard": "red"}


class Issued(NamedTuple):
    """A command as it stands on its topic, and whether its signature was found good."""

    payload: dict[str, Any]
    good: bool


def results_console() -> Console:
    """Return the console of results: standard output; no row is ever cut."""
    return Console(highlight=False, soft_wrap=True)


def time_of_day(time_us: int) -> str:
    """Return the UTC time of day of an event time, to a tenth of a second."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%H:%M:%S.%f")[:10]


def target_text(command: dict[str, Any]) -> str:
    """Return the target of a command as one word."""
    found = command["target"]
    return "firm" if found["scope"] == "firm" else f"{found['scope']}:{found['id']}"


def cause_text(command: dict[str, Any], playbook: list[dict[str, Any]]) -> str:
    """Return why a command was issued: the measure that broke a limit, or the news that a rule waits for."""
    reason = command["reason"]
    if "limit" in reason:
        values = (measure_text(float(reason[name]), reason["measure"]) for name in ("observed", "bound"))
        return f"{reason['level']}: {reason['measure']} {' against '.join(values)}"
    when: dict[str, str] = next((rule["when"] for rule in playbook if rule["id"] == reason["rule"]), {})
    return ", ".join(f"{name} {value}" for name, value in when.items())


def measure_text(value: float, measure: str) -> str:
    """Return a measure's value: ratios to three places, money whole."""
    return f"{value:,.3f}" if measure in RATIOS else f"{value:,.0f}"


def check_commands(stored: Iterable[Stored], keys: dict[str, PublicKey]) -> list[Issued]:
    """Verify the signature of each command; return them in order of time."""
    found = []
    for record in stored:
        try:
            evidence.verify_envelope(record.value, record.headers.get("dsse", ""), keys, evidence.COMMAND_TYPE)
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
            (time_of_day(command["iat_us"]), command["type"], target_text(command), cause_text(command, playbook)),
            Text("verified", "green") if good else Text("BAD SIGNATURE", "bold red"),
        )
        for command, good in issued
    ]
    lines = _aligned(("at (UTC)", "command", "target", "because"), rows, "signature")
    story = [(m.time_us, Text.assemble(f"{time_of_day(m.time_us)}  ", (m.text, "italic"))) for m in moments]
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
        value, bound = (measure_text(worst[name], worst["measure"]) for name in ("value", "bound"))
        how = f"{worst['level']}: {worst['measure']} {value} against {bound}"
        first, last = changes[0]["as_of_us"], changes[-1]["level"]
        rows.append(Row(first, (time_of_day(first), limit, scope, how), Text(last, COLOURS[last])))
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


# The demo while it runs: a live summary on a terminal, plain lines anywhere else; both on standard error.

LOOK_S = 0.1
COMMANDS_SHOWN = 8
LIMITS_SHOWN = 8


class Summary:
    """Shows a run while the ``with`` block runs it."""

    def __init__(self, configuration: Configuration, scenario: Scenario) -> None:
        self._configuration, self._scenario = configuration, scenario
        self._console = Console(stderr=True, highlight=False)
        self._over = threading.Event()
        self._printed = 0
        self._thread = threading.Thread(target=self._run, name="summary", daemon=True)

    def __enter__(self) -> "Summary":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        bus = open_bus(self._configuration.bus, self._configuration.directory)
        watch = TopicWatch(bus, self._configuration.shards)
        try:
            if self._console.is_terminal:
                self._show(watch)
            else:
                self._print(watch)
        except BusError as error:  # what is shown is not what is decided: the run goes on
            print(f"seawall: the live summary ended: {error}", file=sys.stderr)

    # --- anywhere: lines --------------------------------------------------------------------------------------------

    def _print(self, watch: TopicWatch) -> None:
        while True:
            over = self._over.wait(LOOK_S)
            commands = [Moment(c["iat_us"], f"{c['type']} {target_text(c)}") for c in watch.look()]
            passed = [moment for moment in self._scenario.moments if moment.time_us <= watch.clock_us]
            lines = [*passed[self._printed :], *commands]
            self._printed = len(passed)
            for time_us, text in sorted(lines, key=lambda line: line[0]):
                print(f"{time_of_day(time_us)}  {text}", file=sys.stderr)
            if over:
                return

    # --- a terminal: a picture --------------------------------------------------------------------------------------

    def _show(self, watch: TopicWatch) -> None:
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            while True:
                over = self._over.wait(LOOK_S)
                watch.look()
                live.update(self._picture(watch), refresh=True)
                if over:
                    return

    def _picture(self, watch: TopicWatch) -> Panel:
        passed = [moment.text for moment in self._scenario.moments if moment.time_us <= watch.clock_us]
        tables = Table.grid(padding=(0, 4))
        tables.add_row(self._limits(watch), self._commands(watch.commands))
        parts = (Text(passed[-1] if passed else "Starting", style="bold"), self._counts(watch), Text(), tables)
        end, start = self._scenario.end_us, self._scenario.start_us
        done = max(0.0, min(1.0, (watch.clock_us - start) / (end - start)))
        title = f"{time_of_day(max(watch.clock_us, start))} UTC on 10 October 2025, simulated: {done:.0%} of the story"
        return Panel(Group(*parts), title=title, title_align="left", height=7 + max(COMMANDS_SHOWN, LIMITS_SHOWN))

    def _counts(self, watch: TopicWatch) -> Text:
        counts = watch.counts
        seen = f"{counts['journal']:,} slices, {counts['exposures']:,} exposure records"
        found = f"{counts['breaches']} changes of level, {counts['alerts']} alerts, {counts['rejects']} rejects"
        firm = ", ".join(f"{name} {value / 1e6:,.1f}m" for name, value in watch.firm.items())
        return Text(f"{seen}, {found}\nfirm: {firm or 'nothing yet'}")

    def _limits(self, watch: TopicWatch) -> Table:
        table = Table("limits broken now", "scope", box=None, pad_edge=False)
        for level, limit, scope in watch.broken()[:LIMITS_SHOWN]:
            table.add_row(Text(f"{level:<8}{limit}", style=COLOURS[level]), scope)
        return table

    def _commands(self, commands: list[dict[str, Any]]) -> Table:
        table = Table("at", "command", "target", "because", box=None, pad_edge=False)
        for command in commands[-COMMANDS_SHOWN:]:
            why = Text(cause_text(command, self._configuration.playbook), no_wrap=True, overflow="ellipsis")
            table.add_row(time_of_day(command["iat_us"]), command["type"], target_text(command), why)
        return table
