"""What the sequencer writes: the slices of finished steps, and the records that it rejected, in one transaction.

Each flush is one transaction of whole steps over all shards, so after a crash all shards stand at the same tick.
"""

import time

from seawall.connectors.bus import Writer
from seawall.dataflows.inputs import Clock
from seawall.operators.core.ticks import Step
from seawall.schemas.telemetry import watching

FLUSH_SECONDS_MAX = 0.2
FLUSH_BYTES_MAX = 2 * 1024 * 1024


class JournalWriter:
    """Writes journal and rejects of one journal.

    Parameters
    ----------
    writer
        Of the partitions of the journal, and of the one of the rejects that is the sequencer's.
    shards
        Their number.
    clock
        Microseconds since the epoch, for those who watch how old a cut is when it stands.

    Attributes
    ----------
    slices
        How many were given to the writer.
    """

    def __init__(self, writer: Writer, shards: int, clock: Clock) -> None:
        self._writer, self._shards, self._clock = writer, shards, clock
        self._unflushed, self._flushed_at = 0, time.monotonic()
        telemetry = watching()
        self._watched = None if telemetry is None else telemetry.part("sequence")
        self.slices = 0

    def append(self, steps: list[Step]) -> None:
        """Give finished steps to the writer, and forget them."""
        append, rejects = self._writer.append, self._shards
        for slices, refused in steps:
            for record in refused:
                number = str(self._writer.end("rejects", rejects))
                append("rejects", rejects, "sequence", record.value, {"seawall-id": record.id, "seawall-n": number})
                self._unflushed += len(record.value)
            for shard, seq, value in slices:
                number = str(seq)
                append("journal", shard, str(shard), value, {"seawall-id": f"{shard}-{seq}-0", "seawall-n": number})
                self._unflushed += len(value)
            self.slices += len(slices)
        steps.clear()

    def flush_if_due(self) -> None:
        """Make what was given durable where it is much, or has waited long."""
        if self._unflushed >= FLUSH_BYTES_MAX or time.monotonic() - self._flushed_at >= FLUSH_SECONDS_MAX:
            self.flush()

    def flush(self, cut_us: int = 0) -> None:
        """Make what was given durable; ``cut_us`` is what the clock cut last, where it does."""
        if self._unflushed:
            began = time.perf_counter()
            self._writer.flush()
            if self._watched is not None:
                self._watched.work.observe(time.perf_counter() - began)
                if cut_us:
                    self._watched.ages.observe((self._clock() - cut_us) / 1e6)
        self._unflushed, self._flushed_at = 0, time.monotonic()

    def close(self) -> None:
        """Let the journal go; what was not flushed is not written."""
        self._writer.close()
