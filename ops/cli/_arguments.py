"""Arguments and messages that several commands share, and the run that a command is about."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def record_progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show how many records were handled, where somebody looks."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        bar = shown.add_task(what, total=None)
        yield lambda count: shown.advance(bar, count)
