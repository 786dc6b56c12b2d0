"""The console: a read-only page of a run's state, for people at a desk and for a screen on the wall."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.console._server import Terms, serve

_HOMES = {
    "Terms": "seawall.ops.console._server",
    "serve": "seawall.ops.console._server",
}
__all__ = ["Terms", "serve"]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
