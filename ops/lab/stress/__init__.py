"""Stress tests: scenarios on a run's own book by the code that runs live, and cascades of failures and forced sales."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.stress._book import BookNetwork as BookNetwork
    from seawall.ops.lab.stress._book import book_network as book_network
    from seawall.ops.lab.stress._book import rank_contagion as rank_contagion
    from seawall.ops.lab.stress._book_markets import BookMarkets as BookMarkets
    from seawall.ops.lab.stress._book_markets import Move as Move
    from seawall.ops.lab.stress._book_markets import book_cascade as book_cascade
    from seawall.ops.lab.stress._book_markets import book_markets as book_markets
    from seawall.ops.lab.stress._clearing import Holders as Holders
    from seawall.ops.lab.stress._clearing import Loans as Loans
    from seawall.ops.lab.stress._clearing import clear_debts as clear_debts
    from seawall.ops.lab.stress._clearing import clear_with_sales as clear_with_sales
    from seawall.ops.lab.stress._clearing import depeg as depeg
    from seawall.ops.lab.stress._clearing import network_shock as network_shock
    from seawall.ops.lab.stress._clearing import sell_down as sell_down
    from seawall.ops.lab.stress._exchange import Accounts as Accounts
    from seawall.ops.lab.stress._exchange import Markets as Markets
    from seawall.ops.lab.stress._exchange import liquidate as liquidate
    from seawall.ops.lab.stress._exchange import make_books as make_books
    from seawall.ops.lab.stress._models import debtrank as debtrank
    from seawall.ops.lab.stress._models import eisenberg_noe as eisenberg_noe
    from seawall.ops.lab.stress._models import estimate_losses as estimate_losses
    from seawall.ops.lab.stress._models import furfine as furfine
    from seawall.ops.lab.stress._models import joint_failures as joint_failures
    from seawall.ops.lab.stress._network import Shocks as Shocks
    from seawall.ops.lab.stress._network import contagion_outcome as contagion_outcome
    from seawall.ops.lab.stress._network import make_network as make_network
    from seawall.ops.lab.stress._network import read_network as read_network
    from seawall.ops.lab.stress._network import settle_scenarios as settle_scenarios
    from seawall.ops.lab.stress._play import print_answer as print_answer
    from seawall.ops.lab.stress._play import stress as stress
    from seawall.ops.lab.stress._scenario import built_in_scenarios as built_in_scenarios
    from seawall.ops.lab.stress._scenario import find_scenario as find_scenario
    from seawall.ops.lab.stress._scenario import load_stress_plan as load_stress_plan
    from seawall.ops.lab.stress._scenario import load_stress_plans as load_stress_plans
    from seawall.ops.lab.stress._system import System as System
    from seawall.ops.lab.stress._system import scenario_moves as scenario_moves
    from seawall.ops.lab.stress._system import snapshot_system as snapshot_system

_HOMES = {
    "Accounts": "seawall.ops.lab.stress._exchange",
    "BookMarkets": "seawall.ops.lab.stress._book_markets",
    "BookNetwork": "seawall.ops.lab.stress._book",
    "Holders": "seawall.ops.lab.stress._clearing",
    "Loans": "seawall.ops.lab.stress._clearing",
    "Markets": "seawall.ops.lab.stress._exchange",
    "Move": "seawall.ops.lab.stress._book_markets",
    "Shocks": "seawall.ops.lab.stress._network",
    "System": "seawall.ops.lab.stress._system",
    "book_cascade": "seawall.ops.lab.stress._book_markets",
    "book_markets": "seawall.ops.lab.stress._book_markets",
    "book_network": "seawall.ops.lab.stress._book",
    "built_in_scenarios": "seawall.ops.lab.stress._scenario",
    "clear_debts": "seawall.ops.lab.stress._clearing",
    "clear_with_sales": "seawall.ops.lab.stress._clearing",
    "contagion_outcome": "seawall.ops.lab.stress._network",
    "debtrank": "seawall.ops.lab.stress._models",
    "depeg": "seawall.ops.lab.stress._clearing",
    "eisenberg_noe": "seawall.ops.lab.stress._models",
    "estimate_losses": "seawall.ops.lab.stress._models",
    "find_scenario": "seawall.ops.lab.stress._scenario",
    "furfine": "seawall.ops.lab.stress._models",
    "joint_failures": "seawall.ops.lab.stress._models",
    "liquidate": "seawall.ops.lab.stress._exchange",
    "load_stress_plan": "seawall.ops.lab.stress._scenario",
    "load_stress_plans": "seawall.ops.lab.stress._scenario",
    "make_books": "seawall.ops.lab.stress._exchange",
    "make_network": "seawall.ops.lab.stress._network",
    "network_shock": "seawall.ops.lab.stress._clearing",
    "print_answer": "seawall.ops.lab.stress._play",
    "rank_contagion": "seawall.ops.lab.stress._book",
    "read_network": "seawall.ops.lab.stress._network",
    "scenario_moves": "seawall.ops.lab.stress._system",
    "sell_down": "seawall.ops.lab.stress._clearing",
    "settle_scenarios": "seawall.ops.lab.stress._network",
    "snapshot_system": "seawall.ops.lab.stress._system",
    "stress": "seawall.ops.lab.stress._play",
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
    "System",
    "book_cascade",
    "book_markets",
    "book_network",
    "built_in_scenarios",
    "clear_debts",
    "clear_with_sales",
    "contagion_outcome",
    "debtrank",
    "depeg",
    "eisenberg_noe",
    "estimate_losses",
    "find_scenario",
    "furfine",
    "joint_failures",
    "liquidate",
    "load_stress_plan",
    "load_stress_plans",
    "make_books",
    "make_network",
    "network_shock",
    "print_answer",
    "rank_contagion",
    "read_network",
    "scenario_moves",
    "sell_down",
    "settle_scenarios",
    "snapshot_system",
    "stress",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
