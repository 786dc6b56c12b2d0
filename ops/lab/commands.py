"""``seawall playbook`` and ``drill``: cases against a playbook, and faults against a running system."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from seawall.connectors.keys import Trust
from seawall.ops import lab
from seawall.ops.arguments import Json
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError

# ``seawall playbook``: try a playbook with cases, find what is wrong with it, and copy a ready one.

_playbook = typer.Typer(help="Test and lint playbooks; ready ones to start from.", no_args_is_help=True)
_LIBRARY = "playbooks"


@_playbook.command("test")
def _test(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Cases in TOML; names the playbook beside it.")],
    as_json: Json = False,
) -> None:
    """Run given-when-then cases against a playbook, and say which rules and transitions they reach.

    Example: seawall playbook test venue_outage.cases.toml
    """
    outcomes, coverage = lab.run_cases(file)
    failed = [outcome for outcome in outcomes if outcome.faults]
    parts = {"rules": coverage.rules, "transitions": coverage.transitions}
    if as_json:
        cases = [{"name": one.name, "good": not one.faults, "faults": one.faults} for one in outcomes]
        print(json.dumps({"good": not failed, "cases": cases, "coverage": parts}))
    else:
        for outcome in outcomes:
            print(f"{'FAIL' if outcome.faults else 'ok  '}  {outcome.name}")
            for fault in outcome.faults:
                print(f"        {fault}")
        for name, reached in parts.items():
            missed = [one for one, hit in reached.items() if not hit]
            left = f"; not reached: {'; '.join(missed)}" if missed else ""
            print(f"{name}: {len(reached) - len(missed)} of {len(reached)}{left}")
    if failed:
        raise typer.Exit(1)


@_playbook.command("lint")
def _lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A playbook.")],
    limits: Annotated[Path | None, typer.Option(help="The limits file that it will run with.")] = None,
    as_json: Json = False,
) -> None:
    """Find unreachable rules, rules that fight, and states without a way out.

    Example: seawall playbook lint playbook.toml --limits limits.toml
    """
    rules, faults = lab.lint_playbook(file, limits)
    if as_json:
        print(json.dumps([fault._asdict() for fault in faults]))
    else:
        for fault in faults:
            print(f"{file.name} [[rule]] {fault.rule}: {fault.kind}: {fault.text}")
        print(f"{rules} rules, {len(faults)} faults")
    if faults:
        raise typer.Exit(1)


@_playbook.command("ready")
def _ready(
    name: Annotated[str, typer.Argument(help="Which one; leave it out for a list.")] = "",
    to: Annotated[Path | None, typer.Option("--to", help="A folder to copy the playbook and its cases into.")] = None,
) -> None:
    """List the ready playbooks, or print or copy one.

    Example: seawall playbook ready venue_outage --to playbooks
    """
    folder = resources.files("seawall.ops") / _LIBRARY
    names = sorted(one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml"))
    ready = [one for one in names if not one.endswith(".cases")]
    if not name:
        for one in ready:
            head = (folder / f"{one}.toml").read_text("utf-8").splitlines()[0].removeprefix("# ")
            print(f"{one:20} {head}")
        return
    if name not in ready:
        raise UsageError(f"there is no ready playbook {name!r}; choose from {', '.join(ready)}")
    for file in (f"{name}.toml", f"{name}.cases.toml"):
        text = (folder / file).read_text("utf-8")
        if to is None:
            print(text)
        else:
            to.mkdir(parents=True, exist_ok=True)
            (to / file).write_text(text, "utf-8")


# ``seawall drill``: faults on a schedule against a running system, timed, and put on a signed record.


def _drill(
    plan: Annotated[
        Path, typer.Argument(metavar="DRILL.toml", help="The schedule; with --check, the record of a drill.")
    ],
    out: Annotated[Path | None, typer.Option("--dir", help="Where to leave the record and the run's log.")] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="WHERE", help="Verify a record with the keys of a run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Kill, cut, freeze, skew and corrupt a running system on a schedule; exit 1 where it does not come back in time.

    The drill starts the run of the configuration that the file names, and starts it again whenever it ends. It measures
    the time to detect each fault, to the next command, and to recover; at the end it verifies and replays the run.

    Example: seawall drill kills.toml --dir ./drill-2026-11
    """
    if check is not None:
        entries = lab.verify_drill_record(plan, Trust.load(find(check)).issuers)
        print(json.dumps(entries) if as_json else f"{plan}: {len(entries)} entries, unchanged and signed")
        return

    checked = lab.load_drill(plan)
    if out is None:
        raise UsageError("--dir is missing; say where to leave the record")
    found = lab.drill(checked, out)
    if as_json:
        print(json.dumps(found))
    else:
        lab.print_drill(found)
    if not found["good"]:
        raise typer.Exit(1)


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {"playbook": _playbook, "drill": _drill}
