"""Arguments and messages that commands share, and the run that a command is about.

The commands themselves lie with what they command, in ``commands`` of its package; `ops.cli` puts them together.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from seawall.connectors.bus import open_bus
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError

Where = Annotated[Path, typer.Argument(metavar="WHERE", help="A run directory or a configuration file.")]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]


def say(text: str) -> None:
    """Print a line on standard error, where all goes that is no result."""
    print(text, file=sys.stderr)


def open_run(where: Path) -> tuple[Any, Any]:
    """Return the configuration and the bus of WHERE; a run that has not begun has no bus."""
    configuration = find(where)
    scheme, _, rest = configuration.bus.partition(":")
    if scheme == "sqlite" and not (configuration.directory / rest).exists():
        raise UsageError(f"{configuration.directory / rest} does not exist; run it first: seawall run {where}")
    return configuration, open_bus(configuration.bus, configuration.directory)


def parse_time(text: str) -> int | None:
    """Return event time in microseconds of an ISO time (UTC unless it says otherwise) or a number; None for none."""
    if not text:
        return None
    if text.isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no time; write 2021-05-19T13:00 or microseconds since the epoch") from error
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6)


@contextmanager
def show_progress(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar while work goes on, where somebody looks; yield what to call with how many parts are done, or one."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        yield partial(shown.advance, shown.add_task(what, total=total))
