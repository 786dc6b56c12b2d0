"""``seawall backtest`` and ``calibrate``: history played, and parameters fitted on it; and gates on results."""

import json
import math
import operator
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seawall.ops.arguments import Json
from seawall.ops.lab import backtest as backtests
from seawall.ops.lab import report as pages
from seawall.schemas.configuration import where as find
from seawall.schemas.errors import UsageError
from seawall.schemas.tables import nearest

_Out = Annotated[Path | None, typer.Option("--out", help="Where to write the report, one HTML file.")]
_FailIf = Annotated[
    list[str] | None, typer.Option("--fail-if", help="Exit 1 where it holds: 'mitigated.loss > 5e6'; may be repeated.")
]
_Processes = Annotated[int, typer.Option("--processes", min=0, help="Processes; one per processor if 0.")]
_CacheDir = Annotated[Path | None, typer.Option("--cache", help="Folder of results by content hash.")]


def _backtest(
    plan: Annotated[
        Path, typer.Argument(metavar="PLAN.toml", help="History, book and variants; see ops/docs/manual/lab.md.")
    ],
    out: _Out = None,
    fail_if: _FailIf = None,
    processes: _Processes = 0,
    cache: _CacheDir = None,
    as_json: Json = False,
) -> None:
    """Play history through the live steps, with and without mitigation, and test the risk figures of then.

    Example: seawall backtest may-2021.toml --out may-2021.html --fail-if 'mitigated.loss > 1e6'
    """
    gates = Gates(fail_if or [])
    checked = backtests.load_backtest_plan(plan)
    with backtests.Workers(processes) as workers:
        result = backtests.backtest(checked, backtests.Cache(cache), workers)
    found = backtests.result_figures(result)
    wrong = gates.failed(found)
    if as_json:
        print(json.dumps({"figures": found, "failed": wrong, "result": result}))
    else:
        print("\n".join(pages.result_lines(result)))
    if out is not None:
        out.write_text(pages.backtest_page(result, ["seawall", *sys.argv[1:]]), encoding="utf-8")
        print(f"report: {out}", file=sys.stderr)
    for line in wrong:
        print(f"fails: {line}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)


def _calibrate(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY.toml", help="Parameters and splits; see ops/docs/manual/lab.md.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for evidence and proposals.")] = Path("calibration"),
    live: Annotated[
        Path | None, typer.Option("--live", help="A run directory or configuration to compare with the calibration.")
    ] = None,
    processes: _Processes = 0,
    cache: _CacheDir = None,
    as_json: Json = False,
) -> None:
    """Calibrate limits, playbook and detector on history and propose what proved better; nothing is applied.

    Exit 0: done, and the live run does not drift. Exit 1: nothing proved better, or it drifts. For a scheduled job.

    Example: seawall calibrate limits-2021.toml --out calibration --live desk.toml
    """
    checked = backtests.load_study(study)
    configuration = find(live) if live is not None else None
    with backtests.Workers(processes) as workers:
        fitted = backtests.fit_study(checked, backtests.Cache(cache), workers)
    evidence = backtests.study_evidence(checked, fitted)
    written = backtests.write_proposal(checked, fitted, out, time.time_ns() // 1000)
    moved = None if configuration is None else backtests.measure_drift(checked, evidence, configuration)
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


# Gates for CI: ``--fail-if 'mitigated.loss > 5e6'`` ends with 1 where a figure of a result is what it must not be.

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt
}  # fmt: skip
_GATE = re.compile(r"\s*([A-Za-z0-9_.:/-]+?)\s*(>=|<=|==|!=|>|<)\s*([-+0-9.eE_]+)\s*")


class Gates:
    """Comparisons that must not hold.

    Parameters
    ----------
    texts
        Each ``NAME > NUMBER``, or with another of the comparisons.

    Raises
    ------
    UsageError
        A text is something else.

    Examples
    --------
    >>> Gates(["mitigated.loss > 5e6"]).failed({"mitigated": {"loss": 6e6}})
    ['mitigated.loss > 5e6: mitigated.loss is 6e+06']
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._gates = [(text, *_parsed(text)) for text in texts]

    def failed(self, figures: Mapping[str, Any]) -> list[str]:
        """Return the gates whose comparison holds, each with the figure; one on a figure that is None fails too.

        Parameters
        ----------
        figures
            Tables of them; a gate names one with dots.

        Raises
        ------
        UsageError
            A gate names no figure.
        """
        found, known = [], _flat_figures(figures)
        for text, name, sign, bound in self._gates:
            if name not in known:
                near = nearest(name, known)
                raise UsageError(f"--fail-if {text!r}: there is no figure {name!r}; did you mean {near!r}?")
            value = known[name]
            if value is None or _OPERATORS[sign](float(value), bound):
                found.append(f"{text}: {name} is {'not known' if value is None else format(value, ',.6g')}")
        return found


def _parsed(text: str) -> tuple[str, str, float]:
    """Return the name, the comparison and the number of a gate."""
    match = _GATE.fullmatch(text)
    try:
        bound = float(match[3]) if match is not None else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise UsageError(f"--fail-if {text!r}: write NAME, one of {' '.join(_OPERATORS)}, and a number")
    return match[1], match[2], bound


def _flat_figures(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers of nested tables by names with dots."""
    found: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            found |= _flat_figures(value, f"{prefix}{name}.")
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            found[f"{prefix}{name}"] = value
    return found


COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {"backtest": _backtest, "calibrate": _calibrate}
