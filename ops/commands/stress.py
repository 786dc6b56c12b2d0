"""``seawall stress``: scenarios on a run's own book, by the code that runs live."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from seawall.schemas.errors import UsageError

FailIf = Annotated[
    list[str] | None, typer.Option("--fail-if", help="Exit 1 where it holds: 'loss > 5e6'; may be repeated.")
]
On = Annotated[Path | None, typer.Option("--on", metavar="WHERE", help="A run directory or a configuration file.")]
Out = Annotated[Path | None, typer.Option("--dir", help="Leave the scenario's journal and result there.")]
CacheDir = Annotated[Path | None, typer.Option("--cache", help="Folder of results by content hash.")]


def stress(
    scenario: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO|FILE.toml]…", help="Built-in scenarios or files; none: list the former."),
    ] = None,
    on: On = None,
    contagion: Annotated[bool, typer.Option("--contagion", help="Rank whose failure hurts most.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="With --contagion: one HTML file.")] = None,
    fail_if: FailIf = None,
    out: Out = None,
    cache: CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Play scenarios on the book as it stood after a run's last slice, or search the smallest that breaks something.

    Gates may name loss, pnl_loss, shortfall, failed, breaches_warning, breaches_soft, breaches_hard, commands and
    rejected of the worst scenario, and smallest_move of a reverse search.

    Example: seawall stress 2020-03-black-thursday --on ./run --fail-if 'loss > 5e6'
    """
    from seawall.connectors.bus import open_bus
    from seawall.ops.lab.cache import Cache, default_folder
    from seawall.ops.lab.gates import failed, parse_gates
    from seawall.ops.lab.stress.run import print_answer
    from seawall.ops.lab.stress.run import stress as answer_of
    from seawall.ops.lab.stress.scenario import built_in, find_scenario, load_plan, load_plans
    from seawall.schemas.configuration import where

    if contagion:
        if scenario or fail_if or out or on is None:
            raise UsageError("--contagion takes --on WHERE, and neither scenarios nor --fail-if nor --dir")
        _contagion(on, report, as_json)
        return
    if report is not None:
        raise UsageError("--report is of --contagion; add that")
    if not scenario:
        for name in built_in():
            print(f"{name}  {load_plan(find_scenario(name)).scenarios[0].text}")
        return
    gates, plan = parse_gates(fail_if or []), load_plans([find_scenario(name) for name in scenario])
    if on is None:
        raise UsageError("--on is missing; name a run directory or a configuration file")
    if out is not None and (plan.reverse or len(plan.scenarios) > 1):
        raise UsageError("--dir keeps one scenario's journal; name one, without a grid and not a reverse search")
    configuration = where(on)
    bus = open_bus(configuration.bus, configuration.directory)
    answer = answer_of(plan, configuration, bus, Cache(cache or default_folder()), out)
    wrong = failed(gates, answer["figures"])
    if as_json:
        print(json.dumps({**answer, "failed": wrong}))
    else:
        print_answer(answer)
    for line in wrong:
        print(f"fails: {line}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)


def _contagion(on: Path, report: Path | None, as_json: bool) -> None:
    """Rank whose failure hurts most in the network of claims that a run's book holds."""
    from seawall.connectors.bus import open_bus
    from seawall.ops.lab.cascade.held import contagion, held
    from seawall.ops.lab.stress.system import System, stand
    from seawall.schemas.configuration import where

    configuration = where(on)
    base = stand(configuration, open_bus(configuration.bus, configuration.directory))
    ledgers = [one.ledger for one in System.restore(base.system).exposure if one.ledger is not None]
    found = contagion(held(ledgers)) | {"as_of_us": base.as_of_us, "journal_sha256": base.digest}
    if report is not None:
        from seawall.ops.lab.report.contagion import contagion_page

        report.write_text(contagion_page(found, ["seawall", *sys.argv[1:]]), encoding="utf-8")
        print(f"report: {report}", file=sys.stderr)
    if as_json:
        print(json.dumps(found))
        return
    for name, ranked in found["models"].items():
        print(f"{name}:")
        for row in (*ranked["covers"], *ranked["alone"][:10]):
            print(f"  {', '.join(row['nodes'])}: others lose {row['contagion']:,.0f}, {row['failures']} more fail")
