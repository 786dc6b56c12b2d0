"""Sealed logs: verified as a whole, and proofs of single records for outsiders with public keys only.

One pass over each audit partition builds its log anew, as the sealer does, and compares on the way: a checkpoint where
the rule says that there is one, with the root of these very records; every tile that becomes full with the file on
disk. So a cut tail is found as well as a history that was written anew together with its chain.

A proof, ``seawall audit prove``, is a C2SP tlog-proof file whose ``extra`` line holds the audit record itself, so that
one needs only it and the log's public key. A record of another topic is proven through the audit record that states its
hash.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.keys import Trust
from seawall.connectors.transparency_log import (
    CHECKPOINT_FILE,
    CHECKPOINTS_TOPIC,
    LogFolder,
    last_checkpoint,
    log_key,
    parse_witness,
)
from seawall.operators.core.audit import LogFault, LogFinding, SealRule, check_partition, origin_of
from seawall.ops.verify._findings import Report
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import CouldNotVerify, UsageError, VerificationError
from seawall.schemas.records import Stored
from seawall.schemas.transparency import (
    ENTRIES,
    ENTRY_BYTES_MAX,
    Checkpoint,
    LogEdge,
    Note,
    NoteError,
    NoteKey,
    Tile,
    TileFile,
    TlogProof,
    decode_bundle,
    inclusion_proof,
    tile_hashes,
)

# Verifying sealed logs: audit records against checkpoints, checkpoints against keys, tiles against records.


class Logs(NamedTuple):
    """Trust of a verifier of logs: the sealers' public keys, the witnesses', and where the tiles are.

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
    trust = Trust.load(configuration)
    valid, revoked = [], []
    for jwk in trust.sealers:
        sizes = trust.revoked.get(jwk.get("kid", ""))
        if sizes is None:
            valid.append(jwk)
        elif jwk["kty"] == "OKP":  # no other key ever sealed anything
            revoked.append((jwk, sizes))
    return Logs(valid, witnesses, configuration.directory, revoked)


def log_keys(configuration: Configuration) -> Iterator[NoteKey]:
    """Yield the public keys of a run's logs, one per log and sealer, and those of their witnesses."""
    logs = trusted_logs(configuration)
    for origin in _origins(configuration):
        yield from (log_key(origin, jwk) for jwk in logs.sealers)
    yield from logs.witnesses


def log_sizes(configuration: Configuration, unsealed: bool) -> dict[str, int]:
    """Return how many records of each log of a run are sealed; with `unsealed` how many stand.

    The last second of a live run is sealed when the next one is, so what stands may be more.
    """
    bus, origins = open_bus(configuration.bus, configuration.directory), _origins(configuration)
    if unsealed:
        return {origin: bus.end("audit", partition) for partition, origin in enumerate(origins)}
    found = [last_checkpoint(bus, partition)[1] for partition in range(len(origins))]
    return {checkpoint.origin: checkpoint.size for checkpoint in found if checkpoint is not None}


def _origins(configuration: Configuration) -> list[str]:
    issuer, environment = configuration.issuer, configuration.environment
    return [origin_of(issuer, environment, partition) for partition in range(configuration.shards + 1)]


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
        self._folder = None if logs.folder is None else LogFolder.of_partition(logs.folder, partition)
        self._edge, self._rule, self._number = LogEdge(), SealRule(), 0
        self._checkpoints = self._read(CHECKPOINTS_TOPIC)
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
            what = f"holds nothing, though {self._folder.path / CHECKPOINT_FILE} says that records were sealed: cut"
            self._report.add(CHECKPOINTS_TOPIC, self._partition, None, what, "CHECKPOINT")

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
            self._report.lag(
                CHECKPOINTS_TOPIC, self._partition, None, f"no checkpoint seals the first {size} audit records"
            )
            return
        checkpoint = self._opened(stored, size)
        if checkpoint is None or self._broken:
            return
        if checkpoint.size != size:
            self._broken = True
            what = f"seals {checkpoint.size} records where the checkpoint of {size} belongs"
            self._report.add(CHECKPOINTS_TOPIC, self._partition, stored.offset, what, "CHECKPOINT")
        elif checkpoint.root != self._edge.root():
            self._broken = True
            what = f"the first {size} records are not those that were sealed (checkpoint offset {stored.offset})"
            self._report.add("audit", self._partition, None, what, "SEALED")

    def _opened(self, stored: Stored, size: int) -> Checkpoint | None:
        """Return what a record of the topic says, if its place, key and signature are good."""
        self._report.count(CHECKPOINTS_TOPIC)
        number, self._number, self._last = self._number, self._number + 1, stored.value
        headers = {"seawall-id": f"{self._partition}-{size}-0", "seawall-n": str(number)}
        try:
            note = Note.open(stored.value, self._known)
            checkpoint = self._sealed(note)
            if len(note.signatures) != len(note.verified):
                raise NoteError("it has a signature line besides those of the sealer and the witnesses, or one twice")
        except NoteError as error:
            what = f"is no checkpoint of the sealer: {error}"
            self._report.add(CHECKPOINTS_TOPIC, self._partition, stored.offset, what, "CHECKPOINT")
            return None
        if (stored.key, checkpoint.origin) != (self._origin, self._origin):
            what = f"is of the log {checkpoint.origin} under the key {stored.key}, not of {self._origin}"
            self._report.add(CHECKPOINTS_TOPIC, self._partition, stored.offset, what, "CHECKPOINT")
            return None
        if stored.offset != number or (not self._broken and stored.headers != headers):
            what = f"has the headers {stored.headers} where {headers} belong"
            self._report.add(CHECKPOINTS_TOPIC, self._partition, stored.offset, what, "PLACE")
        return checkpoint

    def _sealed(self, note: Note) -> Checkpoint:
        """Return the checkpoint of a note; `NoteError` unless a sealer whose key counts for its size signed it."""
        checkpoint = Checkpoint.parse(note.text)
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
            self._report.add(CHECKPOINTS_TOPIC, self._partition, stored.offset, what, "CHECKPOINT")

    def _unbroken(self, stored: Stored) -> Checkpoint | None:
        try:
            size = Checkpoint.parse(Note.parse(stored.value).text).size
        except NoteError:
            size = 0
        return self._opened(stored, size)

    # --- files --------------------------------------------------------------------------------------------------------

    def _tiles(self, files: Sequence[TileFile]) -> None:
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
            self._report.lag("tiles", self._partition, None, f"{folder.path / CHECKPOINT_FILE} is missing")
            return
        try:
            note = Note.open(published, self._known)
            same, size = note.text == Note.parse(self._last).text, self._sealed(note).size
        except NoteError as error:
            what = f"{folder.path / CHECKPOINT_FILE} is no checkpoint of the sealer: {error}"
            self._report.add("tiles", self._partition, None, what, "CHECKPOINT")
            return
        if not same:
            where = folder.path / CHECKPOINT_FILE
            what = f"{where} seals {size} records and is not the last of the topic {CHECKPOINTS_TOPIC}"
            self._report.add("tiles", self._partition, None, what, "CHECKPOINT")
            return
        for path, data in self._edge.partial_tiles(size) if size <= self._edge.size else ():
            self._compare(folder, path, data)


