"""Drills: faults on a schedule against a running system, timed, and put on a record that shows tampering."""

from seawall.ops.lab.drill._drill import drill, print_drill, verify_drill_record
from seawall.ops.lab.drill._faults import load_drill

__all__ = ["drill", "load_drill", "print_drill", "verify_drill_record"]
