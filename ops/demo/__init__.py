"""The demo: a simulated crisis, shown while it runs, then verified and tampered with; and a mock order gateway."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.demo._demo import demo
    from seawall.ops.demo.scenario import TRANSFERS

_HOMES = {
    "TRANSFERS": "seawall.ops.demo.scenario",
    "demo": "seawall.ops.demo._demo",
}
__all__ = ["TRANSFERS", "demo"]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
