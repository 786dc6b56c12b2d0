"""Where a journal stands: the fold that gives the sequencer its state back.

Every shard's slices are applied in order of ``seq``. The directory comes from shard 0, because every shard carries
every reference record; source positions only ever advance, so the furthest one of any slice holds.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgspec

from seawall.operators.core.admission import Admission
from seawall.schemas import events as ev
from seawall.schemas.errors import Gap
from seawall.schemas.slices import Reference

REMEMBERED_MORE = 2_000
"""Risk forgets whole chunks of ids, so it may know up to this many beyond ``fill_memory``; so must the sequencer."""


class Remembered:
    """The last ids of one shard, of fills or of transfers.

    Attributes
    ----------
    has
        Tells whether an id is among them.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        # A plain dictionary looks for its oldest key past all that were deleted: 21 µs an id once it is full, not 0.6.
        self._ids: OrderedDict[str, None] = OrderedDict.fromkeys(ids)
        self.has = self._ids.__contains__  # a method of our own costs as much again

    def add(self, name: str, count_max: int) -> None:
        """Remember an id, and forget the oldest beyond ``count_max``."""
        ids = self._ids
        ids[name] = None
        while len(ids) > count_max:
            ids.popitem(last=False)

    def ids(self) -> list[str]:
        """Return what is remembered, oldest first."""
        return list(self._ids)


class _Ids(msgspec.Struct):
    id: list[str]


class _Folded(msgspec.Struct):
    """The fields of a slice that the fold needs."""

    seq: int
    as_of_us: int
    more: bool = False
    second: bool = False
    end: bool = False
    configuration: dict[str, Any] | None = None
    reference: list[Reference] = []
    fills: _Ids | None = None
    transfers: _Ids | None = None
    sources: dict[str, list[int]] = {}
    events: list[msgspec.Raw] = []


_LIMIT = b'{"type":"limit"'
_decoder: msgspec.json.Decoder[_Folded] = msgspec.json.Decoder(_Folded)


def _folded(value: bytes) -> _Folded:
    try:
        return _decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:  # which the decoder lets through
        raise msgspec.DecodeError(str(error)) from None


class Standing:
    """State of the sequencer between two ticks.

    Attributes
    ----------
    seqs
        Next ``seq`` per shard.
    as_of_us
        The last tick, or the one that is still open; 0 where there is none.
    open
        Shards whose last slice of the tick said ``more``.
    second_open
        The last tick was not the last of its second.
    ended
        The last tick ended a bounded run.
    configuration
        The last configuration event.
    ids_max
        How many ids per shard are remembered.
    positions
        Per source ``[next line or offset, next byte, highest event time]``.
    """

    def __init__(self, shards: int) -> None:
        self.admission = Admission(shards)
        self.seqs = [0] * shards
        self.as_of_us = 0
        self.open: set[int] = set()
        self.second_open = False
        self.ended = False
        self.ids_max = REMEMBERED_MORE
        self.configuration: dict[str, Any] | None = None
        self.positions: dict[str, list[int]] = {}
        self.fills = [Remembered() for _ in range(shards)]
        self.transfers = [Remembered() for _ in range(shards)]

    def configure(self, configuration: dict[str, Any]) -> None:
        """Take a change of configuration."""
        self.configuration = configuration
        self.admission.configure(configuration)
        self.ids_max = int(configuration["fill_memory"]) + REMEMBERED_MORE

    def apply(self, shard: int, value: bytes) -> None:
        """Take the next slice of a shard, shard 0 first.

        Raises
        ------
        Gap
            The slice is not the next one.
        msgspec.DecodeError
            The value is no slice.
        """
        found = _folded(value)
        if found.seq != self.seqs[shard]:
            raise Gap(f"journal partition {shard}: slice {found.seq} stands where {self.seqs[shard]} belongs")
        self.seqs[shard] += 1
        if found.configuration is not None:
            self.configure(found.configuration)
        for record in found.reference if shard == 0 else ():
            self.admission.apply(record)
        for event in found.events if shard == 0 else ():
            if bytes(event).startswith(_LIMIT):
                document = msgspec.json.decode(event, type=ev.Limit).document
                self.admission.policy.apply(document, found.as_of_us)
        self._remember(shard, found)
        for name, position in found.sources.items():
            if position > self.positions.get(name, []):
                self.positions[name] = position
        if found.more:
            self.open.add(shard)
        else:
            self.open.discard(shard)
        if found.as_of_us > self.as_of_us or (found.as_of_us == self.as_of_us and not found.more):
            self.as_of_us = found.as_of_us
            self.ended = found.end
            if not found.more:
                self.second_open = not found.second

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain values and records."""
        return {
            "admission": self.admission.snapshot(),
            "numbers": [self.as_of_us, self.second_open, self.ended, self.ids_max],
            "seqs": list(self.seqs),
            "open": sorted(self.open),
            "configuration": self.configuration,
            "positions": list(self.positions.items()),
            "fills": [memory.ids() for memory in self.fills],
            "transfers": [memory.ids() for memory in self.transfers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``snapshot`` returned, into one that is new."""
        self.admission.restore(state["admission"])
        self.as_of_us, self.second_open, self.ended, self.ids_max = state["numbers"]
        self.seqs, self.open = list(state["seqs"]), set(state["open"])
        self.configuration, self.positions = state["configuration"], {k: list(v) for k, v in state["positions"]}
        self.fills = [Remembered(ids) for ids in state["fills"]]
        self.transfers = [Remembered(ids) for ids in state["transfers"]]

    def _remember(self, shard: int, found: _Folded) -> None:
        for ids, memory in ((found.fills, self.fills[shard]), (found.transfers, self.transfers[shard])):
            for name in ids.id if ids is not None else ():
                memory.add(name, self.ids_max)
