"""Calibration: parameters fitted on history, judged on other history, proposed and never applied."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.calibrate._proposal import fit_study, measure_drift, study_evidence, write_proposal
    from seawall.ops.lab.calibrate._study import load_study

_HOMES = {
    "fit_study": "seawall.ops.lab.calibrate._proposal",
    "load_study": "seawall.ops.lab.calibrate._study",
    "measure_drift": "seawall.ops.lab.calibrate._proposal",
    "study_evidence": "seawall.ops.lab.calibrate._proposal",
    "write_proposal": "seawall.ops.lab.calibrate._proposal",
}
__all__ = ["fit_study", "load_study", "measure_drift", "study_evidence", "write_proposal"]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
