"""Reports of the lab: one HTML file each, with everything needed to make it again."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.report._page import backtest_page as backtest_page
    from seawall.ops.lab.report._page import cascade_page as cascade_page
    from seawall.ops.lab.report._page import contagion_page as contagion_page

_HOMES = {
    "backtest_page": "seawall.ops.lab.report._page",
    "cascade_page": "seawall.ops.lab.report._page",
    "contagion_page": "seawall.ops.lab.report._page",
}
__all__ = ["backtest_page", "cascade_page", "contagion_page"]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