# ``seawall audit``: prove one record to an outsider, and check such a proof, or a whole log, with public keys only.

RECORD_ID = re.compile(r"(?:([a-z]+):)?([0-9]+)-([0-9]+)-([0-9]+)")
COMMAND_ID = re.compile(r"[0-9a-f]{64}")


class Proven(NamedTuple):
    """Content of a proof: the checkpoint, the record's place, its bytes, and the witnesses that cosigned."""

    checkpoint: Checkpoint
    leaf: int
    entry: bytes
    witnesses: list[str]


def prove_record(bus: Bus, base: Path, name: str) -> bytes:
    """Return the proof of one record as a file.

    Parameters
    ----------
    name
        The id of an audit record (``0-17-2``), of another record (``commands:0-17-0``), or a command's own id.

    Raises
    ------
    UsageError
        There is no such record.
    VerificationError
        It is not sealed yet.
    """
    partition, stored = find_record(bus, name)
    note, checkpoint = _covering(bus, LogFolder.of_partition(base, partition), partition, stored.offset)
    try:
        hashes = inclusion_proof(
            stored.offset, checkpoint.size, tile_hashes(LogFolder.of_partition(base, partition).read, checkpoint.size)
        )
    except OSError as error:
        raise CouldNotVerify(f"a tile of the log is missing ({error}); run seawall verify") from error
    return TlogProof(stored.offset, tuple(hashes), note, stored.value).encode()


def find_record(bus: Bus, name: str) -> tuple[int, Stored]:
    """Return partition and audit record of an id; `UsageError` where there is none."""
    if COMMAND_ID.fullmatch(name):
        name = _command(bus, name)
    match = RECORD_ID.fullmatch(name)
    if match is None:
        raise UsageError(f"{name!r} is no id: give 0-17-2 (audit), commands:0-17-0, or a command's id of 64 digits")
    topic, partition, seq, n = match[1] or "audit", int(match[2]), int(match[3]), int(match[4])
    records = _of_slice(bus, partition, seq)
    for stored in records:
        body = orjson.loads(stored.value).get("body", {})
        mine = body.get("id") == f"{partition}-{seq}-{n}" and body.get("topic") == topic
        if mine or (topic == "audit" and stored.headers.get("seawall-id") == name.removeprefix("audit:")):
            return partition, stored
    topics = orjson.loads(records[-1].value)["body"].get("topics", {}) if records and topic == "exposures" else {}
    if n < topics.get(topic, [0])[0]:
        return partition, records[-1]  # the record of the slice states the hash of all its records of this topic
    raise UsageError(f"there is no record {name} in the audit; see its ids with: seawall dump WHERE audit")


