"""Anomaly detection: scores that change nothing, gated learning, sparse alerts (`ops/decisions/detection.md`)."""
