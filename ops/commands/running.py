"""``seawall run``, ``demo`` and ``doctor``: the dataflows of a configuration, a rehearsal, and this machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seawall.ops.commands.options import Json, say
from seawall.schemas.errors import UsageError

DATAFLOW_NAMES = ("market", "sequence", "risk", "seal")
PARALLEL_MAX = 256  # one machine has no use for more, and each is a process or a thread


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The configuration file.")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Run this dataflow only; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=PARALLEL_MAX, help="Bytewax workers per process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, max=PARALLEL_MAX, help="Processes of the risk dataflow.")] = 1,
    replica: Annotated[str, typer.Option("--replica", metavar="NAME", help="One of several that run the same.")] = "",
    takeover_s: Annotated[
        float, typer.Option(min=0.1, help="Of a replica: how long a cluster's writer may owe.")
    ] = 2.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 when any record was rejected.")] = False,
    as_json: Json = False,
) -> None:
    """Run the dataflows on the configured bus; bounded inputs end, live ones run until stopped.

    Example: seawall run desk.toml --workers 2
    """
    from seawall.connectors.replica import Replica
    from seawall.ops import run as runner
    from seawall.schemas.configuration import where

    for name in only or ():
        if name not in DATAFLOW_NAMES:
            raise UsageError(f"--only {name}: there is no such dataflow; choose from {', '.join(DATAFLOW_NAMES)}")
    if replica and not replica.isidentifier():
        raise UsageError(f"--replica {replica!r} is no name; use letters, digits and _, such as --replica b")
    part = Replica(replica, takeover_s) if replica else None
    outcome = runner.run(where(config), only or (), workers, processes, part)
    if as_json:
        print(outcome.to_json())
    else:
        for name, totals in outcome.dataflows.items():
            say(f"{name}: {totals.slices:,} slices, {totals.events:,} events, {totals.seconds:.1f} CPU seconds")
    if outcome.rejected:
        say(f"{outcome.rejected} records rejected in all; see them with: seawall rejects list {config}")
        if strict:
            raise typer.Exit(2)


def demo(
    directory: Annotated[Path | None, typer.Option("--dir", help="Where to run; a new folder by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated market.")] = 7,
) -> None:
    """Rehearse a simulated crisis on the embedded bus, then verify it and show that tampering is found.

    Example: seawall demo --dir ./demo
    """
    from seawall.ops.demo.demo import demo as rehearse

    raise typer.Exit(rehearse(directory, seed))


def doctor(where: Annotated[Path | None, typer.Argument(metavar="[WHERE]")] = None, as_json: Json = False) -> None:
    """Check this machine and, with WHERE, a configuration: versions, keys, files, bus, recovery store.

    Example: seawall doctor desk.toml
    """
    from seawall.ops.doctor import examine

    checks = examine(where)
    if as_json:
        print(json.dumps([check._asdict() for check in checks]))
    else:
        for check in checks:
            print(f"{'ok  ' if check.good else 'FAIL'} {check.name}: {check.detail}")
    if not all(check.good for check in checks):
        raise typer.Exit(1)
