"""The instruments that a group remembers: a bounded number, the one that was silent longest is forgotten first.

A key that floods touches one entry; ten million keys that come once each pass through without growing memory. One that
comes back after it was forgotten starts cold: unknown marks, detectors that warm up.
"""

from collections.abc import Callable, Iterator
from typing import Any

from seawall.operators.core.market.instrument import FAMILIES, Instrument
from seawall.operators.core.market.models import Factory, Models
from seawall.operators.core.market.rules import Bands
from seawall.schemas.markets import MarketTerms


class Entry:
    """One instrument: its state, its circuit breakers and the slots of its detectors."""

    __slots__ = ("bands", "instrument")

    def __init__(self, instrument: Instrument, bands: Bands) -> None:
        self.instrument, self.bands = instrument, bands


class Registry:
    """Entries by name, in order of their last update."""

    def __init__(self, terms: MarketTerms, make_models: Factory) -> None:
        self._terms = terms
        self._entries: dict[str, Entry] = {}
        self.models: dict[str, Models] = {family: make_models(columns) for family, columns in FAMILIES.items()}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, name: str) -> Entry:
        """Return the entry of an instrument as the one updated last; made where it is new."""
        entry = self._entries.pop(name, None)
        if entry is None:
            while len(self._entries) >= self._terms.instruments_max:
                self._forget(next(iter(self._entries)))
            entry = Entry(Instrument(name), Bands(self._terms))
        self._entries[name] = entry
        return entry

    def find(self, name: str) -> Entry | None:
        """Return the entry of an instrument, None where it is not remembered (any more)."""
        return self._entries.get(name)

    def slot(self, entry: Entry, family: str) -> int:
        """Return the slot of an instrument's detector of a family."""
        slot = entry.instrument.slots.get(family)
        if slot is None:
            slot = entry.instrument.slots[family] = self.models[family].take()
        return slot

    def _forget(self, name: str) -> None:
        for family, slot in self._entries.pop(name).instrument.slots.items():
            self.models[family].give_back(slot)
        self.evicted += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the state: entries in order, and the models of each family."""
        return {
            "entries": [[entry.instrument, entry.bands.snapshot()] for entry in self],
            "models": {family: models.snapshot() for family, models in self.models.items()},
            "evicted": self.evicted,
        }

    def restore(self, state: dict[str, Any], instrument: Callable[[Any], Instrument]) -> None:
        """Take over a state; ``instrument`` makes one of plain values."""
        self.evicted = state["evicted"]
        for plain, bands in state["entries"]:
            entry = Entry(instrument(plain), Bands(self._terms))
            entry.bands.restore(bands)
            self._entries[entry.instrument.name] = entry
        for family, models in self.models.items():
            models.restore(state["models"][family])
