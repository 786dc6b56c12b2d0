"""The lab: playbooks tried with cases, and drills; backtests, stress tests and their reports are packages below."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab._drill import drill, print_drill, verify_drill_record
    from seawall.ops.lab._drill_faults import load_drill
    from seawall.ops.lab._playbook_cases import lint_playbook, run_cases

_HOMES = {
    "drill": "seawall.ops.lab._drill",
    "lint_playbook": "seawall.ops.lab._playbook_cases",
    "load_drill": "seawall.ops.lab._drill_faults",
    "print_drill": "seawall.ops.lab._drill",
    "run_cases": "seawall.ops.lab._playbook_cases",
    "verify_drill_record": "seawall.ops.lab._drill",
}
__all__ = [
    "drill",
    "lint_playbook",
    "load_drill",
    "print_drill",
    "run_cases",
    "verify_drill_record",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
