"""``seawall audit``: prove one record to an outsider, and check such a proof, or a whole log, with public keys only.

A proof is a C2SP tlog-proof file whose ``extra`` line holds the audit record itself, so that it is all one needs beside
the log's public key. What stands on another topic is proven through the audit record that states its hash.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson

from seawall.connectors.bus import Bus
from seawall.connectors.logs import LogFolder, last_checkpoint, log_folder
from seawall.operators.core.sealing import Fault, Finding, check_partition
from seawall.schemas.errors import CouldNotVerify, UsageError, VerificationError
from seawall.schemas.evidence.merkle import inclusion_proof
from seawall.schemas.evidence.note import NoteKey, open_note, parse_note, parse_vkey
from seawall.schemas.evidence.tiles import TILE_WIDTH, LogEdge, decode_bundle, tile_hashes, tile_path
from seawall.schemas.evidence.tlog import Checkpoint, TlogProof, parse_checkpoint, parse_proof, verify_proof
from seawall.schemas.records import Stored

RECORD_ID = re.compile(r"(?:([a-z]+):)?([0-9]+)-([0-9]+)-([0-9]+)")
COMMAND_ID = re.compile(r"[0-9a-f]{64}")


class Proven(NamedTuple):
    """What a proof proves: the checkpoint, the record's place, its bytes, and the witnesses that cosigned."""

    checkpoint: Checkpoint
    leaf: int
    entry: bytes
    witnesses: list[str]


def prove(bus: Bus, base: Path, name: str) -> bytes:
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
    note, checkpoint = _covering(bus, log_folder(base, partition), partition, stored.offset)
    try:
        hashes = inclusion_proof(
            stored.offset, checkpoint.size, tile_hashes(log_folder(base, partition).read, checkpoint.size)
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
    told = orjson.loads(records[-1].value)["body"].get("topics", {}) if records and topic == "exposures" else {}
    if n < told.get(topic, [0])[0]:
        return partition, records[-1]  # the record of the slice states the hash of all its records of this topic
    raise UsageError(f"there is no record {name} in the audit; see its ids with: seawall dump WHERE audit")


def check(proof: bytes, keys: list[NoteKey], witnesses_min: int = 0) -> Proven:
    """Return what a proof proves; `VerificationError` where it proves nothing under these keys."""
    parsed = parse_proof(proof)
    if parsed.extra is None:
        raise VerificationError("the proof holds no record; ask for one made with seawall audit prove")
    note = parse_note(parsed.checkpoint)
    origin, signed = parse_checkpoint(note.text).origin, {(one.name, one.key_id) for one in note.signatures}
    log = next((key for key in keys if key.name == origin and (key.name, key.id) in signed), None)
    if log is None:
        raise CouldNotVerify(f"no key of the log {origin} is among those given; get it from who runs the log")
    witnesses = [key for key in keys if key.type != log.type]
    checkpoint = verify_proof(proof, parsed.extra, origin, log, witnesses, witnesses_min)
    signers = open_note(parsed.checkpoint, keys).verified
    return Proven(checkpoint, parsed.index, parsed.extra, [key.name for key in signers if key in witnesses])


def check_log(path: Path, keys: list[NoteKey], older: Sequence[Path] = ()) -> tuple[Checkpoint, list[Finding]]:
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
    note = open_note(data, keys)
    checkpoint = parse_checkpoint(note.text)
    if not any(key.name == checkpoint.origin for key in note.verified):
        raise VerificationError(f"the checkpoint is not signed by the log {checkpoint.origin}")
    return checkpoint


def _check_tiles(folder: LogFolder, size: int) -> Iterator[Finding]:
    """Yield the tiles that are not those of the records, which are what was sealed."""
    edge = LogEdge()
    files = [file for entries in _bundles(folder, size) for file in edge.extend(entries)]
    for path, data in [*files, *edge.partial_tiles()]:
        try:
            same = folder.read(path) == data
        except OSError:
            same = False
        if not same:
            yield Finding(edge.size, Fault.TILES, f"{path} is missing, or is not that of the records")


def read_keys(text: str) -> list[NoteKey]:
    """Return the keys of a file with one vkey per line; empty lines and those that begin with # are skipped."""
    return [parse_vkey(line.strip()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _bundles(folder: LogFolder, size: int) -> Iterator[list[bytes]]:
    """Yield the records of a log, bundle by bundle; fewer than were sealed where one is missing or cut."""
    for number in range(-(-size // TILE_WIDTH)):
        width = min(TILE_WIDTH, size - number * TILE_WIDTH)
        try:
            yield decode_bundle(folder.read(tile_path("entries", number, width)))[:width]
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
    checkpoint = parse_checkpoint(parse_note(published).text)
    if checkpoint.size <= index:
        _, last = last_checkpoint(bus, partition)
        size = last.size if last else 0
        raise VerificationError(f"record {index} of audit/{partition} is not sealed yet: {size} records are")
    return published, checkpoint
