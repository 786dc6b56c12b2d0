"""Seawall operators for Bytewax dataflows: ``import seawall.operators as sw``.

Each is imported at first use, so that ``seawall.operators.core`` loads where no engine is installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_WHERE = {
    "aggregate_exposure": "_risk",
    "detect": "_streams",
    "enforce_limits": "_risk",
    "forecast_breaches": "_risk",
    "forecast_systemic": "_risk",
    "plan_mitigation": "_commands",
    "publish_state": "_commands",
    "record_audit": "_commands",
    "seal_log": "_commands",
    "sign_commands": "_commands",
    "slice_time": "_streams",
    "watch_counterparties": "_risk",
    "watch_market": "_streams",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
