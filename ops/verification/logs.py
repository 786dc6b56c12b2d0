"""Verifying sealed logs: audit records against checkpoints, checkpoints against keys, tiles against records.

One pass over each audit partition builds its log anew, as the sealer does, and compares on the way: a checkpoint where
the rule says that one stands, with the root of these very records; every tile that becomes full with the file on disk.
So a cut tail is found as well as a history that was written anew together with its chain.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from seawall.connectors.bus import Bus
from seawall.connectors.cosigning import parse_witness
from seawall.connectors.logs import CHECKPOINT, TOPIC, LogFolder, log_folder, log_key
from seawall.connectors.trust import load_trust
from seawall.operators.core.sealing import SealRule, origin_of
from seawall.ops.verification.findings import Report
from seawall.schemas.configuration import Configuration
from seawall.schemas.evidence.note import Note, NoteError, NoteKey, open_note, parse_note
from seawall.schemas.evidence.tiles import ENTRY_BYTES_MAX, File, LogEdge
from seawall.schemas.evidence.tlog import Checkpoint, parse_checkpoint
from seawall.schemas.records import Stored


class Logs(NamedTuple):
    """What a verifier of logs knows: the sealers' public keys, the witnesses', and where the tiles are.

    ``folder`` None: tiles are not looked at, as in a copy of the bus alone. ``revoked``: public keys of sealers that
    were revoked, each with how many records of each log its checkpoints may still seal.
    """

    sealers: Sequence[dict[str, str]]
    witnesses: Sequence[NoteKey] = ()
    folder: Path | None = None
    revoked: Sequence[tuple[dict[str, str], Mapping[str, int]]] = ()


def trusted_logs(configuration: Configuration) -> Logs:
    """Return the public keys of a run's sealers and witnesses, and where its tiles are."""
    witnesses = [parse_witness(text)[1] for text in configuration.witnesses]
    trust = load_trust(configuration)
    valid, revoked = [], []
    for jwk in trust.sealers:
        sizes = trust.revoked.get(jwk.get("kid", ""))
        if sizes is None:
            valid.append(jwk)
        elif jwk["kty"] == "OKP":  # no other key ever sealed anything
            revoked.append((jwk, sizes))
    return Logs(valid, witnesses, configuration.directory, revoked)


