"""Drills: faults on a schedule against a running system, timed, and put on a record that shows tampering."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.drill._drill import drill as drill
    from seawall.ops.lab.drill._drill import print_drill as print_drill
    from seawall.ops.lab.drill._drill import verify_drill_record as verify_drill_record
    from seawall.ops.lab.drill._faults import load_drill as load_drill

_HOMES = {
    "drill": "seawall.ops.lab.drill._drill",
    "load_drill": "seawall.ops.lab.drill._faults",
    "print_drill": "seawall.ops.lab.drill._drill",
    "verify_drill_record": "seawall.ops.lab.drill._drill",
}
__all__ = ["drill", "load_drill", "print_drill", "verify_drill_record"]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
