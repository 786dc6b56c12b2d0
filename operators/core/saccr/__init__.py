"""SA-CCR: exposure at default of a netting set (`ops/saccr.md`)."""
