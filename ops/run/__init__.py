"""Runs: the dataflows of a configuration in one process or several, their health, metrics and traces.

Loaded name by name: a worker process needs neither the health server nor Prometheus.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.run._engine_change import change_engine, change_version
    from seawall.ops.run._parts import Stop
    from seawall.ops.run._preparation import RECOVERY, examine, prepare_run
    from seawall.ops.run._run import run

_HOMES = {
    "RECOVERY": "seawall.ops.run._preparation",
    "Stop": "seawall.ops.run._parts",
    "change_engine": "seawall.ops.run._engine_change",
    "change_version": "seawall.ops.run._engine_change",
    "examine": "seawall.ops.run._preparation",
    "prepare_run": "seawall.ops.run._preparation",
    "run": "seawall.ops.run._run",
}
__all__ = [
    "RECOVERY",
    "Stop",
    "change_engine",
    "change_version",
    "examine",
    "prepare_run",
    "run",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
