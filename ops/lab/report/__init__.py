"""Reports of the lab: lines for a terminal, and one HTML file each with everything needed to make it again."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.report._figures import compared_variants, result_lines
    from seawall.ops.lab.report._page import backtest_page, cascade_page, contagion_page

_HOMES = {
    "backtest_page": "seawall.ops.lab.report._page",
    "cascade_page": "seawall.ops.lab.report._page",
    "compared_variants": "seawall.ops.lab.report._figures",
    "contagion_page": "seawall.ops.lab.report._page",
    "result_lines": "seawall.ops.lab.report._figures",
}
__all__ = [
    "backtest_page",
    "cascade_page",
    "compared_variants",
    "contagion_page",
    "result_lines",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
