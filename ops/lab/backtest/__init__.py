"""Backtests: history through the live steps, with and without mitigation, and parameters calibrated on it."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.backtest._history import REST as REST
    from seawall.ops.lab.backtest._history import read_lines as read_lines
    from seawall.ops.lab.backtest._plan import load_backtest_plan as load_backtest_plan
    from seawall.ops.lab.backtest._play import detection_quality as detection_quality
    from seawall.ops.lab.backtest._proposal import fit_study as fit_study
    from seawall.ops.lab.backtest._proposal import measure_drift as measure_drift
    from seawall.ops.lab.backtest._proposal import study_evidence as study_evidence
    from seawall.ops.lab.backtest._proposal import write_proposal as write_proposal
    from seawall.ops.lab.backtest._rehearsal import Exposures as Exposures
    from seawall.ops.lab.backtest._rehearsal import Rehearsal as Rehearsal
    from seawall.ops.lab.backtest._rehearsal import RehearsalResult as RehearsalResult
    from seawall.ops.lab.backtest._rehearsal import WorldReactions as WorldReactions
    from seawall.ops.lab.backtest._run import SIGNALS as SIGNALS
    from seawall.ops.lab.backtest._run import backtest as backtest
    from seawall.ops.lab.backtest._run import prepare_history as prepare_history
    from seawall.ops.lab.backtest._run import result_figures as result_figures
    from seawall.ops.lab.backtest._stream import Client as Client
    from seawall.ops.lab.backtest._stream import client_reference_records as client_reference_records
    from seawall.ops.lab.backtest._stream import opening_records as opening_records
    from seawall.ops.lab.backtest._study import load_study as load_study
    from seawall.ops.lab.backtest._work import Cache as Cache
    from seawall.ops.lab.backtest._work import GrowingFile as GrowingFile
    from seawall.ops.lab.backtest._work import Job as Job
    from seawall.ops.lab.backtest._work import Workers as Workers

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
