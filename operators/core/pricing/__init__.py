"""Pricing: marks, options, volatility, and what accounts are worth and need as margin.

The models (Black-76, margin schedules, scenario margin) are elementwise functions; the classes keep their results up to
date for one shard.
"""

from seawall.operators.core.pricing._doubts import Doubts
from seawall.operators.core.pricing._liquidation_distance import AccountValues, LiquidationDistances, fill_margin_ratios
from seawall.operators.core.pricing._margin import MarginBook
from seawall.operators.core.pricing._marks import ACROSS_VENUES, RUNG, Marks
from seawall.operators.core.pricing._option_models import MICROSECONDS_PER_YEAR, black_value, years_to_expiry
from seawall.operators.core.pricing._option_sheet import OptionSheet, payoff
from seawall.operators.core.pricing._volatility import ASKS_50_BP, BIDS_50_BP, SIGNAL_AGE_US_MAX, VolatilityState

__all__ = [
    "ACROSS_VENUES",
    "ASKS_50_BP",
    "BIDS_50_BP",
    "MICROSECONDS_PER_YEAR",
    "RUNG",
    "SIGNAL_AGE_US_MAX",
    "AccountValues",
    "Doubts",
    "LiquidationDistances",
    "MarginBook",
    "Marks",
    "OptionSheet",
    "VolatilityState",
    "black_value",
    "fill_margin_ratios",
    "payoff",
    "years_to_expiry",
]
