"""Cascades of a failure: through claims, prices, liquidations and shared collateral."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.cascade._book import BookNetwork as BookNetwork
    from seawall.ops.lab.cascade._book import book_network as book_network
    from seawall.ops.lab.cascade._book import rank_contagion as rank_contagion
    from seawall.ops.lab.cascade._models import debtrank as debtrank
    from seawall.ops.lab.cascade._models import eisenberg_noe as eisenberg_noe
    from seawall.ops.lab.cascade._models import estimate_losses as estimate_losses
    from seawall.ops.lab.cascade._models import furfine as furfine
    from seawall.ops.lab.cascade._models import joint_failures as joint_failures
    from seawall.ops.lab.cascade._network import Shocks as Shocks
    from seawall.ops.lab.cascade._network import contagion_outcome as contagion_outcome
    from seawall.ops.lab.cascade._network import read_network as read_network
    from seawall.ops.lab.cascade._network import settle_scenarios as settle_scenarios

_HOMES = {
    "BookNetwork": "seawall.ops.lab.cascade._book",
    "Shocks": "seawall.ops.lab.cascade._network",
    "book_network": "seawall.ops.lab.cascade._book",
    "contagion_outcome": "seawall.ops.lab.cascade._network",
    "debtrank": "seawall.ops.lab.cascade._models",
    "eisenberg_noe": "seawall.ops.lab.cascade._models",
    "estimate_losses": "seawall.ops.lab.cascade._models",
    "furfine": "seawall.ops.lab.cascade._models",
    "joint_failures": "seawall.ops.lab.cascade._models",
    "rank_contagion": "seawall.ops.lab.cascade._book",
    "read_network": "seawall.ops.lab.cascade._network",
    "settle_scenarios": "seawall.ops.lab.cascade._network",
}
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

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
