"""Holdings of one shard: reference data, positions, balances, and the memory of fills."""

from seawall.operators.core.holdings._directory import Directory, shard_of
from seawall.operators.core.holdings._fill_memory import FillMemory
from seawall.operators.core.holdings._positions import (
    VECTOR_MIN,
    Balances,
    OpenPositionCounts,
    Positions,
    PositionSubset,
)

__all__ = [
    "VECTOR_MIN",
    "Balances",
    "Directory",
    "FillMemory",
    "OpenPositionCounts",
    "PositionSubset",
    "Positions",
    "shard_of",
]
