"""Backtests: history through the live steps, and whether risk figures of then were borne out."""
