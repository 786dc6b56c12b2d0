"""``seawall playbook``: try a playbook with cases, find what is wrong with it, and copy a ready one."""

import json
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from seawall.ops.commands.options import Json
from seawall.schemas.errors import UsageError

app = typer.Typer(help="Test and lint playbooks; ready ones to start from.", no_args_is_help=True)
LIBRARY = "playbooks"


@app.command("test")
def test_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Cases in TOML; names the playbook beside it.")],
    as_json: Json = False,
) -> None:
    """Run given-when-then cases against a playbook, and say which rules and transitions they reach.

    Example: seawall playbook test venue_outage.cases.toml
    """
    from seawall.ops.playbook_cases import run_cases

    outcomes, coverage = run_cases(file)
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


@app.command("lint")
def lint_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A playbook.")],
    limits: Annotated[Path | None, typer.Option(help="The limits file that it will run with.")] = None,
    as_json: Json = False,
) -> None:
    """Find unreachable rules, rules that fight, and states without a way out.

    Example: seawall playbook lint playbook.toml --limits limits.toml
    """
    from seawall.operators.core.mitigation.lint import lint
    from seawall.schemas.configuration import load_limits, load_playbook, load_response

    known = None if limits is None else load_limits(limits)
    rules = load_playbook(file, None if known is None else [limit["id"] for limit in known])
    faults = lint(rules, load_response(file), known)
    if as_json:
        print(json.dumps([fault._asdict() for fault in faults]))
    else:
        for fault in faults:
            print(f"{file.name} [[rule]] {fault.rule}: {fault.kind}: {fault.text}")
        print(f"{len(rules)} rules, {len(faults)} faults")
    if faults:
        raise typer.Exit(1)


@app.command("ready")
def ready_command(
    name: Annotated[str, typer.Argument(help="Which one; leave it out for a list.")] = "",
    to: Annotated[Path | None, typer.Option("--to", help="A folder to copy the playbook and its cases into.")] = None,
) -> None:
    """List the ready playbooks, or print or copy one.

    Example: seawall playbook ready venue_outage --to playbooks
    """
    folder = resources.files("seawall.ops") / LIBRARY
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
