"""``seawall drill``: faults on a schedule against a running system, timed, and put on a signed record."""

import json
from pathlib import Path
from typing import Annotated

import typer

from seawall.schemas.errors import UsageError


def drill(
    plan: Annotated[
        Path, typer.Argument(metavar="DRILL.toml", help="The schedule; with --check, the record of a drill.")
    ],
    out: Annotated[Path | None, typer.Option("--dir", help="Where to leave the record and the run's log.")] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="WHERE", help="Verify a record with the keys of a run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Kill, cut, freeze, skew and corrupt a running system on a schedule; exit 1 where it does not come back in time.

    The drill starts the run of the configuration that the file names, and starts it again whenever it ends. It measures
    the time to detect each fault, to the next command, and to recover; at the end it verifies and replays the run.

    Example: seawall drill kills.toml --dir ./drill-2026-11
    """
    if check is not None:
        from seawall.connectors.trust import load_trust
        from seawall.ops.lab.drill.record import verify_record
        from seawall.schemas.configuration import where

        entries = verify_record(plan, load_trust(where(check)).issuers)
        print(json.dumps(entries) if as_json else f"{plan}: {len(entries)} entries, unchanged and signed")
        return
    from seawall.ops.lab.drill.plan import load_drill
    from seawall.ops.lab.drill.run import drill as run
    from seawall.ops.lab.drill.run import print_drill

    checked = load_drill(plan)
    if out is None:
        raise UsageError("--dir is missing; say where to leave the record")
    found = run(checked, out)
    if as_json:
        print(json.dumps(found))
    else:
        print_drill(found)
    if not found["good"]:
        raise typer.Exit(1)
