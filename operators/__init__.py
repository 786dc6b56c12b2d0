"""Seawall operators for Bytewax dataflows: ``import seawall.operators as sw``.

Each stands in a module of its own and is imported at first use, so that ``seawall.operators.core`` loads where no
engine is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seawall.operators.audit import record_audit
    from seawall.operators.conduct import watch_counterparties
    from seawall.operators.detection import detect
    from seawall.operators.exposure import aggregate_exposure
    from seawall.operators.foresight import forecast_breaches, forecast_systemic
    from seawall.operators.limits import enforce_limits
    from seawall.operators.market import watch_market
    from seawall.operators.mitigation import plan_mitigation
    from seawall.operators.seal import seal_log
    from seawall.operators.signing import sign_commands
    from seawall.operators.slicing import slice_time
    from seawall.operators.state import publish_state

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

_WHERE = {
    "aggregate_exposure": "exposure",
    "detect": "detection",
    "enforce_limits": "limits",
    "forecast_breaches": "foresight",
    "forecast_systemic": "foresight",
    "plan_mitigation": "mitigation",
    "publish_state": "state",
    "record_audit": "audit",
    "seal_log": "seal",
    "sign_commands": "signing",
    "slice_time": "slicing",
    "watch_counterparties": "conduct",
    "watch_market": "market",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
