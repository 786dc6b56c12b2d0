"""Verification: is every stored record the one that was written and decided? ``verify``, ``replay`` and proofs."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.verify._findings import RULES as RULES
    from seawall.ops.verify._findings import Finding as Finding
    from seawall.ops.verify._findings import Report as Report
    from seawall.ops.verify._logs import LogCheck as LogCheck
    from seawall.ops.verify._logs import Logs as Logs
    from seawall.ops.verify._logs import check_log as check_log
    from seawall.ops.verify._logs import check_proof as check_proof
    from seawall.ops.verify._logs import log_keys as log_keys
    from seawall.ops.verify._logs import log_sizes as log_sizes
    from seawall.ops.verify._logs import prove_record as prove_record
    from seawall.ops.verify._logs import read_log_keys as read_log_keys
    from seawall.ops.verify._logs import trusted_logs as trusted_logs
    from seawall.ops.verify._replay import replay as replay
    from seawall.ops.verify._replay import slices_in_order as slices_in_order
    from seawall.ops.verify._verify import verify as verify
    from seawall.ops.verify._verify import verify_limits as verify_limits

_HOMES = {
    "Finding": "seawall.ops.verify._findings",
    "LogCheck": "seawall.ops.verify._logs",
    "Logs": "seawall.ops.verify._logs",
    "RULES": "seawall.ops.verify._findings",
    "Report": "seawall.ops.verify._findings",
    "check_log": "seawall.ops.verify._logs",
    "check_proof": "seawall.ops.verify._logs",
    "log_keys": "seawall.ops.verify._logs",
    "log_sizes": "seawall.ops.verify._logs",
    "prove_record": "seawall.ops.verify._logs",
    "read_log_keys": "seawall.ops.verify._logs",
    "replay": "seawall.ops.verify._replay",
    "slices_in_order": "seawall.ops.verify._replay",
    "trusted_logs": "seawall.ops.verify._logs",
    "verify": "seawall.ops.verify._verify",
    "verify_limits": "seawall.ops.verify._verify",
}
__all__ = [
    "RULES",
    "Finding",
    "LogCheck",
    "Logs",
    "Report",
    "check_log",
    "check_proof",
    "log_keys",
    "log_sizes",
    "prove_record",
    "read_log_keys",
    "replay",
    "slices_in_order",
    "trusted_logs",
    "verify",
    "verify_limits",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
