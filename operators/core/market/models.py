"""Detectors of many instruments, one kind per family of features, behind a small factory.

``Models`` is what a group needs of them. The default keeps one ``Bank``: a flat array with a row per instrument, so
that a snapshot is one copy of memory. What manages the life of models (challengers, drift, rollback) stands behind the
same protocol and is given to ``GroupState`` as its ``make_models``.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from seawall.operators.core.detection.bank import Bank
from seawall.operators.core.detection.composite import CANDIDATE_SCORE, Composite
from seawall.operators.core.detection.samples import Sample

SLOTS_MIN = 16


class Judgement(NamedTuple):
    """The answer to one row: 0..1, whether it may be used, and what an unusual one is made of."""

    value: float
    ready: bool
    contributions: dict[str, float]


class Models(Protocol):
    """Detectors of one family of features, by slot."""

    def take(self) -> int:
        """Return a slot whose detector has seen nothing."""

    def give_back(self, slot: int) -> None:
        """Forget what the detector of a slot has learned."""

    def observe(self, slots: list[int], time_us: int, rows: list[tuple[float, ...]]) -> list[Judgement]:
        """Score and learn one row for each of ``slots``, which must differ."""

    def snapshot(self) -> list[bytes]:
        """Return the whole state."""

    def restore(self, state: list[bytes]) -> None:
        """Take over a state."""


Factory = Callable[[tuple[str, ...]], Models]
"""Makes the models of a family from the names of its features."""


class BankModels:
    """Composite detectors in one bank, which doubles when it is full.

    Examples
    --------
    >>> models = BankModels(("spread_bp",))
    >>> slot = models.take()
    >>> models.observe([slot], 0, [(1.0,)])[0].ready
    False
    """

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._bank = Bank(SLOTS_MIN, columns)
        self._fresh = self._bank.state[0].copy()
        self._free = list(range(SLOTS_MIN - 1, -1, -1))
        self._single = Composite(columns)

    def take(self) -> int:
        """Return a slot whose detector has seen nothing."""
        if not self._free:
            count = len(self._bank.state)
            self._bank.state = np.concatenate([self._bank.state, np.tile(self._fresh, (count, 1))])
            self._free = list(range(2 * count - 1, count - 1, -1))
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """Forget what the detector of a slot has learned."""
        self._bank.state[slot] = self._fresh
        self._free.append(slot)

    def observe(self, slots: list[int], time_us: int, rows: list[tuple[float, ...]]) -> list[Judgement]:
        """Score and learn one row for each of ``slots``; contributions are found only for what may be an alert."""
        keys = np.array(slots, np.int64)
        before = self._bank.state[keys]
        batch = self._bank.observe(keys, np.full(len(slots), time_us, np.int64), np.array(rows, np.float64))
        found = []
        for at, (value, ready) in enumerate(zip(batch.values.tolist(), batch.ready.tolist(), strict=True)):
            contributions = self._explain(before[at].tolist(), time_us, rows[at]) if value >= CANDIDATE_SCORE else {}
            found.append(Judgement(value, ready, contributions))
        return found

    def snapshot(self) -> list[bytes]:
        """Return the bank, and which of its slots are free."""
        return [self._bank.snapshot(), np.array(self._free, "<i8").tobytes()]

    def restore(self, state: list[bytes]) -> None:
        """Take over a state of the same columns."""
        self._bank.restore(state[0])
        self._free = np.frombuffer(state[1], "<i8").tolist()

    def _explain(self, numbers: list[float], time_us: int, row: tuple[float, ...]) -> dict[str, float]:
        """Return the share of each feature in the score that a detector of this state gives the row."""
        self._single.take(numbers)
        score = self._single.score(Sample(time_us, row))
        shares = dict.fromkeys(self._columns, 0.0)
        for name, share in zip(self._single.names, score.contributions, strict=True):
            shares[name.rpartition(" ")[0]] += share
        return {name: share for name, share in shares.items() if share > 0.0}
