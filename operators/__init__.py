"""Seawall operators for Bytewax dataflows: ``import seawall.operators as sw``.

Each is imported at first use, so that ``seawall.operators.core`` loads where no engine is installed.
"""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.operators._commands import plan_mitigation, publish_state, record_audit, seal_log, sign_commands
    from seawall.operators._risk import (
        aggregate_exposure,
        enforce_limits,
        forecast_breaches,
        forecast_systemic,
        watch_counterparties,
    )
    from seawall.operators._streams import detect, slice_time, watch_market

__all__ = [
    "aggregate_exposure",
    "detect",
    "enforce_limits",
    "forecast_breaches",
    "forecast_systemic",
    "plan_mitigation",
    "publish_state",
    "record_audit",
    "seal_log",
    "sign_commands",
    "slice_time",
    "watch_counterparties",
    "watch_market",
]

_HOMES = {
    "aggregate_exposure": "seawall.operators._risk",
    "detect": "seawall.operators._streams",
    "enforce_limits": "seawall.operators._risk",
    "forecast_breaches": "seawall.operators._risk",
    "forecast_systemic": "seawall.operators._risk",
    "plan_mitigation": "seawall.operators._commands",
    "publish_state": "seawall.operators._commands",
    "record_audit": "seawall.operators._commands",
    "seal_log": "seawall.operators._commands",
    "sign_commands": "seawall.operators._commands",
    "slice_time": "seawall.operators._streams",
    "watch_counterparties": "seawall.operators._risk",
    "watch_market": "seawall.operators._streams",
}

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
