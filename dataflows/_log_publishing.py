"""Publishing sealed logs, so that a crash leaves nothing false; knows no engine.

Decides the order in which a log grows:

1. the tiles, each whole or not at all, and on the disk;
2. the checkpoints, appended to the topic ``checkpoints`` in one transaction: the compare-and-set. The partition has one
   writer, and a checkpoint that stands there already must have the same text, or everything stops;
3. the file ``checkpoint``, replaced by the latest, with the cosignatures of those witnesses that answered.

So a checkpoint never stands before its tiles, and no two stand for one size. What stands is never signed again.
"""

from collections.abc import Sequence
from functools import cached_property

from seawall.connectors.bus import Bus, Writer, open_bus
from seawall.connectors.transparency_log import CHECKPOINTS_TOPIC, Cosigner, LogFolder, log_key
from seawall.operators.core.audit import Sealed, origin_of
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import Divergence, Gap
from seawall.schemas.evidence import Signer
from seawall.schemas.records import Stored
from seawall.schemas.transparency import Checkpoint, Note, NoteError, NoteKey


class LogPublisher:
    """The one writer of one log: tiles, checkpoints on the topic ``checkpoints``, the file ``checkpoint``.

    Raises
    ------
    Divergence, Gap
        A checkpoint stands on the topic that these records do not give.
    """

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
        self._latest = b""  # of those that stand

    @cached_property
    def _stored_count(self) -> int:
        """Number of checkpoints that were stored before this run."""
        return self._writer.end(CHECKPOINTS_TOPIC, self._partition)

    def publish(self, items: Sequence[Sealed]) -> None:
        """Publish what some records gave, in the order of the module's text."""
        files = [file for sealed in items for file in sealed.files]
        newest = next((sealed for sealed in reversed(items) if sealed.checkpoints), None)
        self._folder.write([*files, *(newest.partial if newest is not None else ())])
        if newest is None:
            return
        latest = self._latest
        for sealed in items:
            for at, checkpoint in enumerate(sealed.checkpoints, sealed.number):
                latest = (
                    self._stored_checkpoint(at, checkpoint) if at < self._stored_count else self._append(at, checkpoint)
                )
        self._writer.flush()
        self._latest = latest
        self._folder.publish(self._cosigner.cosigned(self._latest))

    def close(self) -> None:
        """Ask the witnesses once more, and let the partition go, whatever comes of it."""
        try:
            if self._latest:
                self._folder.publish(self._cosigner.cosigned(self._latest, last=True))
        finally:
            self._writer.close()
            self._bus.close()

    def _append(self, at: int, checkpoint: Checkpoint) -> bytes:
        end = self._writer.end(CHECKPOINTS_TOPIC, self._partition)
        if at != end:
            text = f"checkpoint {at} of {CHECKPOINTS_TOPIC}/{self._partition} comes next, but {end} stand"
            raise Gap(f"{text}; move the folder recovery-seal away, and the log is sealed again from its start")
        value = self._key.sign(checkpoint.text(), self._signer.sign).encode()
        headers = {"seawall-id": f"{self._partition}-{checkpoint.size}-0", "seawall-n": str(at)}
        self._writer.append(CHECKPOINTS_TOPIC, self._partition, self._key.name, value, headers)
        return value

    def _stored_checkpoint(self, at: int, checkpoint: Checkpoint) -> bytes:
        """Return the checkpoint that stands at a place, which must say the same."""
        if not self._ahead or self._ahead[0].offset != at:
            self._ahead = self._bus.read(CHECKPOINTS_TOPIC, self._partition, at, 500)
        stored = self._ahead.pop(0)
        try:
            same = Note.parse(stored.value).text == checkpoint.text()
        except NoteError:
            same = False
        if not same:
            where = f"offset {at} of {CHECKPOINTS_TOPIC}/{self._partition}"
            text = f"{where} is not the checkpoint of {checkpoint.size} records that the audit gives"
            raise Divergence(f"{text}: one of them was changed; run seawall verify to see which")
        return stored.value

    @classmethod
    def open(cls, configuration: Configuration, partition: int, signer: Signer, take: bool = False) -> "LogPublisher":
        """Become the writer of the log over one audit partition; with ``take`` fence whoever writes it."""
        bus = open_bus(configuration.bus, configuration.directory)
        key = log_key(origin_of(configuration.issuer, configuration.environment, partition), signer.public_jwk())
        folder = LogFolder.of_partition(configuration.directory, partition)
        writer = bus.writer([(CHECKPOINTS_TOPIC, partition)], take)
        return cls(bus, writer, partition, folder, signer, key, Cosigner(folder.read, configuration.witnesses))
