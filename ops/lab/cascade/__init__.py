"""Cascades of a failure: through claims, prices, liquidations and shared collateral."""

from seawall.ops.lab.cascade._book import BookNetwork, book_network, rank_contagion
from seawall.ops.lab.cascade._models import debtrank, eisenberg_noe, estimate_losses, furfine, joint_failures
from seawall.ops.lab.cascade._network import Shocks, contagion_outcome, read_network, settle_scenarios

__all__ = [
    "BookNetwork",
    "Shocks",
    "book_network",
    "contagion_outcome",
    "debtrank",
    "eisenberg_noe",
    "estimate_losses",
    "furfine",
    "joint_failures",
    "rank_contagion",
    "read_network",
    "settle_scenarios",
]
