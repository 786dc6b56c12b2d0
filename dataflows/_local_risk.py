"""Risk without an engine: a plain loop over the journal, for ``seawall run --engine local``.

1. Begin with the states that the last run kept, where they are of this journal and what they wrote is stored; without
   any, at the start of the journal.
2. Take some slices of each shard in turn. The firm takes each message at once.
3. Append the records as every sink does: what is stored is compared, what is new is appended, whole slices at a time.
4. Now and then, and at the end, make everything durable; then keep all states in one file, whole or not at all.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from seawall.connectors.bus import (
    DERIVED,
    Bus,
    RecordWriter,
    check_outputs_stored,
    cluster_of,
    open_bus,
    written_topics,
)
from seawall.connectors.files import write_atomically
from seawall.connectors.keys import Trust, open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.operators.core.base import pack, unpack
from seawall.operators.core.pipeline import Pipeline
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import BusError, SnapshotError

SCHEMA = "local-risk/1"
STATES_FILE = "states"
ENDS = b'"end":true'
BATCH_RECORDS = 128  # slices of a shard at a time
BATCH_BYTES = 512 * 1024
POLL_S = 0.002  # a command waits for it
SETTLE_S = 0.05


class LocalRisk:
    """Decides on a journal in a plain loop: ``run()``.

    Parameters
    ----------
    configuration
        The run's configuration.
    store
        The folder in which states are kept.
    finished
        Tells that the journal is complete; None: it is where a slice says so, and never with live topics.
    stopped
        Tells that the run is to stop now.
    """

    def __init__(
        self,
        configuration: Configuration,
        store: Path,
        finished: Callable[[], bool] | None,
        stopped: Callable[[], bool],
    ) -> None:
        self._configuration, self._file = configuration, store / STATES_FILE
        self._finished, self._stopped = finished, stopped
        base = configuration.directory
        self._bus: Bus = open_bus(configuration.bus, base)
        trust = Trust.load(configuration).issuers
        self._follower = self._bus.follow("journal")
        self._signer = CommandSigner(open_signer(configuration.signer, base), self._bus, trust)
        self._last = [b""] * configuration.shards  # by shard: the last slice taken
        self._writers: list[RecordWriter] = []

    def run(self) -> None:
        """Decide until the journal ends or the run is to stop.

        Raises
        ------
        SnapshotError
            The states that were kept are not of this journal, or what they wrote is gone.
        """
        try:
            risk = self._begin()
            self._open_writers()
            self._check(risk)
            self._loop(risk)
            self._keep(risk)
        finally:
            for writer in self._writers:
                writer.close()
            self._bus.close()

    def _begin(self) -> Pipeline:
        """Return the pipeline with the states that were kept, or a new one."""
        shards = self._configuration.shards
        if not self._file.is_file():
            return Pipeline(shards, self._signer)
        state = unpack(SCHEMA, self._file.read_bytes())
        try:
            risk = Pipeline.restore(state["states"], self._signer)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            text = f"the states are laid out otherwise than this version keeps them ({type(error).__name__}: {error})"
            raise SnapshotError(text) from error
        for shard, (one, digest) in enumerate(zip(risk.shards, state["digests"], strict=True)):
            if one.seq >= self._bus.end("journal", shard):
                text = f"the states are at slice {one.seq} of journal/{shard}, which ends before it"
                raise BusError(f"{text}: they do not join; move the folder {self._file.parent.name} away")
            if one.seq >= 0:
                self._last[shard] = self._bus.read("journal", shard, one.seq, 1)[0].value
            if digest != _digest(self._last[shard]):
                raise SnapshotError(
                    f"the states have taken another slice {one.seq} of journal/{shard} than stands there"
                )
        return risk

    def _open_writers(self) -> None:
        """Become the writer of every partition of risk."""
        shards = self._configuration.shards
        for partition in range(shards + 1):
            topics = written_topics(partition, shards)
            writer = self._bus.writer([(topic, partition) for topic in topics])
            self._writers.append(RecordWriter(self._bus, writer, topics, partition))

    def _check(self, risk: Pipeline) -> None:
        """Check that what the states wrote is stored, once what a killed run left open has ended."""
        cluster = cluster_of(self._bus)
        for partition, one in enumerate(risk.parts()):
            if one.seq < 0:
                continue
            while any(cluster.has_open_transaction(topic, partition) for topic in DERIVED) and not self._stopped():
                time.sleep(SETTLE_S)
            check_outputs_stored(self._bus, partition, one.seq + 1)

    def _loop(self, risk: Pipeline) -> None:
        """Take slices until there are no more."""
        kept_at = time.monotonic()
        open_shards = set(range(self._configuration.shards))
        while open_shards and not self._stopped():
            taken = 0
            for shard in sorted(open_shards):
                done = self._is_over(shard)
                count = self._take(risk, shard, done)
                taken += count
                if done and not count:
                    open_shards.discard(shard)
            if not taken and open_shards:
                time.sleep(POLL_S)
            if time.monotonic() - kept_at >= self._configuration.snapshot_s:
                self._keep(risk)
                kept_at = time.monotonic()

    def _is_over(self, shard: int) -> bool:
        """Tell whether a shard's journal ends where nothing more can be read."""
        if self._finished is not None:
            return self._finished()
        return not self._configuration.topics and ENDS in self._last[shard]

    def _take(self, risk: Pipeline, shard: int, done: bool) -> int:
        """Take the next slices of a shard and append what they give; return how many there were."""
        offset = risk.shards[shard].seq + 1
        if done:  # the end is the end only where everything durable was read
            found = self._bus.read("journal", shard, offset, BATCH_RECORDS, BATCH_BYTES)
        else:
            found = self._follower.poll(shard, offset, BATCH_RECORDS, BATCH_BYTES)
        written = set()
        for stored in found:
            taken = risk.shards[shard].step(stored.value)
            items = taken.items if taken.message is None else [*taken.items, *risk.firm.step(taken.message).items]
            for audited in items:
                self._writers[audited.moment.partition].append(audited.records)
                written.add(audited.moment.partition)
            self._last[shard] = stored.value
        for partition in sorted(written):
            self._writers[partition].submit()
        return len(found)

    def _keep(self, risk: Pipeline) -> None:
        """Make everything durable, then keep all states."""
        for writer in self._writers:
            writer.flush()
        self.keep_states(self._file.parent, risk.snapshots(), [_digest(value) for value in self._last])

    @staticmethod
    def keep_states(store: Path, states: list[bytes], digests: list[str]) -> None:
        """Keep states and the hash of the last slice of each shard in a folder, whole or not at all."""
        write_atomically([(store / STATES_FILE, pack(SCHEMA, {"states": states, "digests": digests}))])


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
