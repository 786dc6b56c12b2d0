"""Publishing sealed logs, so that a crash leaves nothing false.

Decides the order in which a log grows:

1. the tiles, each whole or not at all;
2. the checkpoints, appended to the topic ``checkpoints`` in one transaction: the compare-and-set. The partition has one
   writer, and a checkpoint that stands there already must have the same text, or everything stops;
3. the file ``checkpoint``, replaced by the latest, with the cosignatures of those witnesses that answered.

So a checkpoint never stands before its tiles, and no two stand for one size. What stands is never signed again.
"""

from collections.abc import Callable
from functools import cached_property

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from seawall.connectors.bus import Bus, Writer, open_bus
from seawall.connectors.cosigning import Cosigner
from seawall.connectors.failures import noted
from seawall.connectors.logs import TOPIC, LogFolder, log_folder, log_key
from seawall.operators.core.sealing import Sealed, origin_of
from seawall.schemas.configuration import Configuration
from seawall.schemas.dsse import Signer
from seawall.schemas.errors import Divergence, Gap
from seawall.schemas.evidence.note import NoteError, NoteKey, parse_note, sign_note
from seawall.schemas.evidence.tlog import Checkpoint
from seawall.schemas.records import Stored


class LogSink(FixedPartitionedSink[Sealed, None]):
    """Writes what ``sw.seal_log`` gives: tiles, checkpoints on the topic ``checkpoints``, the file ``checkpoint``.

    Parameters
    ----------
    configuration
        Of the run: bus, folder, names of the logs, shards, witnesses.
    signer
        Returns the sealer's key, where it is used.
    take
        Fence whoever writes these, where the bus can.

    Raises
    ------
    Divergence, Gap
        A checkpoint stands on the topic that these records do not give.
    """

    def __init__(self, configuration: Configuration, signer: Callable[[], Signer], take: bool = False) -> None:
        self._configuration, self._signer, self._take = configuration, signer, take

    def list_parts(self) -> list[str]:
        """Return the partitions as text."""
        return [str(partition) for partition in range(self._configuration.shards + 1)]

    def part_fn(self, item_key: str) -> int:
        """Return the partition of an item: its key names it, as a number or as ``engine_key`` writes it."""
        return int(item_key.rstrip("."))

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_LogPartition":
        """Become the writer of one log."""
        configuration, partition = self._configuration, int(for_part)
        bus, signer = open_bus(configuration.bus, configuration.directory), self._signer()
        key = log_key(origin_of(configuration.issuer, configuration.environment, partition), signer.public_jwk())
        folder = log_folder(configuration.directory, partition)
        writer = bus.writer([(TOPIC, partition)], self._take)
        return _LogPartition(
            bus, writer, partition, folder, signer, key, Cosigner(folder.read, configuration.witnesses)
        )


class _LogPartition(StatefulSinkPartition[Sealed, None]):
    def __init__(
        self,
        bus: Bus,
        writer: Writer,
        partition: int,
        folder: LogFolder,
        signer: Signer,
        key: NoteKey,
        cosigner: Cosigner,
    ) -> None:
        self._bus, self._partition, self._folder = bus, partition, folder
        self._signer, self._key, self._cosigner = signer, key, cosigner
        self._writer = writer
        self._ahead: list[Stored] = []
        self._latest = b""

    @cached_property
    def _stood(self) -> int:
        """How many checkpoints stood before this run."""
        return self._writer.end(TOPIC, self._partition)

    @noted
    def write_batch(self, items: list[Sealed]) -> None:
        """Publish what some records gave, in the order of the module's text."""
        for sealed in items:
            self._folder.write(sealed.files)
        newest = next((sealed for sealed in reversed(items) if sealed.checkpoints), None)
        if newest is None:
            return
        self._folder.write(newest.partial)
        for sealed in items:
            for at, checkpoint in enumerate(sealed.checkpoints, sealed.number):
                self._latest = self._standing(at, checkpoint) if at < self._stood else self._append(at, checkpoint)
        self._writer.flush()
        self._folder.publish(self._cosigner.cosigned(self._latest))

    def snapshot(self) -> None:
        """Return nothing: the topic itself says what stands on it."""
        return

    def close(self) -> None:
        """Ask the witnesses once more, and let the partition go."""
        if self._latest:
            self._folder.publish(self._cosigner.cosigned(self._latest, last=True))
        self._writer.close()
        self._bus.close()

    def _append(self, at: int, checkpoint: Checkpoint) -> bytes:
        end = self._writer.end(TOPIC, self._partition)
        if at != end:
            text = f"checkpoint {at} of {TOPIC}/{self._partition} comes next, but {end} stand"
            raise Gap(f"{text}; move the folder recovery-seal away, and the log is sealed again from its start")
        value = sign_note(checkpoint.text(), self._key, self._signer.sign).encode()
        headers = {"seawall-id": f"{self._partition}-{checkpoint.size}-0", "seawall-n": str(at)}
        self._writer.append(TOPIC, self._partition, self._key.name, value, headers)
        return value

    def _standing(self, at: int, checkpoint: Checkpoint) -> bytes:
        """Return the checkpoint that stands at a place, which must say the same."""
        if not self._ahead or self._ahead[0].offset != at:
            self._ahead = self._bus.read(TOPIC, self._partition, at, 500)
        stored = self._ahead.pop(0)
        try:
            same = parse_note(stored.value).text == checkpoint.text()
        except NoteError:
            same = False
        if not same:
            where = f"offset {at} of {TOPIC}/{self._partition}"
            text = f"{where} is not the checkpoint of {checkpoint.size} records that the audit gives"
            raise Divergence(f"{text}: one of them was changed; run seawall verify to see which")
        return stored.value
