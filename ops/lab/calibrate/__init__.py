"""Calibration: parameters fitted on history, judged on other history, proposed and never applied."""