def check_proof(proof: bytes, keys: list[NoteKey], witnesses_min: int = 0) -> Proven:
    """Return what a proof proves; `VerificationError` where it proves nothing under these keys."""
    parsed = TlogProof.parse(proof)
    if parsed.extra is None:
        raise VerificationError("the proof holds no record; ask for one made with seawall audit prove")
    note = Note.parse(parsed.checkpoint)
    origin, signed = Checkpoint.parse(note.text).origin, {(one.name, one.key_id) for one in note.signatures}
    log = next((key for key in keys if key.name == origin and (key.name, key.id) in signed), None)
    if log is None:
        raise CouldNotVerify(f"no key of the log {origin} is among those given; get it from who runs the log")
    witnesses = [key for key in keys if key.type != log.type]
    checkpoint = TlogProof.verify(proof, parsed.extra, origin, log, witnesses, witnesses_min)
    signers = Note.open(parsed.checkpoint, keys).verified
    return Proven(checkpoint, parsed.index, parsed.extra, [key.name for key in signers if key in witnesses])


def check_log(path: Path, keys: list[NoteKey], older: Sequence[Path] = ()) -> tuple[Checkpoint, list[LogFinding]]:
    """Return the latest checkpoint of a folder of tiles, and what is wrong with its records and tiles.

    Parameters
    ----------
    older
        Checkpoints that were kept: the log must still hold what they sealed.
    """
    folder = LogFolder(path)
    published = folder.checkpoint()
    if published is None:
        raise UsageError(f"{path} holds no log: no file checkpoint; name a folder such as RUN/tiles/audit/0")
    checkpoint = _signed(published, keys)
    kept = [_signed(one.read_bytes(), keys) for one in older]
    if strange := next((one.origin for one in kept if one.origin != checkpoint.origin), None):
        raise VerificationError(f"an older checkpoint is of the log {strange}, not of {checkpoint.origin}")
    findings = list(check_partition(chain.from_iterable(_bundles(folder, checkpoint.size)), [checkpoint, *kept]))
    return checkpoint, findings or list(_check_tiles(folder, checkpoint.size))


def _signed(data: bytes, keys: list[NoteKey]) -> Checkpoint:
    """Return the checkpoint of a note that the log itself signed."""
    note = Note.open(data, keys)
    checkpoint = Checkpoint.parse(note.text)
    if not any(key.name == checkpoint.origin for key in note.verified):
        raise VerificationError(f"the checkpoint is not signed by the log {checkpoint.origin}")
    return checkpoint


def _check_tiles(folder: LogFolder, size: int) -> Iterator[LogFinding]:
    """Yield the tiles that are not those of the records, which are what was sealed."""
    edge = LogEdge()
    files = [file for entries in _bundles(folder, size) for file in edge.extend(entries)]
    for path, data in [*files, *edge.partial_tiles()]:
        try:
            same = folder.read(path) == data
        except OSError:
            same = False
        if not same:
            yield LogFinding(edge.size, LogFault.TILES, f"{path} is missing, or is not that of the records")


def read_log_keys(text: str) -> list[NoteKey]:
    """Return the keys of a file with one vkey per line; empty lines and those that begin with # are skipped."""
    return [NoteKey.parse(line.strip()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _bundles(folder: LogFolder, size: int) -> Iterator[list[bytes]]:
    """Yield the records of a log, bundle by bundle; fewer than were sealed where one is missing or cut."""
    for tile in (tile for tile in Tile.of_log(size) if tile.level == ENTRIES):
        try:
            yield decode_bundle(folder.read(tile.path))[: tile.width]
        except (OSError, ValueError):
            return


def _command(bus: Bus, digest: str) -> str:
    for partition in bus.partitions("commands"):
        offset = 0
        while found := bus.read("commands", partition, offset):
            for stored in found:
                if msgspec.json.decode(stored.value, type=dict).get("id") == digest:
                    return f"commands:{stored.headers['seawall-id']}"
            offset = found[-1].offset + 1
    raise UsageError(f"there is no command {digest}; see their ids with: seawall dump WHERE commands")


def _of_slice(bus: Bus, partition: int, seq: int) -> list[Stored]:
    """Return the audit records of a slice; their place is searched by halves, since slices stand in order."""
    low, high = 0, bus.end("audit", partition)
    while low < high:
        middle = (low + high) // 2
        if _seq(bus.read("audit", partition, middle, 1)[0]) < seq:
            low = middle + 1
        else:
            high = middle
    found: list[Stored] = []
    while (more := bus.read("audit", partition, low, 100)) and _seq(more[0]) == seq:
        found += [stored for stored in more if _seq(stored) == seq]
        low = more[-1].offset + 1
    return found


def _seq(stored: Stored) -> int:
    return int(stored.headers["seawall-id"].split("-")[1])


def _covering(bus: Bus, folder: LogFolder, partition: int, index: int) -> tuple[bytes, Checkpoint]:
    """Return the latest checkpoint over a record, with its cosignatures where it has some."""
    published = folder.checkpoint()
    if published is None:
        raise VerificationError(f"the log of audit/{partition} has no checkpoint yet; run the seal dataflow first")
    checkpoint = Checkpoint.parse(Note.parse(published).text)
    if checkpoint.size <= index:
        _, last = last_checkpoint(bus, partition)
        size = last.size if last else 0
        raise VerificationError(f"record {index} of audit/{partition} is not sealed yet: {size} records are")
    return published, checkpoint
