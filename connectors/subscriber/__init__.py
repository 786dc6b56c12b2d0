"""Subscriber: receives signed commands and gives each its effect exactly once. Needs neither a bus nor an engine."""

from seawall.connectors.subscriber._ledger import Ledger, SqliteLedger
from seawall.connectors.subscriber._ordering import TRADING_MODE, Outcome
from seawall.connectors.subscriber._subscriber import Effects, Receipt, Subscriber, headers_of, sqlite_subscriber

__all__ = [
    "TRADING_MODE",
    "Effects",
    "Ledger",
    "Outcome",
    "Receipt",
    "SqliteLedger",
    "Subscriber",
    "headers_of",
    "sqlite_subscriber",
]
