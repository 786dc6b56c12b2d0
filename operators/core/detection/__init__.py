"""Anomaly detection: scores that change nothing, gated learning, sparse alerts (`ops/docs/decisions/0018-one-detector-five-views.md`)."""
