"""Where a journal stands: the fold of its slices, from which a sequencer goes on."""

from collections.abc import Iterable

import msgspec

from seawall.connectors.bus import Bus
from seawall.operators.core.standing import Standing
from seawall.schemas.errors import BusError, UsageError

READ_RECORDS = 5000


def fold(bus: Bus, shards: int, standing: Standing | None = None, follow: bool = False) -> Standing:
    """Return where the journal stands.

    Parameters
    ----------
    standing
        What an earlier fold returned, to go on from there.
    follow
        Look at what has arrived as one who follows: cheaper, and the newest records may be left for the next time.

    Raises
    ------
    UsageError
        The journal has more shards than the configuration.
    BusError
        A slice is missing or cannot be read.
    """
    partitions = bus.partitions("journal")
    if partitions and partitions[-1] >= shards:
        raise UsageError(f"shards is {shards} but the journal has partition {partitions[-1]}; set shards back")
    standing = standing or Standing(shards)
    for shard in range(shards):
        for value in _values(bus, shard, standing.seqs[shard], follow):
            try:
                standing.apply(shard, value)
            except msgspec.MsgspecError as error:
                raise BusError(
                    f"journal partition {shard} offset {standing.seqs[shard]} is no slice: {error}"
                ) from None
    return standing


def _values(bus: Bus, shard: int, offset: int, follow: bool) -> Iterable[bytes]:
    read = bus.tail if follow else bus.read
    while records := read("journal", shard, offset, READ_RECORDS):
        for record in records:
            yield record.value
        offset = records[-1].offset + 1
