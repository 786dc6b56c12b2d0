"""Stress tests: scenarios on a run's own book by the code that runs live, and cascades of failures and forced sales."""

from typing import TYPE_CHECKING

from seawall.schemas.faces import lazy_face

if TYPE_CHECKING:
    from seawall.ops.lab.stress._book import BookNetwork, book_network, rank_contagion
    from seawall.ops.lab.stress._book_markets import Move, book_cascade, book_markets
    from seawall.ops.lab.stress._clearing import (
        Holders,
        Loans,
        clear_debts,
        clear_with_sales,
        depeg,
        network_shock,
        sell_down,
    )
    from seawall.ops.lab.stress._exchange import Accounts, Markets, liquidate, make_books
    from seawall.ops.lab.stress._models import debtrank, eisenberg_noe, estimate_losses, furfine, joint_failures
    from seawall.ops.lab.stress._network import Shocks, contagion_outcome, make_network, settle_scenarios
    from seawall.ops.lab.stress._play import print_answer, stress
    from seawall.ops.lab.stress._scenario import built_in_scenarios, find_scenario, load_stress_plan, load_stress_plans
    from seawall.ops.lab.stress._system import System, scenario_moves, snapshot_system

_HOMES = {
    "Accounts": "seawall.ops.lab.stress._exchange",
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
    "scenario_moves": "seawall.ops.lab.stress._system",
    "sell_down": "seawall.ops.lab.stress._clearing",
    "settle_scenarios": "seawall.ops.lab.stress._network",
    "snapshot_system": "seawall.ops.lab.stress._system",
    "stress": "seawall.ops.lab.stress._play",
}
__all__ = [
    "Accounts",
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
    "scenario_moves",
    "sell_down",
    "settle_scenarios",
    "snapshot_system",
    "stress",
]

if not TYPE_CHECKING:
    __getattr__ = lazy_face(__name__, _HOMES)
