"""What the sequencer writes: the slices of finished steps, and the records that it rejected, in one transaction.

Each transaction is of whole steps over all shards, so after a crash all shards stand at the same tick. Where records
wait to be taken, one is committed while the next is made; where none do, what was cut is waited for, because a commit
beside other work takes longer.
"""

import time
from collections.abc import Callable

from seawall.connectors.bus import Writer
from seawall.dataflows.inputs import Clock
from seawall.operators.core.ticks import Step
from seawall.schemas.telemetry import watching

WAITING_SECONDS_MAX = 0.2
WAITING_BYTES_MAX = 2 * 1024 * 1024


class JournalWriter:
    """Writes journal and rejects of one journal.

    Parameters
    ----------
    writer
        Of the partitions of the journal, and of the one of the rejects that is the sequencer's.
    shards
        Their number.
    clock
        Microseconds since the epoch, for those who watch how old a cut is when it stands, or was submitted.

    Attributes
    ----------
    slices
        How many were given to the writer.
    """

    def __init__(self, writer: Writer, shards: int, clock: Clock) -> None:
        self._writer, self._shards, self._clock = writer, shards, clock
        self._waiting, self._given_at = 0, time.monotonic()  # bytes that were not given to the writer
        self._submitted = False
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
                self._waiting += len(record.value)
            for shard, seq, value in slices:
                number = str(seq)
                append("journal", shard, str(shard), value, {"seawall-id": f"{shard}-{seq}-0", "seawall-n": number})
                self._waiting += len(value)
            self.slices += len(slices)
        steps.clear()

    def submit_if_due(self) -> None:
        """Begin to make durable what was given where it is much, or has waited long."""
        if self._waiting >= WAITING_BYTES_MAX or time.monotonic() - self._given_at >= WAITING_SECONDS_MAX:
            self.submit()

    def submit(self, cut_us: int = 0) -> None:
        """Begin to make durable what was given, unless the writer is still at work and it is little.

        Parameters
        ----------
        cut_us
            What the clock cut last, where it does.
        """
        if self._waiting and (self._waiting >= WAITING_BYTES_MAX or self._writer.is_idle()):
            self._give(self._writer.submit, cut_us)
            self._submitted = True

    def flush(self, cut_us: int = 0) -> None:
        """Make durable all that was given or submitted; ``cut_us`` as of ``submit``."""
        if self._waiting or self._submitted:
            self._give(self._writer.flush, cut_us)
            self._submitted = False

    def _give(self, take: Callable[[], None], cut_us: int) -> None:
        began = time.perf_counter()
        take()
        if self._watched is not None:
            self._watched.work.observe(time.perf_counter() - began)
            if cut_us:
                self._watched.ages.observe((self._clock() - cut_us) / 1e6)
        self._waiting, self._given_at = 0, time.monotonic()

    def close(self) -> None:
        """Let the journal go; what was not flushed is not written."""
        self._writer.close()
