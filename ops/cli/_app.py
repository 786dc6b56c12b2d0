"""The ``seawall`` program: every command in one application; exit 0 good, 1 a negative finding, 2 bad usage."""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

import seawall
from seawall.ops import console, demo
from seawall.ops.arguments import Where, say
from seawall.ops.cli import _keys
from seawall.ops.lab import commands as lab
from seawall.ops.lab.backtest import commands as backtest
from seawall.ops.lab.stress import commands as stress
from seawall.ops.reports import commands as reports
from seawall.ops.run import commands as run
from seawall.ops.verify import commands as verify
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import SeawallError, invariant

# All commands, in the order in which the help shows them.
SHOWN = (
    *("keys", "audit", "limits", "rejects", "map", "playbook", "topics"),
    *("backtest", "stress", "calibrate", "drill"),
    *("run", "dump", "verify", "replay", "demo"),
    *("detect", "convert", "saccr"),
    *("exposures", "migrate", "backup", "restore", "mirror"),
    *("forecast", "incidents", "console", "doctor"),
)

app = typer.Typer(
    name="seawall",
    help="Streaming counterparty risk: exposures, limits, signed mitigation commands and provable audit records.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to run; a new folder by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated market.")] = 7,
) -> None:
    """Rehearse a simulated crisis on the embedded bus, then verify it and show that tampering is found.

    Example: seawall demo --dir ./demo
    """
    raise typer.Exit(demo.demo(directory, seed))


def _console(
    where: Where,
    listen: Annotated[str, typer.Option(help="HOST:PORT; away from this host only with TLS.")] = "127.0.0.1:8321",
    token_file: Annotated[Path | None, typer.Option(help="A file, mode 0600, with the token to look with.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM certificate chain for HTTPS.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="PEM of who vouches for those who look (mutual TLS).")] = None,
    name: Annotated[str, typer.Option(help="The name people ask it by, where that is not the host.")] = "",
) -> None:
    """Serve a read-only page of exposures, alerts, incidents, limits and audit that follows a run.

    The address is told on standard error; without --token-file or --client-ca it carries a token made for this start.

    Example: seawall console desk.toml
    """
    console.serve(find(where), console.Terms(listen, token_file, certificate, key, client_ca, name))


_commands: dict[str, Callable[..., None] | typer.Typer] = {
    **{"keys": _keys.keys_app, "demo": _demo, "console": _console},
    **{**run.COMMANDS, **reports.COMMANDS, **verify.COMMANDS},
    **{**lab.COMMANDS, **backtest.COMMANDS, **stress.COMMANDS},
}
for name in SHOWN:
    command = _commands.pop(name)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)
invariant(not _commands, f"every command has its place in the help: {', '.join(_commands)}")


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
