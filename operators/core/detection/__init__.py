"""Anomaly detection: scores that change nothing, gated learning, sparse alerts (decision 0018)."""
