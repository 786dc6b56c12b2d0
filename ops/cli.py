"""The command line (CONTRACT §5): thin commands over ``ops``; exit 0 good, 1 a negative finding, 2 bad usage."""

import os
import sys
from typing import Annotated

import typer

import seawall
from seawall.ops.commands import (
    audit,
    backtest,
    calibrate,
    console,
    drill,
    evidence,
    files,
    keys,
    limits,
    mirror,
    moving,
    playbook,
    rejects,
    reports,
    running,
    stress,
    topics,
)
from seawall.ops.commands import map as mapping
from seawall.ops.commands.options import say
from seawall.schemas.errors import SeawallError

app = typer.Typer(
    name="seawall",
    help="Streaming counterparty risk: exposures, limits, signed mitigation commands and provable audit records.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, group in {
    **{"keys": keys.app, "audit": audit.app, "limits": limits.app, "rejects": rejects.app},
    **{"map": mapping.app, "playbook": playbook.app, "topics": topics.app},
}.items():
    app.add_typer(group, name=name)
for command in (
    *(backtest.backtest, stress.stress, calibrate.calibrate, drill.drill),
    *(running.run, evidence.dump, evidence.verify, evidence.replay, running.demo),
    *(files.detect, files.convert, files.saccr),
    *(reports.exposures, moving.migrate, moving.backup, moving.restore, mirror.mirror),
    *(reports.forecast, reports.incidents),
    *(console.console, running.doctor),
):
    app.command()(command)


def main() -> None:
    """Run the command line; errors are one line on standard error."""
    os.environ["RUST_BACKTRACE"] = "0"  # the engine's own frames tell a user nothing; ours are chained to the error
    try:
        code = app(standalone_mode=False)  # what a command leaves with `typer.Exit`
    except SeawallError as error:
        say(f"seawall: {error}")
        sys.exit(error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        say(f"seawall: {usage()}; see seawall --help")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _version(wanted: bool) -> None:
    if wanted:
        print(seawall.__version__)
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Streaming counterparty risk: exposures, limits, signed mitigation commands and provable audit records."""
