"""``seawall stress``: scenarios on a run's own book, by the code that runs live."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seawall.connectors.bus import open_bus
from seawall.ops.arguments import Json
from seawall.ops.lab import backtest
from seawall.ops.lab import report as pages
from seawall.ops.lab import stress as stresses
from seawall.ops.lab.backtest.commands import Gates
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError

_FailIf = Annotated[
    list[str] | None, typer.Option("--fail-if", help="Exit 1 where it holds: 'loss > 5e6'; may be repeated.")
]
_On = Annotated[Path | None, typer.Option("--on", metavar="WHERE", help="A run directory or a configuration file.")]
_Out = Annotated[Path | None, typer.Option("--dir", help="Leave the scenario's journal and result there.")]


def _stress(  # noqa: PLR0912, PLR0913 - the options of the command, and which go together
    scenario: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO|FILE.toml]…", help="Built-in scenarios or files; none: list the former."),
    ] = None,
    on: _On = None,
    contagion: Annotated[bool, typer.Option("--contagion", help="Rank whose failure hurts most.")] = False,
    forced: Annotated[
        bool, typer.Option("--cascade", help="Follow forced sales on the book from each step of one scenario.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="With --contagion or --cascade: one HTML file.")
    ] = None,
    fail_if: _FailIf = None,
    out: _Out = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder of results by content hash.")] = None,
    as_json: Json = False,
) -> None:
    """Play scenarios on the book as it stood after a run's last slice, or search the smallest that breaks something.

    Gates may name loss, pnl_loss, shortfall, failed, breaches_warning, breaches_soft, breaches_hard, commands and
    rejected of the worst scenario, and smallest_move of a reverse search.

    Example: seawall stress 2020-03-black-thursday --on ./run --fail-if 'loss > 5e6'
    """
    if contagion or forced:
        if on is None or fail_if or out or len(scenario or []) != forced or (contagion and forced):
            raise UsageError(
                "--contagion takes --on WHERE alone, --cascade one scenario and --on WHERE; neither --fail-if nor --dir"
            )
        if contagion:
            _contagion(on, report, as_json)
        else:
            _cascade((scenario or [""])[0], on, report, as_json)
        return
    if report is not None:
        raise UsageError("--report is of --contagion and --cascade; add one of them")
    if not scenario:
        for name in stresses.built_in_scenarios():
            print(f"{name}  {stresses.load_stress_plan(stresses.find_scenario(name)).scenarios[0].text}")
        return
    gates = Gates(fail_if or [])
    plan = stresses.load_stress_plans([stresses.find_scenario(name) for name in scenario])
    if on is None:
        raise UsageError("--on is missing; name a run directory or a configuration file")
    if out is not None and (plan.reverse or len(plan.scenarios) > 1):
        raise UsageError("--dir keeps one scenario's journal; name one, without a grid and not a reverse search")
    configuration = find(on)
    bus = open_bus(configuration.bus, configuration.directory)
    answer = stresses.stress(plan, configuration, bus, backtest.Cache(cache), out)
    wrong = gates.failed(answer["figures"])
    if as_json:
        print(json.dumps({**answer, "failed": wrong}))
    else:
        stresses.print_answer(answer)
    for line in wrong:
        print(f"fails: {line}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)


def _contagion(on: Path, report: Path | None, as_json: bool) -> None:
    """Rank whose failure hurts most in the network of claims that a run's book holds."""
    configuration = find(on)
    base = stresses.snapshot_system(configuration, open_bus(configuration.bus, configuration.directory))
    ledgers = [one.ledger for one in stresses.System.restore(base.system).exposure if one.ledger is not None]
    found = stresses.rank_contagion(stresses.book_network(ledgers))
    found |= {"as_of_us": base.as_of_us, "journal_sha256": base.digest}
    if report is not None:
        report.write_text(pages.contagion_page(found, ["seawall", *sys.argv[1:]]), encoding="utf-8")
        print(f"report: {report}", file=sys.stderr)
    if as_json:
        print(json.dumps(found))
        return
    _print_contagion(found)


def _cascade(name: str, on: Path, report: Path | None, as_json: bool) -> None:
    """Follow what each step of a scenario forces the accounts of a run's book to sell."""
    plan = stresses.load_stress_plan(stresses.find_scenario(name))
    if plan.reverse or len(plan.scenarios) > 1:
        raise UsageError("--cascade follows one scenario; name one without a grid and not a reverse search")
    configuration = find(on)
    base = stresses.snapshot_system(configuration, open_bus(configuration.bus, configuration.directory))
    ledgers = [one.ledger for one in stresses.System.restore(base.system).exposure if one.ledger is not None]
    moves = [stresses.Move(*step) for step in stresses.scenario_moves(plan.scenarios[0], base)]
    found: dict[str, Any] = {"scenario": plan.scenarios[0].id, "as_of_us": base.as_of_us, "journal_sha256": base.digest}
    found |= stresses.book_cascade(ledgers, base.signals, moves)
    if report is not None:
        report.write_text(pages.cascade_page(found, ["seawall", *sys.argv[1:]]), encoding="utf-8")
        print(f"report: {report}", file=sys.stderr)
    if as_json:
        print(json.dumps(found))
        return
    for step in found["steps"]:
        closed = len(step["liquidated"])
        print(f"after {step['at_us'] / 1e6:,.0f} s: {closed} accounts closed in {len(step['rounds'])} rounds")
        for at, end in step["end"].items():
            print(f"  {at}: {step['shock'].get(at, 0.0):+.1%} by the scenario, {end:+.1%} with forced orders")
        print(f"  not covered: {step['clients']:,.0f} of clients, {step['house']:,.0f} of our own accounts")
    if found["depth_unknown"]:
        print(f"without a known depth, taken to be thin: {', '.join(found['depth_unknown'])}")


def _print_contagion(found: Mapping[str, Any]) -> None:
    for name, ranked in found["models"].items():
        print(f"{name}:")
        for row in (*ranked["covers"], *ranked["alone"][:10]):
            print(f"  {', '.join(row['nodes'])}: others lose {row['contagion']:,.0f}, {row['failures']} more fail")
    print(f"DebtRank as first published ({found['single_hit']['before']:.4f} without any failure):")
    for row in found["single_hit"]["alone"][:10]:
        print(f"  {', '.join(row['nodes'])}: {row['debtrank']:.4f} of all claims")
    cleared = found["clearing"]
    print(f"Clearing after {' and '.join(cleared['nodes'])}: {cleared['contagion']:,.0f} of claims are not paid")
    for row in cleared["payments"][:10]:
        print(f"  {row['node']}: pays {row['paid']:,.0f} of {row['owed']:,.0f}")
    joint = found["joint"]
    if joint is None:
        print("Joint failures: no record states a default probability")
        return
    print(f"Joint failures, {joint['scenarios']:,} scenarios, correlation {joint['correlation']}: others lose")
    for name, figures in joint["models"].items():
        mean, quantile, shortfall = (figures[part]["value"] for part in ("mean", "quantile", "shortfall"))
        print(f"  {name}: {mean:,.0f} on average, 99 % {quantile:,.0f}, shortfall {shortfall:,.0f}")


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {"stress": _stress}
