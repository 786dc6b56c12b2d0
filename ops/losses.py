"""What ``seawall forecast`` says of losses: by counterparty and for the firm, where ``[forecasts]`` has ``losses``."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table as View

SHOWN = {
    "var_99_1h": "VaR 99 % 1 h",
    "es_975_1h": "ES 97.5 % 1 h",
    "var_99": "VaR 99 % 1 d",
    "es_975": "ES 97.5 % 1 d",
    "stress_loss": "stress",
}


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of losses, one of each scope: the firm first, then by what the worst scenario would take."""
    return sorted(rows, key=lambda row: (row["scope"] != "firm", -row["stress_loss"], row["scope"]))


def print_losses(rows: list[dict[str, Any]], currency: str, top: int, console: Console | None = None) -> None:
    """Print the firm and the counterparties that lose most, in the reporting currency; nothing where there are none."""
    if not rows:
        return
    console = console or Console()
    console.print(f"Losses in {currency}, the firm and the largest by stress")
    view = View(title_justify="left")
    for name in ("scope", *SHOWN.values(), "worst scenario", "state"):
        view.add_column(name, overflow="fold", justify="right" if name in SHOWN.values() else "left")
    for row in rows[: top + 1]:
        view.add_row(row["scope"], *(f"{row[name]:,.2f}" for name in SHOWN), row["worst"], row["state"])
    console.print(view)
