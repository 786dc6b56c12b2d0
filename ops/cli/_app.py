"""The ``seawall`` program: every command in one application; exit 0 good, 1 a negative finding, 2 bad usage."""

import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

import seawall
from seawall.ops.cli import _evidence, _keys, _lab, _limits, _reports, _run
from seawall.ops.cli import _reports as mapping
from seawall.ops.cli._arguments import say
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
    **{
        "keys": _keys.keys_app,
        "audit": _evidence.audit_app,
        "limits": _limits.limits_app,
        "rejects": _evidence.rejects_app,
    },
    **{"map": mapping.map_app, "playbook": _limits.playbook_app, "topics": _run.topics_app},
}.items():
    app.add_typer(group, name=name)
for command in (
    *(_lab.backtest, _lab.stress, _lab.calibrate, _lab.drill),
    *(_run.run, _evidence.dump, _evidence.verify, _evidence.replay, _run.demo),
    *(_reports.detect, _reports.convert, _reports.saccr),
    *(_reports.exposures, _run.migrate, _run.backup, _run.restore, _run.mirror),
    *(_reports.forecast, _reports.incidents),
    *(_run.console, _run.doctor),
):
    app.command()(command)


def main() -> None:
    """Run the command line; errors are one line on standard error."""
    os.environ["RUST_BACKTRACE"] = "0"  # the engine's own frames tell a user nothing; ours are chained to the error
    _open_streams()
    try:
        code = app(standalone_mode=False)  # what a command leaves with `typer.Exit`
        sys.stdout.flush()  # here, where a full disk can still be told
    except SeawallError as error:
        say(f"seawall: {error}")
        sys.exit(error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except typer.Abort:
        sys.exit(130)
    except SystemExit as ended:  # typer's answer, with 1, to a pipe that nobody reads any more; 1 is a finding's
        sys.exit(128 + signal.SIGPIPE if ended.code == 1 else ended.code)
    except OSError as error:  # the world failed where no line of ours says it better: a mode, an owner, a full disk
        _leave_output()
        if isinstance(error, BrokenPipeError):
            sys.exit(128 + signal.SIGPIPE)
        place = f"{error.filename}: " if error.filename is not None else "what was asked cannot be read or written: "
        say(f"seawall: {place}{error.strerror or error}; check owner, mode and free space, then give it again")
        sys.exit(2)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is None:
            raise
        say(f"seawall: {usage()}; see seawall --help")
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Give every standard stream a place, so that no file of a run gets its number, and let it print any text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_output() -> None:
    """Let the interpreter's end not write again what could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (it is the stream until the end)


def _version(wanted: bool) -> None:
    if wanted:
        print(seawall.__version__)
        raise typer.Exit


@app.callback()
def _top(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Streaming counterparty risk: exposures, limits, signed mitigation commands and provable audit records."""
