"""Reports of the lab: one HTML file each, with everything needed to make it again."""

from seawall.ops.lab.report._page import backtest_page, contagion_page

__all__ = ["backtest_page", "contagion_page"]
