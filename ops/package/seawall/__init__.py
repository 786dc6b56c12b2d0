"""Seawall: streaming counterparty risk, signed mitigation commands and provable audit records."""

__version__ = "0.2.0"
