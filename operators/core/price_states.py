"""What is wrong with the prices that a book was valued at: states that are reported, never an old price in silence.

``stale``
    Instruments held here whose mark is older than ``mark_max_age_s``; their last mark is used.
``missing``
    Instruments held here that never had a mark; they are valued at 0.
``unvalued``
    Options held here without a volatility or a forward (``options``).
``expiring``
    Instruments held here past their expiry, without a settlement mark; valued at their last mark.
``unpriced``
    Assets with balances here and no way to the reporting currency; they count 0.

Each comes with an alert of its kind when it begins, and is over without one.
"""

from typing import Any

import numpy as np

from seawall.operators.core.ledger import Ledger

KINDS = ("stale", "missing", "unvalued", "expiring", "unpriced")
ALERTS = {
    "stale": ("stale_mark", "instrument", 1, "its last mark is older than mark_max_age_s"),
    "missing": ("missing_mark", "instrument", 2, "it is held and has no mark: it is valued at 0"),
    "unvalued": ("unvalued_option", "instrument", 1, "it is held and has no implied volatility or no forward"),
    "expiring": ("unsettled_expiry", "instrument", 2, "it is past its expiry and has no settlement mark"),
    "unpriced": ("unpriced_asset", "asset", 2, "balances stand in it and it has no rate: it counts 0"),
}
States = dict[str, list[str]]


def price_states(ledger: Ledger, as_of_us: int) -> States:
    """Return the names in each state, in order of number; states without any are left out."""
    states = _marks(ledger, as_of_us)
    if ledger.directory.has_option:
        states["unvalued"] = ledger.sheet.unvalued(ledger.options_held())
    if ledger.expiring:
        states["expiring"] = _expiring(ledger, as_of_us)
    if np.isnan(ledger.marks.asset_prices).any():
        states["unpriced"] = _unpriced(ledger)
    return {kind: names for kind in KINDS if (names := states.get(kind))}


def _marks(ledger: Ledger, as_of_us: int) -> States:
    rows = ledger.marks.rows
    size = min(rows.size, len(ledger.open_at))
    since = rows["time_us"][:size]
    if ledger.marks.venue_accounts:  # a venue's row without a price of its own is as old as the one across
        own = np.isnan(rows["price"][:size])
        since = np.where(own, rows["time_us"][ledger.marks.across()[rows["instrument"][:size]]], since)
    old = (ledger.open_at[:size] > 0) & (since < as_of_us - ledger.mark_age_us_max)
    if not old.any():
        return {}
    numbers, unmarked = rows["instrument"][:size][old], since[old] == 0
    return {"stale": _named(ledger, numbers[~unmarked]), "missing": _named(ledger, numbers[unmarked])}


def _expiring(ledger: Ledger, as_of_us: int) -> list[str]:
    numbers = [number for number, expiry_us in ledger.expiring.items() if expiry_us <= as_of_us]
    held = [n for n in numbers if any(_open(ledger, row) for row in ledger.marks.rows_of(n))]
    return _named(ledger, np.array(held, dtype=np.int64))


def _unpriced(ledger: Ledger) -> list[str]:
    rows = ledger.balances.rows
    bad = np.isnan(ledger.marks.asset_prices[rows["asset"]]) & (rows["amount"] != 0)
    names = list(ledger.directory.assets)
    return [names[number] for number in sorted(set(rows["asset"][bad].tolist()))]


def _open(ledger: Ledger, row: int) -> bool:
    return row < len(ledger.open_at) and ledger.open_at.item(row) > 0


def _named(ledger: Ledger, numbers: Any) -> list[str]:
    return [ledger.directory.instrument_records[number].instrument for number in sorted(set(numbers.tolist()))]


class PriceWatch:
    """Alerts for states that begin; its state is what was in each when it was last looked at."""

    def __init__(self) -> None:
        self._known: States = {}

    def look(self, states: States, out: Any) -> bool:
        """Write an alert for every name that is new in its state; return whether anything began or ended."""
        if states == self._known:
            return False
        for kind, names in states.items():
            alert, scope, severity, text = ALERTS[kind]
            before = set(self._known.get(kind, ()))
            for name in names:
                if name not in before:
                    out.alert(alert, f"{scope}:{name}", severity, f"{name}: {text}")
        self._known = states
        return True

    def snapshot(self) -> States:
        """Return the state."""
        return self._known

    def restore(self, state: States) -> None:
        """Take the state of a snapshot."""
        self._known = state
