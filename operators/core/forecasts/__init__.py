"""Forecasts of breaches and losses, as probabilities that are scored when their outcome is known.

`ForecastState` forecasts margins, limits and losses of one shard, `FirmForecastState` liquidation cascades and systemic
stress of the firm. Both are pure steps over what was measured; models are learned online and calibrated on their
outcomes.
"""

from seawall.operators.core.forecasts._account_margins import MarginForecasts
from seawall.operators.core.forecasts._cascades import (
    HOUSE_NODE,
    MAP_STEPS,
    MEASURED_STEPS,
    ShardLiquidationMap,
    liquidation_map,
    underlying_depths,
)
from seawall.operators.core.forecasts._firm_forecasts import FirmForecastState
from seawall.operators.core.forecasts._limit_forecasts import LimitForecasts
from seawall.operators.core.forecasts._losses import LossForecasts
from seawall.operators.core.forecasts._markets import MarketForecasts, PriceBar, VolatilityForecasts
from seawall.operators.core.forecasts._models import (
    CALIBRATION_BOUNDS,
    PRIOR_PRECISION,
    OnlineLogistic,
    logistic_probability,
)
from seawall.operators.core.forecasts._sensitivities import sum_sensitivities
from seawall.operators.core.forecasts._shard_forecasts import ForecastState
from seawall.operators.core.forecasts._systemic_stress import (
    INDICATOR_WEIGHTS,
    STRESS_ALARM,
    MarketState,
    SystemicStress,
)
from seawall.operators.core.forecasts._volatility import QUANTILE_LEVELS, STUDENT_4_QUANTILES, HorizonOutcome

__all__ = [
    "CALIBRATION_BOUNDS",
    "HOUSE_NODE",
    "INDICATOR_WEIGHTS",
    "MAP_STEPS",
    "MEASURED_STEPS",
    "PRIOR_PRECISION",
    "QUANTILE_LEVELS",
    "STRESS_ALARM",
    "STUDENT_4_QUANTILES",
    "FirmForecastState",
    "ForecastState",
    "HorizonOutcome",
    "LimitForecasts",
    "LossForecasts",
    "MarginForecasts",
    "MarketForecasts",
    "MarketState",
    "OnlineLogistic",
    "PriceBar",
    "ShardLiquidationMap",
    "SystemicStress",
    "VolatilityForecasts",
    "liquidation_map",
    "logistic_probability",
    "sum_sensitivities",
    "underlying_depths",
]
