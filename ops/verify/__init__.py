"""Verification: is every stored record the one that was written and decided? ``verify``, ``replay`` and proofs."""

from seawall.ops.verify._findings import RULES, Finding, Report
from seawall.ops.verify._logs import LogCheck, Logs, check_log, check_proof, prove_record, read_log_keys, trusted_logs
from seawall.ops.verify._replay import replay, slices_in_order
from seawall.ops.verify._verify import verify, verify_limits

__all__ = [
    "RULES",
    "Finding",
    "LogCheck",
    "Logs",
    "Report",
    "check_log",
    "check_proof",
    "prove_record",
    "read_log_keys",
    "replay",
    "slices_in_order",
    "trusted_logs",
    "verify",
    "verify_limits",
]
