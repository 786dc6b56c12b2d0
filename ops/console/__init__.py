"""The console: a read-only page of a run's state, for people at a desk and for a screen on the wall."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seawall.ops.console._server import Terms as Terms
    from seawall.ops.console._server import serve as serve

_HOMES = {
    "Terms": "seawall.ops.console._server",
    "serve": "seawall.ops.console._server",
}
__all__ = ["Terms", "serve"]


def __getattr__(name: str) -> object:
    """Load what is asked for: not everyone who imports the package has all of its libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
