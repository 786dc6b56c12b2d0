"""SA-CCR: exposure at default of a netting set (`ops/docs/manual/saccr.md`)."""
