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
from numpy.typing import NDArray

from seawall.operators.core.ledger import Ledger

KINDS = ("stale", "missing", "unvalued", "expiring", "unpriced")
ALERTS = {
    "stale": ("stale_mark", "instrument", 1, "its last mark is older than mark_max_age_s"),
    "missing": ("missing_mark", "instrument", 2, "it is held and has no mark: it is valued at 0"),
    "unvalued": ("unvalued_option", "instrument", 1, "it is held and has no implied volatility or no forward"),
    "expiring": ("unsettled_expiry", "instrument", 2, "it is past its expiry and has no settlement mark"),
    "unpriced": ("unpriced_asset", "asset", 2, "balances, terms or debts are in it and it has no rate: it counts 0"),
}
States = dict[str, list[str]]
NEVER_US = 1 << 62


class OldMarks:
    """The instruments held whose mark is old or missing, looked for again only where that may have changed.

    It changes when positions open or close, when one of these instruments is marked, when marks are to be younger than
    before, and when the oldest mark that is still good enough is so no more. All of it can be found again from the
    ledger, so it is no state.
    """

    def __init__(self) -> None:
        self._found: States = {}
        self._numbers: frozenset[int] = frozenset()
        self._until_us = -1
        self._seen = (-1, -1)

    def hear(self, instruments: list[int]) -> None:
        """Take note of instruments that were marked."""
        if not self._numbers.isdisjoint(instruments):
            self._until_us = -1

    def at(self, ledger: Ledger, as_of_us: int) -> States:
        """Return the names of the instruments ``stale`` and ``missing``."""
        seen = (ledger.open.changes, ledger.mark_age_us_max)
        if as_of_us > self._until_us or seen != self._seen:
            self._seen = seen
            self._look(ledger, as_of_us)
        return self._found

    def _look(self, ledger: Ledger, as_of_us: int) -> None:
        size = min(ledger.marks.rows.size, len(ledger.open.at_mark))
        held = ledger.open.at_mark[:size].nonzero()[0]
        since, numbers = _since(ledger, held), ledger.marks.rows["instrument"][held]
        old = since < as_of_us - ledger.mark_age_us_max
        self._until_us = int(since[~old].min(initial=NEVER_US)) + ledger.mark_age_us_max
        self._numbers, self._found = frozenset(numbers[old].tolist()), {}
        if self._numbers:
            unmarked = since == 0
            self._found = {
                "stale": _named(ledger, numbers[old & ~unmarked]),
                "missing": _named(ledger, numbers[old & unmarked]),
            }


def _since(ledger: Ledger, held: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the time of mark rows; a venue's without a price of its own is as old as the one across."""
    rows = ledger.marks.rows
    since: NDArray[np.int64] = rows["time_us"][held]
    if ledger.marks.venue_accounts:
        across = rows["time_us"][ledger.marks.across()[rows["instrument"][held]]]
        since = np.where(np.isnan(rows["price"][held]), across, since)
    return since


def _expiring(ledger: Ledger, as_of_us: int) -> list[str]:
    numbers = [number for number, expiry_us in ledger.expiring.items() if expiry_us <= as_of_us]
    held = [n for n in numbers if any(map(ledger.open.is_held_at, ledger.marks.rows_of(n)))]
    return _named(ledger, np.array(held, dtype=np.int64))


def _unpriced(ledger: Ledger) -> list[str]:
    prices, agreed = ledger.marks.asset_prices, ledger.credit.assets()
    if all(prices.item(asset) == prices.item(asset) for asset in ledger.balances.assets | agreed):  # no NaN
        return []
    rows = ledger.balances.rows
    bad = np.isnan(prices[rows["asset"]]) & (rows["amount"] != 0)
    names, owed = list(ledger.directory.assets), {asset for asset in agreed if np.isnan(prices[asset])}
    return [names[number] for number in sorted(owed | set(rows["asset"][bad].tolist()))]


def _named(ledger: Ledger, numbers: Any) -> list[str]:
    return [ledger.directory.instrument_records[number].instrument for number in sorted(set(numbers.tolist()))]


class PriceWatch:
    """Alerts for states that begin; its state is what was in each when it was last looked at."""

    def __init__(self) -> None:
        self._known: States = {}
        self._old = OldMarks()

    def hear(self, instruments: list[int]) -> None:
        """Take note of instruments that were marked."""
        self._old.hear(instruments)

    def states(self, ledger: Ledger, as_of_us: int) -> States:
        """Return the names in each state, in order of number; states without any are left out."""
        states = dict(self._old.at(ledger, as_of_us))
        if ledger.directory.has_option:
            states["unvalued"] = ledger.sheet.unvalued(ledger.options_held())
        if ledger.expiring:
            states["expiring"] = _expiring(ledger, as_of_us)
        states["unpriced"] = _unpriced(ledger)
        return {kind: names for kind in KINDS if (names := states.get(kind))}

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
