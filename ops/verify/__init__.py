"""Verification: is every stored record the one that was written and decided? ``verify``, ``replay`` and proofs."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.verify._carry_over import carry_over, slices_in_order
    from seawall.ops.verify._findings import RULES, Report
    from seawall.ops.verify._logs import (
        LogCheck,
        Logs,
        check_log,
        check_proof,
        log_keys,
        log_sizes,
        prove_record,
        read_log_keys,
        trusted_logs,
    )
    from seawall.ops.verify._replay import replay
    from seawall.ops.verify._verify import verify, verify_limits

_HOMES = {
    "LogCheck": "seawall.ops.verify._logs",
    "Logs": "seawall.ops.verify._logs",
    "RULES": "seawall.ops.verify._findings",
    "Report": "seawall.ops.verify._findings",
    "carry_over": "seawall.ops.verify._carry_over",
    "check_log": "seawall.ops.verify._logs",
    "check_proof": "seawall.ops.verify._logs",
    "log_keys": "seawall.ops.verify._logs",
    "log_sizes": "seawall.ops.verify._logs",
    "prove_record": "seawall.ops.verify._logs",
    "read_log_keys": "seawall.ops.verify._logs",
    "replay": "seawall.ops.verify._replay",
    "slices_in_order": "seawall.ops.verify._carry_over",
    "trusted_logs": "seawall.ops.verify._logs",
    "verify": "seawall.ops.verify._verify",
    "verify_limits": "seawall.ops.verify._verify",
}
__all__ = [
    "RULES",
    "LogCheck",
    "Logs",
    "Report",
    "carry_over",
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
