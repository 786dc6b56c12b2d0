"""Calibration: parameters fitted on history, judged on other history, proposed and never applied."""

from seawall.ops.lab.calibrate._fit import fit_study
from seawall.ops.lab.calibrate._proposal import measure_drift, study_evidence, write_proposal
from seawall.ops.lab.calibrate._study import load_study

__all__ = ["fit_study", "load_study", "measure_drift", "study_evidence", "write_proposal"]