class LogCheck:
    """Checks the log of one audit partition.

    Parameters
    ----------
    bus
        Where audit and checkpoints stand.
    issuer, environment
        They name the log.
    logs
        Keys and tiles.
    report
        Where findings go.
    """

    def __init__(self, bus: Bus, partition: int, issuer: str, environment: str, logs: Logs, report: Report) -> None:
        self._bus, self._partition, self._report = bus, partition, report
        self._origin = origin_of(issuer, environment, partition)
        self._sizes: dict[NoteKey, float] = {log_key(self._origin, jwk): math.inf for jwk in logs.sealers}
        self._sizes |= {log_key(self._origin, jwk): sizes.get(self._origin, 0) for jwk, sizes in logs.revoked}
        self._known = [*self._sizes, *logs.witnesses]
        self._folder = None if logs.folder is None else log_folder(logs.folder, partition)
        self._edge, self._rule, self._number = LogEdge(), SealRule(), 0
        self._checkpoints = self._read(TOPIC)
        self._last = b""
        self._missing = False
        self._broken = False  # one wrong root makes all later ones wrong: the first is told

    def run(self) -> None:
        """Check the whole partition."""
        offset = 0
        while found := self._bus.read("audit", self._partition, offset):
            self._take([stored.value for stored in found])
            offset = found[-1].offset + 1
        for stored in self._checkpoints:
            self._surplus(stored)
        if self._folder is None:
            return
        if self._number:
            self._published(self._folder)
        elif self._folder.checkpoint() is not None:  # which is written once a checkpoint stands on the topic
            what = f"holds nothing, though {self._folder.path / CHECKPOINT} says that records were sealed: cut"
            self._report.add(TOPIC, self._partition, None, what, "CHECKPOINT")

    def _take(self, values: list[bytes]) -> None:
        """Build the log on by some records; what is too long for one was never sealed, so nothing stands for it."""
        entries = [b"" if len(value) > ENTRY_BYTES_MAX else value for value in values]
        taken, first = 0, self._edge.size
        for size in self._rule.due(entries, first):
            self._tiles(self._edge.extend(entries[taken : size - first]))
            self._check(next(self._checkpoints, None))
            taken = size - first
        self._tiles(self._edge.extend(entries[taken:]))

    def _read(self, topic: str) -> Iterator[Stored]:
        offset = 0
        while found := self._bus.read(topic, self._partition, offset):
            yield from found
            offset = found[-1].offset + 1

    def _check(self, stored: Stored | None) -> None:
        """Check the checkpoint that stands where one is due."""
        size = self._edge.size
        if stored is None:
            self._report.lag(TOPIC, self._partition, None, f"no checkpoint seals the first {size} audit records")
            return
        checkpoint = self._opened(stored, size)
        if checkpoint is None or self._broken:
            return
        if checkpoint.size != size:
            self._broken = True
            what = f"seals {checkpoint.size} records where the checkpoint of {size} belongs"
            self._report.add(TOPIC, self._partition, stored.offset, what, "CHECKPOINT")
        elif checkpoint.root != self._edge.root():
            self._broken = True
            what = f"the first {size} records are not those that were sealed (checkpoint offset {stored.offset})"
            self._report.add("audit", self._partition, None, what, "SEALED")

    def _opened(self, stored: Stored, size: int) -> Checkpoint | None:
        """Return what a record of the topic says, if its place, key and signature are good."""
        self._report.count(TOPIC)
        number, self._number, self._last = self._number, self._number + 1, stored.value
        headers = {"seawall-id": f"{self._partition}-{size}-0", "seawall-n": str(number)}
        try:
            note = open_note(stored.value, self._known)
            checkpoint = self._sealed(note)
            if len(note.signatures) != len(note.verified):
                raise NoteError("it has a signature line besides those of the sealer and the witnesses, or one twice")
        except NoteError as error:
            what = f"is no checkpoint of the sealer: {error}"
            self._report.add(TOPIC, self._partition, stored.offset, what, "CHECKPOINT")
            return None
        if (stored.key, checkpoint.origin) != (self._origin, self._origin):
            what = f"is of the log {checkpoint.origin} under the key {stored.key}, not of {self._origin}"
            self._report.add(TOPIC, self._partition, stored.offset, what, "CHECKPOINT")
            return None
        if stored.offset != number or (not self._broken and stored.headers != headers):
            what = f"has the headers {stored.headers} where {headers} belong"
            self._report.add(TOPIC, self._partition, stored.offset, what, "PLACE")
        return checkpoint

    def _sealed(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note; `NoteError` unless a sealer whose key counts for its size signed it."""
        checkpoint = parse_checkpoint(note.text)
        sizes = [self._sizes[key] for key in note.verified if key in self._sizes]
        if not sizes:
            raise NoteError("no sealer signed the note")
        if checkpoint.size > max(sizes):
            what = f"its key was revoked and counts for the first {max(sizes)} records"
            raise NoteError(f"{what}, not for the {checkpoint.size} that this seals")
        return checkpoint

    def _surplus(self, stored: Stored) -> None:
        """Judge a checkpoint after the last one that is due."""
        size = self._edge.size
        checkpoint = self._opened(stored, -1) if self._broken else self._unbroken(stored)
        if checkpoint is None or self._broken:
            return
        self._broken = True
        if checkpoint.size > size:
            what = f"ends after {size} records, but {checkpoint.size} were sealed: the audit was cut"
            self._report.add("audit", self._partition, size, what, "SEALED")
        else:
            what = f"no checkpoint of {checkpoint.size} records is due here: added, or the audit was changed"
            self._report.add(TOPIC, self._partition, stored.offset, what, "CHECKPOINT")

    def _unbroken(self, stored: Stored) -> Checkpoint | None:
        try:
            size = parse_checkpoint(parse_note(stored.value).text).size
        except NoteError:
            size = 0
        return self._opened(stored, size)

    # --- files --------------------------------------------------------------------------------------------------------

    def _tiles(self, files: Sequence[File]) -> None:
        """Compare full tiles with their files."""
        if self._folder is None:
            return
        for path, data in files:
            self._compare(self._folder, path, data)

    def _compare(self, folder: LogFolder, path: str, data: bytes) -> None:
        try:
            good = folder.read(path) == data
        except OSError:
            if not self._missing:
                self._report.lag("tiles", self._partition, None, f"{folder.path / path} is missing")
            self._missing = True
            return
        if not good:
            what = f"{folder.path / path} does not hold what the audit gives"
            self._report.add("tiles", self._partition, None, what, "TILES")

    def _published(self, folder: LogFolder) -> None:
        """Check the file ``checkpoint``, its cosignatures, and the tiles that are not full."""
        published = folder.checkpoint()
        if published is None:
            self._report.lag("tiles", self._partition, None, f"{folder.path / CHECKPOINT} is missing")
            return
        try:
            note = open_note(published, self._known)
            same, size = note.text == parse_note(self._last).text, self._sealed(note).size
        except NoteError as error:
            what = f"{folder.path / CHECKPOINT} is no checkpoint of the sealer: {error}"
            self._report.add("tiles", self._partition, None, what, "CHECKPOINT")
            return
        if not same:
            what = f"{folder.path / CHECKPOINT} seals {size} records and is not the last of the topic {TOPIC}"
            self._report.add("tiles", self._partition, None, what, "CHECKPOINT")
            return
        for path, data in self._edge.partial_tiles(size) if size <= self._edge.size else ():
            self._compare(folder, path, data)
