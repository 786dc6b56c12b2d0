"""The demo while it runs: a live summary on a terminal, plain lines anywhere else; both on standard error.

The run itself needs the main thread (signals, the engine), so this is a thread beside it that reads the bus.
"""

import sys
import threading
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from seawall.connectors.bus import open_bus
from seawall.ops.demo.scenario import Moment, Scenario
from seawall.ops.demo.tables import COLOURS, because, clock, target
from seawall.ops.demo.watch import Watch
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError

LOOK_S = 0.1
COMMANDS_SHOWN = 8
LIMITS_SHOWN = 8


class Summary:
    """Shows a run while the ``with`` block runs it."""

    def __init__(self, configuration: Configuration, scenario: Scenario) -> None:
        self._configuration, self._scenario = configuration, scenario
        self._console = Console(stderr=True, highlight=False)
        self._over = threading.Event()
        self._told = 0
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
        watch = Watch(bus, self._configuration.shards)
        try:
            if self._console.is_terminal:
                self._show(watch)
            else:
                self._tell(watch)
        except BusError as error:  # what is shown is not what is decided: the run goes on
            print(f"seawall: the live summary ended: {error}", file=sys.stderr)

    # --- anywhere: lines --------------------------------------------------------------------------------------------

    def _tell(self, watch: Watch) -> None:
        while True:
            over = self._over.wait(LOOK_S)
            commands = [Moment(c["iat_us"], f"{c['type']} {target(c)}") for c in watch.look()]
            passed = [moment for moment in self._scenario.moments if moment.time_us <= watch.clock_us]
            lines = [*passed[self._told :], *commands]
            self._told = len(passed)
            for time_us, text in sorted(lines, key=lambda line: line[0]):
                print(f"{clock(time_us)}  {text}", file=sys.stderr)
            if over:
                return

    # --- a terminal: a picture --------------------------------------------------------------------------------------

    def _show(self, watch: Watch) -> None:
        with Live(console=self._console, transient=True, auto_refresh=False) as live:
            while True:
                over = self._over.wait(LOOK_S)
                watch.look()
                live.update(self._picture(watch), refresh=True)
                if over:
                    return

    def _picture(self, watch: Watch) -> Panel:
        passed = [moment.text for moment in self._scenario.moments if moment.time_us <= watch.clock_us]
        tables = Table.grid(padding=(0, 4))
        tables.add_row(self._limits(watch), self._commands(watch.commands))
        parts = (Text(passed[-1] if passed else "Starting", style="bold"), self._counts(watch), Text(), tables)
        end, start = self._scenario.end_us, self._scenario.start_us
        done = max(0.0, min(1.0, (watch.clock_us - start) / (end - start)))
        title = f"{clock(max(watch.clock_us, start))} UTC on 10 October 2025, simulated: {done:.0%} of the story"
        return Panel(Group(*parts), title=title, title_align="left", height=7 + max(COMMANDS_SHOWN, LIMITS_SHOWN))

    def _counts(self, watch: Watch) -> Text:
        counts = watch.counts
        seen = f"{counts['journal']:,} slices, {counts['exposures']:,} exposure records"
        found = f"{counts['breaches']} changes of level, {counts['alerts']} alerts, {counts['rejects']} rejects"
        firm = ", ".join(f"{name} {value / 1e6:,.1f}m" for name, value in watch.firm.items())
        return Text(f"{seen}, {found}\nfirm: {firm or 'nothing yet'}")

    def _limits(self, watch: Watch) -> Table:
        table = Table("limits broken now", "scope", box=None, pad_edge=False)
        for level, limit, scope in watch.broken()[:LIMITS_SHOWN]:
            table.add_row(Text(f"{level:<8}{limit}", style=COLOURS[level]), scope)
        return table

    def _commands(self, commands: list[dict[str, Any]]) -> Table:
        table = Table("at", "command", "target", "because", box=None, pad_edge=False)
        for command in commands[-COMMANDS_SHOWN:]:
            why = Text(because(command, self._configuration.playbook), no_wrap=True, overflow="ellipsis")
            table.add_row(clock(command["iat_us"]), command["type"], target(command), why)
        return table
