"""Stress: scenarios as files, played on a run's own book by the code that runs live."""
