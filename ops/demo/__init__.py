"""The demo: a simulated crisis, shown while it runs, then verified and tampered with; and a mock order gateway."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seawall.ops.demo._activity import TRANSFERS as TRANSFERS
    from seawall.ops.demo._demo import demo as demo

_HOMES = {
    "TRANSFERS": "seawall.ops.demo._activity",
    "demo": "seawall.ops.demo._demo",
}
__all__ = ["TRANSFERS", "demo"]


def __getattr__(name: str) -> object:
    """Load what is asked for: not everyone who imports the package has all of its libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
