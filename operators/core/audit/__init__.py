"""Audit: hash-chained records of every decision, and the sealed Merkle log over them."""

from seawall.operators.core.audit._records import (
    GENESIS,
    TOPICS,
    AuditState,
    audit_value,
    digest_values,
    leaf_hash,
    record_decision,
    slice_decision,
    slice_decisions,
)
from seawall.operators.core.audit._sealing import (
    LogFault,
    LogFinding,
    Sealed,
    SealRule,
    SealState,
    check_partition,
    origin_of,
)

__all__ = [
    "GENESIS",
    "TOPICS",
    "AuditState",
    "LogFault",
    "LogFinding",
    "SealRule",
    "SealState",
    "Sealed",
    "audit_value",
    "check_partition",
    "digest_values",
    "leaf_hash",
    "origin_of",
    "record_decision",
    "slice_decision",
    "slice_decisions",
]
