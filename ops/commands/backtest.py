"""``seawall backtest``: history through the live steps, with and without mitigation."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

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
    from seawall.ops.lab.backtest.plan import load_plan
    from seawall.ops.lab.backtest.run import backtest as run
    from seawall.ops.lab.backtest.tell import as_lines, figures
    from seawall.ops.lab.cache import Cache, default_folder
    from seawall.ops.lab.gates import failed, flat, parse_gates
    from seawall.ops.lab.workers import Workers

    gates = parse_gates(fail_if or [])
    checked = load_plan(plan)
    with Workers(processes) as workers:
        result = run(checked, Cache(cache or default_folder()), workers)
    found = figures(result)
    wrong = failed(gates, flat(found))
    if as_json:
        print(json.dumps({"figures": found, "failed": wrong, "result": result}))
    else:
        print("\n".join(as_lines(result)))
    if out is not None:
        from seawall.ops.lab.report.page import backtest_page

        out.write_text(backtest_page(result, ["seawall", *sys.argv[1:]]), encoding="utf-8")
        print(f"report: {out}", file=sys.stderr)
    for line in wrong:
        print(f"fails: {line}", file=sys.stderr)
    if wrong:
        raise typer.Exit(1)
