"""Commands of the lab: ``backtest``, ``calibrate``, ``drill`` and ``stress``, and gates on their results.

A gate, ``--fail-if 'mitigated.loss > 5e6'``, ends the command with 1 where a figure of the result says so.
"""

import json
import math
import operator
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import Trust
from seawall.ops import lab
from seawall.ops.lab import backtest as backtests
from seawall.ops.lab import calibrate as calibration
from seawall.ops.lab import cascade
from seawall.ops.lab import drill as drills
from seawall.ops.lab import report as pages
from seawall.ops.lab import stress as stresses
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.tables import nearest

# ``seawall backtest``: history through the live steps, with and without mitigation.

Out = Annotated[Path | None, typer.Option("--out", help="Where to write the report, one HTML file.")]
FailIf = Annotated[
    list[str] | None, typer.Option("--fail-if", help="Exit 1 where it holds: 'mitigated.loss > 5e6'; may be repeated.")
]
Processes = Annotated[int, typer.Option("--processes", min=0, help="Processes; one per processor if 0.")]
CacheDir = Annotated[Path | None, typer.Option("--cache", help="Folder of results by content hash.")]


def backtest(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN.toml", help="History, book and variants; see ops/docs/manual/lab.md.")
    ],
    out: Out = None,
    fail_if: FailIf = None,
    processes: Processes = 0,
    cache: CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Play history through the live steps, with and without mitigation, and test the risk figures of then.

    Example: seawall backtest may-2021.toml --out may-2021.html --fail-if 'mitigated.loss > 1e6'
    """
    gates = parse_gates(fail_if or [])
    checked = backtests.load_backtest_plan(plan)
    with lab.Workers(processes) as workers:
        result = backtests.backtest(checked, lab.Cache(cache or lab.default_cache_folder()), workers)
    found = backtests.result_figures(result)
    wrong = failed_gates(gates, flatten_figures(found))
    if as_json:
        print(json.dumps({"figures": found, "failed": wrong, "result": result}))
    else:
        print("\n".join(backtests.result_lines(result)))
    if out is not None:
        out.write_text(pages.backtest_page(result, ["seawall", *sys.argv[1:]]), encoding="utf-8")
        print(f"report: {out}", file=sys.stderr)
    for line in wrong:
        print(f"fails: {line}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)


# ``seawall calibrate``: fit parameters on history, judge them on other history, propose; or look for drift.


def calibrate(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY.toml", help="Parameters and splits; see ops/docs/manual/lab.md.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for evidence and proposals.")] = Path("calibration"),
    live: Annotated[
        Path | None, typer.Option("--live", help="A run directory or configuration to compare with the calibration.")
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=0, help="Processes; one per processor if 0.")] = 0,
    cache: Annotated[Path | None, typer.Option("--cache", help="Folder of results by content hash.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
) -> None:
    """Calibrate limits, playbook and detector on history and propose what proved better; nothing is applied.

    Exit 0: done, and the live run does not drift. Exit 1: nothing proved better, or it drifts. For a scheduled job.

    Example: seawall calibrate limits-2021.toml --out calibration --live desk.toml
    """
    checked = calibration.load_study(study)
    configuration = find(live) if live is not None else None
    with lab.Workers(processes) as workers:
        fitted = calibration.fit_study(checked, lab.Cache(cache or lab.default_cache_folder()), workers)
    evidence = calibration.study_evidence(checked, fitted)
    written = calibration.write_proposal(checked, fitted, out, time.time_ns() // 1000)
    moved = None if configuration is None else calibration.measure_drift(checked, evidence, configuration)
    if as_json:
        outcome: dict[str, Any] = {"fits": evidence["fits"], "written": [str(path) for path in written]}
        print(json.dumps(outcome | {"drift": None if moved is None else moved.as_dict()}))
    else:
        lines = [one.sentence() for one in fitted.fits]
        for one in fitted.fits:
            lines += [
                f"  {name}: {one.candidates[0][name]:g} in force, {one.candidates[one.chosen][name]:g} calibrated"
                for name in one.names
            ]
        print("\n".join([*lines, *(moved.lines() if moved is not None else [])]))
        print(f"written: {', '.join(map(str, written))}", file=sys.stderr)
    if not any(one.beats for one in fitted.fits) or (moved is not None and moved.found):
        raise typer.Exit(1)


# ``seawall drill``: faults on a schedule against a running system, timed, and put on a signed record.


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
        entries = drills.verify_drill_record(plan, Trust.load(find(check)).issuers)
        print(json.dumps(entries) if as_json else f"{plan}: {len(entries)} entries, unchanged and signed")
        return

    checked = drills.load_drill(plan)
    if out is None:
        raise UsageError("--dir is missing; say where to leave the record")
    found = drills.drill(checked, out)
    if as_json:
        print(json.dumps(found))
    else:
        drills.print_drill(found)
    if not found["good"]:
        raise typer.Exit(1)


# ``seawall stress``: scenarios on a run's own book, by the code that runs live.

StressFailIf = Annotated[
    list[str] | None, typer.Option("--fail-if", help="Exit 1 where it holds: 'loss > 5e6'; may be repeated.")
]
On = Annotated[Path | None, typer.Option("--on", metavar="WHERE", help="A run directory or a configuration file.")]
StressOut = Annotated[Path | None, typer.Option("--dir", help="Leave the scenario's journal and result there.")]


def stress(  # noqa: PLR0912, PLR0913 - the options of the command, and which go together
    scenario: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO|FILE.toml]…", help="Built-in scenarios or files; none: list the former."),
    ] = None,
    on: On = None,
    contagion: Annotated[bool, typer.Option("--contagion", help="Rank whose failure hurts most.")] = False,
    forced: Annotated[
        bool, typer.Option("--cascade", help="Follow forced sales on the book from each step of one scenario.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="With --contagion or --cascade: one HTML file.")
    ] = None,
    fail_if: StressFailIf = None,
    out: StressOut = None,
    cache: CacheDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")] = False,
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
    gates = parse_gates(fail_if or [])
    plan = stresses.load_stress_plans([stresses.find_scenario(name) for name in scenario])
    if on is None:
        raise UsageError("--on is missing; name a run directory or a configuration file")
    if out is not None and (plan.reverse or len(plan.scenarios) > 1):
        raise UsageError("--dir keeps one scenario's journal; name one, without a grid and not a reverse search")
    configuration = find(on)
    bus = open_bus(configuration.bus, configuration.directory)
    answer = stresses.stress(plan, configuration, bus, lab.Cache(cache or lab.default_cache_folder()), out)
    wrong = failed_gates(gates, answer["figures"])
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
    found = cascade.rank_contagion(cascade.book_network(ledgers))
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
    moves = [cascade.Move(*step) for step in stresses.scenario_moves(plan.scenarios[0], base)]
    found: dict[str, Any] = {"scenario": plan.scenarios[0].id, "as_of_us": base.as_of_us, "journal_sha256": base.digest}
    found |= cascade.book_cascade(ledgers, base.signals, moves)
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


# Gates for CI: ``--fail-if 'mitigated.loss > 5e6'`` ends with 1 where a figure of a result is what it must not be.

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt
}  # fmt: skip
_GATE = re.compile(r"\s*([A-Za-z0-9_.:/-]+?)\s*(>=|<=|==|!=|>|<)\s*([-+0-9.eE_]+)\s*")


class Gate(NamedTuple):
    """A comparison that must not hold."""

    text: str
    name: str
    operator: str
    bound: float


def parse_gates(texts: Sequence[str]) -> list[Gate]:
    """Return gates from texts ``NAME > NUMBER``.

    Raises
    ------
    UsageError
        A text is something else.

    Examples
    --------
    >>> parse_gates(["mitigated.loss > 5e6"])[0].bound
    5000000.0
    """
    found = []
    for text in texts:
        match = _GATE.fullmatch(text)
        try:
            bound = float(match[3]) if match is not None else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise UsageError(f"--fail-if {text!r}: write NAME, one of {' '.join(OPERATORS)}, and a number")
        found.append(Gate(text, match[1], match[2], bound))
    return found


def failed_gates(gates: Sequence[Gate], figures: Mapping[str, Any]) -> list[str]:
    """Return the gates whose comparison holds, each with the figure; one on a figure that is None fails too.

    Parameters
    ----------
    figures
        By name with dots (``flat``).

    Raises
    ------
    UsageError
        A gate names no figure.
    """
    found = []
    for gate in gates:
        if gate.name not in figures:
            near = nearest(gate.name, figures)
            raise UsageError(f"--fail-if {gate.text!r}: there is no figure {gate.name!r}; did you mean {near!r}?")
        value = figures[gate.name]
        if value is None or OPERATORS[gate.operator](float(value), gate.bound):
            found.append(f"{gate.text}: {gate.name} is {'not known' if value is None else format(value, ',.6g')}")
    return found


def flatten_figures(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers of nested tables by names with dots."""
    found: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            found |= flatten_figures(value, f"{prefix}{name}.")
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            found[f"{prefix}{name}"] = value
    return found
