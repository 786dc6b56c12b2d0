"""Instrument cache of a group: a bounded number of instruments, the least recently updated one is forgotten first.

A key that floods touches one entry. When there is no room, a newcomer must come twice before it displaces anybody
(`DoorkeeperFilter`), so ten million keys that come once each grow no memory and cost no instrument its models. One that
comes back after it was forgotten starts as a new one: unknown marks, models lent by its asset class.
"""

from collections.abc import Callable, Iterator
from typing import Any

from seawall.operators.core.detection import DoorkeeperFilter, FamilyModels, ModelsFactory
from seawall.operators.core.market._alerts import InstrumentBreakers
from seawall.operators.core.market._instrument import FAMILIES, FAMILY_NUMBERS, NO_SLOT, Instrument
from seawall.schemas import events as ev
from seawall.schemas.configuration import MarketTerms


class CachedInstrument:
    """One instrument: its state and its circuit breakers."""

    __slots__ = ("bands", "instrument")

    def __init__(self, instrument: Instrument, bands: InstrumentBreakers) -> None:
        self.instrument, self.bands = instrument, bands


class InstrumentCache:
    """Entries by name, in order of their last update."""

    def __init__(self, terms: MarketTerms, make_models: ModelsFactory) -> None:
        self._terms = terms
        self._entries: dict[str, CachedInstrument] = {}
        self.described: dict[str, list[str]] = {}  # kind and assets of instruments, by name, from reference records
        self._doorkeeper = DoorkeeperFilter(terms.instruments_max)
        self.models: dict[str, FamilyModels] = {family: make_models(columns) for family, columns in FAMILIES.items()}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[CachedInstrument]:
        return iter(self._entries.values())

    def get(self, name: str) -> CachedInstrument | None:
        """Return the entry of an instrument as the one updated last; None for a newcomer for whom there is no room."""
        entry = self._entries.pop(name, None)
        if entry is None:
            if len(self._entries) >= self._terms.instruments_max:
                if not self._doorkeeper.admits(name):
                    return None
                self._forget(next(iter(self._entries)))
            entry = CachedInstrument(Instrument(name), InstrumentBreakers(self._terms))
        self._entries[name] = entry
        return entry

    def find(self, name: str) -> CachedInstrument | None:
        """Return the entry of an instrument, None where it is not remembered (any more)."""
        return self._entries.get(name)

    def describe(self, record: ev.Instrument) -> None:
        """Take a reference record: what kind of instrument a name is, and which assets it depends on."""
        self.described.pop(record.instrument, None)
        while len(self.described) >= self._terms.instruments_max:
            del self.described[next(iter(self.described))]
        assets = dict.fromkeys((record.underlying or record.base, record.base, record.quote, record.settlement))
        self.described[record.instrument] = [record.kind, *assets]

    def names_on(self, subject: str) -> list[str]:
        """Return the instruments that are, or depend on, a subject: itself, its underlying or an asset of it."""
        return [name for name in self._entries if name == subject or subject in self.described.get(name, ())[1:]]

    def slot(self, entry: CachedInstrument, family: str) -> int:
        """Return the slot of an instrument's model of a family."""
        slots, number = entry.instrument.slots, FAMILY_NUMBERS[family]
        if slots[number] == NO_SLOT:
            kind = self.described.get(entry.instrument.name, [""])[0]
            slots[number] = self.models[family].take(kind)
        return slots[number]

    def _forget(self, name: str) -> None:
        for family, slot in zip(FAMILIES, self._entries.pop(name).instrument.slots, strict=True):
            if slot != NO_SLOT:
                self.models[family].give_back(slot)
        self.evicted += 1

    def snapshot(self) -> dict[str, Any]:
        """Return the state: entries in order, and the models of each family."""
        return {
            "entries": [[entry.instrument, entry.bands.snapshot()] for entry in self],
            "models": {family: models.snapshot() for family, models in self.models.items()},
            "evicted": self.evicted,
            "described": list(self.described.items()),
            "door": self._doorkeeper.snapshot(),
        }

    def restore(self, state: dict[str, Any], instrument: Callable[[Any], Instrument]) -> None:
        """Take over a state; ``instrument`` makes one of plain values."""
        self.evicted, self.described = state["evicted"], dict(state["described"])
        self._doorkeeper.restore(state["door"])
        for plain, bands in state["entries"]:
            entry = CachedInstrument(instrument(plain), InstrumentBreakers(self._terms))
            entry.bands.restore(bands)
            self._entries[entry.instrument.name] = entry
        for family, models in self.models.items():
            models.restore(state["models"][family])
