"""Holdings of one shard: reference data, positions, balances, orders, and the memory of fills."""

from seawall.operators.core.holdings._directory import Directory, shard_of
from seawall.operators.core.holdings._key_index import FillMemory, KeyNumbers
from seawall.operators.core.holdings._positions import (
    ORDERS_MAX,
    VECTOR_MIN,
    Balances,
    OpenPositionCounts,
    Positions,
    PositionSubset,
    WorkingOrders,
)

__all__ = [
    "ORDERS_MAX",
    "VECTOR_MIN",
    "Balances",
    "Directory",
    "FillMemory",
    "KeyNumbers",
    "OpenPositionCounts",
    "PositionSubset",
    "Positions",
    "WorkingOrders",
    "shard_of",
]
