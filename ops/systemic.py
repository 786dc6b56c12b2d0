"""What ``seawall forecast`` says of systemic stress and of cascades, in words."""

from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as View

from seawall.operators.core.foresight.cascades import NEAR
from seawall.operators.core.foresight.systemic import ALARM

RAISED = 0.4
UNKNOWN = {
    "warming": "not known yet: fewer than two days have been seen",
    "constant": "no price has moved",
    "empty": "there is nothing to look at",
    "no_own_funds": "own funds of fewer than two are known",
}
MEANS: dict[str, Callable[[float, str], str]] = {
    "turbulence": lambda value, _: f"the last hour's moves are {value**0.5:.1f} times as large as usual",
    "absorption_ratio": lambda value, _: f"the first fifth of causes explains {value:.0%} of all moves of a day",
    "funding_stretch": lambda value, _: f"funding rates lie {value:.1f} deviations from what they usually are",
    "open_interest_stretch": lambda value, _: f"open interest lies {value:.1f} deviations from what it usually is",
    "stablecoin_share": lambda value, _: f"{value:.0%} of collateral is stablecoins",
    "network_centrality": lambda value, central: (
        f"the default of {central} would cost all others {value:.0%} of their own funds"
        if central
        else "no default would cost others any own funds"
    ),
}


def level_of(stress: float) -> str:
    """Return the composite's level in a word.

    Examples
    --------
    >>> level_of(0.1), level_of(0.45), level_of(0.8)
    ('calm', 'raised', 'alarm')
    """
    return "alarm" if stress >= ALARM else "raised" if stress >= RAISED else "calm"


def print_systemic(row: dict[str, Any], console: Console) -> None:
    """Print the composite and what each part means, those that raise it most first."""
    stress, hours = row["systemic_stress"], row["hours"]
    past = f", above the worst of {row['rank']:.0%} of the last {hours:,} hours" if hours else ""
    console.print(f"Systemic stress {stress:.2f} of 1, {level_of(stress)}{past}")
    view = View(title_justify="left")
    for name in ("part", "what it says", "score", "weight"):
        view.add_column(name, overflow="fold", justify="right" if name in ("score", "weight") else "left")
    for name, part in sorted(row["parts"].items(), key=lambda item: -item[1]["score"] * item[1]["weight"]):
        known = UNKNOWN.get(part["state"]) or MEANS[name](part["value"], row["most_central"])
        view.add_row(name, known, f"{part['score']:.2f}", f"{part['weight']:g}")
    console.print(view)


def cascade(row: dict[str, Any]) -> dict[str, Any]:
    """Return the worst multiplier of moves of up to 20 % (None: without end) and the first move that does not end."""
    near = [grown for grown, close in zip(row["cascade_multiplier"], NEAR.tolist(), strict=True) if close]
    worst = None if None in near else float(np.max(near))
    return {
        "scope": row["scope"],
        "cascade_multiplier": worst,
        "diverges_at": row["diverges_at"],
        "depth_known": row["depth_known"],
    }


def cascade_words(row: dict[str, Any]) -> str:
    """Return a cascade in words."""
    worst, first = row["cascade_multiplier"], row["diverges_at"]
    size = "would not come to rest" if worst is None else f"becomes up to {worst:.2f} times its size"
    rest = "" if first is None else f", from {first:+.0%} on it does not stop"
    told = "" if row["depth_known"] else " (depth assumed)"
    return f"{row['scope']}: a move of up to 20 % {size}{rest}{told}"
