"""Backtests: history through the live steps, with and without mitigation, and parameters calibrated on it."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.backtest._history import REST, read_lines
    from seawall.ops.lab.backtest._plan import load_backtest_plan
    from seawall.ops.lab.backtest._play import detection_quality
    from seawall.ops.lab.backtest._proposal import fit_study, measure_drift, study_evidence, write_proposal
    from seawall.ops.lab.backtest._rehearsal import Exposures, Rehearsal, RehearsalResult, WorldReactions
    from seawall.ops.lab.backtest._run import SIGNALS, backtest, prepare_history, result_figures
    from seawall.ops.lab.backtest._stream import Client, client_reference_records, opening_records
    from seawall.ops.lab.backtest._study import load_study
    from seawall.ops.lab.backtest._work import Cache, GrowingFile, Job, Workers

_HOMES = {
    "Cache": "seawall.ops.lab.backtest._work",
    "Client": "seawall.ops.lab.backtest._stream",
    "Exposures": "seawall.ops.lab.backtest._rehearsal",
    "GrowingFile": "seawall.ops.lab.backtest._work",
    "Job": "seawall.ops.lab.backtest._work",
    "REST": "seawall.ops.lab.backtest._history",
    "Rehearsal": "seawall.ops.lab.backtest._rehearsal",
    "RehearsalResult": "seawall.ops.lab.backtest._rehearsal",
    "SIGNALS": "seawall.ops.lab.backtest._run",
    "Workers": "seawall.ops.lab.backtest._work",
    "WorldReactions": "seawall.ops.lab.backtest._rehearsal",
    "backtest": "seawall.ops.lab.backtest._run",
    "client_reference_records": "seawall.ops.lab.backtest._stream",
    "detection_quality": "seawall.ops.lab.backtest._play",
    "fit_study": "seawall.ops.lab.backtest._proposal",
    "load_backtest_plan": "seawall.ops.lab.backtest._plan",
    "load_study": "seawall.ops.lab.backtest._study",
    "measure_drift": "seawall.ops.lab.backtest._proposal",
    "opening_records": "seawall.ops.lab.backtest._stream",
    "prepare_history": "seawall.ops.lab.backtest._run",
    "read_lines": "seawall.ops.lab.backtest._history",
    "result_figures": "seawall.ops.lab.backtest._run",
    "study_evidence": "seawall.ops.lab.backtest._proposal",
    "write_proposal": "seawall.ops.lab.backtest._proposal",
}
__all__ = [
    "REST",
    "SIGNALS",
    "Cache",
    "Client",
    "Exposures",
    "GrowingFile",
    "Job",
    "Rehearsal",
    "RehearsalResult",
    "Workers",
    "WorldReactions",
    "backtest",
    "client_reference_records",
    "detection_quality",
    "fit_study",
    "load_backtest_plan",
    "load_study",
    "measure_drift",
    "opening_records",
    "prepare_history",
    "read_lines",
    "result_figures",
    "study_evidence",
    "write_proposal",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
