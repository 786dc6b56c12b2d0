"""Cascades of a failure: through claims, prices, liquidations and shared collateral."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.cascade._book import BookNetwork as BookNetwork
    from seawall.ops.lab.cascade._book import book_network as book_network
    from seawall.ops.lab.cascade._book import rank_contagion as rank_contagion
    from seawall.ops.lab.cascade._book_markets import BookMarkets as BookMarkets
    from seawall.ops.lab.cascade._book_markets import Move as Move
    from seawall.ops.lab.cascade._book_markets import book_cascade as book_cascade
    from seawall.ops.lab.cascade._book_markets import book_markets as book_markets
    from seawall.ops.lab.cascade._clearing import Holders as Holders
    from seawall.ops.lab.cascade._clearing import Loans as Loans
    from seawall.ops.lab.cascade._clearing import clear_debts as clear_debts
    from seawall.ops.lab.cascade._clearing import clear_with_sales as clear_with_sales
    from seawall.ops.lab.cascade._clearing import depeg as depeg
    from seawall.ops.lab.cascade._clearing import network_shock as network_shock
    from seawall.ops.lab.cascade._clearing import sell_down as sell_down
    from seawall.ops.lab.cascade._exchange import Accounts as Accounts
    from seawall.ops.lab.cascade._exchange import Markets as Markets
    from seawall.ops.lab.cascade._exchange import liquidate as liquidate
    from seawall.ops.lab.cascade._exchange import make_books as make_books
    from seawall.ops.lab.cascade._models import debtrank as debtrank
    from seawall.ops.lab.cascade._models import eisenberg_noe as eisenberg_noe
    from seawall.ops.lab.cascade._models import estimate_losses as estimate_losses
    from seawall.ops.lab.cascade._models import furfine as furfine
    from seawall.ops.lab.cascade._models import joint_failures as joint_failures
    from seawall.ops.lab.cascade._network import Shocks as Shocks
    from seawall.ops.lab.cascade._network import contagion_outcome as contagion_outcome
    from seawall.ops.lab.cascade._network import make_network as make_network
    from seawall.ops.lab.cascade._network import read_network as read_network
    from seawall.ops.lab.cascade._network import settle_scenarios as settle_scenarios

_HOMES = {
    "Accounts": "seawall.ops.lab.cascade._exchange",
    "BookMarkets": "seawall.ops.lab.cascade._book_markets",
    "BookNetwork": "seawall.ops.lab.cascade._book",
    "Holders": "seawall.ops.lab.cascade._clearing",
    "Loans": "seawall.ops.lab.cascade._clearing",
    "Markets": "seawall.ops.lab.cascade._exchange",
    "Move": "seawall.ops.lab.cascade._book_markets",
    "Shocks": "seawall.ops.lab.cascade._network",
    "book_cascade": "seawall.ops.lab.cascade._book_markets",
    "book_markets": "seawall.ops.lab.cascade._book_markets",
    "book_network": "seawall.ops.lab.cascade._book",
    "clear_debts": "seawall.ops.lab.cascade._clearing",
    "clear_with_sales": "seawall.ops.lab.cascade._clearing",
    "contagion_outcome": "seawall.ops.lab.cascade._network",
    "debtrank": "seawall.ops.lab.cascade._models",
    "depeg": "seawall.ops.lab.cascade._clearing",
    "eisenberg_noe": "seawall.ops.lab.cascade._models",
    "estimate_losses": "seawall.ops.lab.cascade._models",
    "furfine": "seawall.ops.lab.cascade._models",
    "joint_failures": "seawall.ops.lab.cascade._models",
    "liquidate": "seawall.ops.lab.cascade._exchange",
    "make_books": "seawall.ops.lab.cascade._exchange",
    "make_network": "seawall.ops.lab.cascade._network",
    "network_shock": "seawall.ops.lab.cascade._clearing",
    "rank_contagion": "seawall.ops.lab.cascade._book",
    "read_network": "seawall.ops.lab.cascade._network",
    "sell_down": "seawall.ops.lab.cascade._clearing",
    "settle_scenarios": "seawall.ops.lab.cascade._network",
}
__all__ = [
    "Accounts",
    "BookMarkets",
    "BookNetwork",
    "Holders",
    "Loans",
    "Markets",
    "Move",
    "Shocks",
    "book_cascade",
    "book_markets",
    "book_network",
    "clear_debts",
    "clear_with_sales",
    "contagion_outcome",
    "debtrank",
    "depeg",
    "eisenberg_noe",
    "estimate_losses",
    "furfine",
    "joint_failures",
    "liquidate",
    "make_books",
    "make_network",
    "network_shock",
    "rank_contagion",
    "read_network",
    "sell_down",
    "settle_scenarios",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
