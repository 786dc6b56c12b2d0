"""``seawall calibrate``: fit parameters on history, judge them on other history, propose; or look for drift."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer


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
    from seawall.ops.lab.cache import Cache, default_folder
    from seawall.ops.lab.calibrate.drift import drift
    from seawall.ops.lab.calibrate.fit import fit
    from seawall.ops.lab.calibrate.proposal import evidence_of, write
    from seawall.ops.lab.calibrate.study import load_study
    from seawall.ops.lab.workers import Workers
    from seawall.schemas.configuration import where

    checked = load_study(study)
    configuration = where(live) if live is not None else None
    with Workers(processes) as workers:
        fitted = fit(checked, Cache(cache or default_folder()), workers)
    evidence = evidence_of(checked, fitted)
    written = write(checked, fitted, out, time.time_ns() // 1000)
    moved = None if configuration is None else drift(checked, evidence, configuration)
    if as_json:
        told: dict[str, Any] = {"fits": evidence["fits"], "written": [str(path) for path in written]}
        print(json.dumps(told | {"drift": None if moved is None else moved.as_dict()}))
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
