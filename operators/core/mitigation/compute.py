"""Computed actions: what a command asks for where its rule says ``compute``, from the frame alone.

Each returns the action, the plan for the evidence, and its size; or why it cannot be worked out, which withholds the
command: a person sees what was asked for and decides.
"""

from collections.abc import Callable

from seawall.operators.core.mitigation.asked import Asked, Computed
from seawall.operators.core.mitigation.funds import csa, headroom, spread
from seawall.operators.core.mitigation.positions import position
from seawall.operators.core.mitigation.routing import reroute
from seawall.operators.core.mitigation.settings import ratio, volatility


def compute(asked: Asked) -> Computed:
    """Work out the action of a command."""
    return _HOW[asked.command["kind"], asked.command["compute"]](asked)


_HOW: dict[tuple[str, str], Callable[[Asked], Computed]] = {
    ("REDUCE_POSITION", "position"): position,
    ("HEDGE", "position"): position,
    ("CALL_MARGIN", "csa"): csa,
    ("RECALL_COLLATERAL", "csa"): csa,
    ("WITHDRAW_FUNDS", "headroom"): headroom,
    ("REROUTE", "weights"): reroute,
    ("REROUTE", "diversify"): spread,
    ("SET_LIMIT", "ratio"): ratio,
    ("SET_HAIRCUT", "volatility"): volatility,
}
