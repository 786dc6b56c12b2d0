"""Writes the conformance cases for verifiers of logs: ``python generate_logs.py [FOLDER]``; same bytes every time.

A case is a log as somebody published it, changed. The threats are those to the log itself: cut, rolled back, written
anew, split views, records altered, dropped, inserted again and swapped, checkpoints forged and misdirected.
"""

import base64
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.schemas.transparency import Checkpoint, LogEdge, NoteKey, leaf_hash
from seawall.schemas.transparency._tiles import encode_bundle

ORIGIN = "risk.example/audit/prod/0"
LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
THIEF = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
KEY = NoteKey.named(ORIGIN, LOG.public_key().public_bytes_raw())
SIZE = 21
Entries = list[bytes]
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """One folder: the log's files, the checkpoints that somebody kept, and what must come of it."""

    why: str
    files: Files
    older: tuple[bytes, ...] = ()
    good: bool = True

    def contents(self) -> Files:
        """The files of the folder."""
        expect = {"why": self.why, "older": len(self.older), "outcome": "verified" if self.good else "refused"}
        kept = {f"older/{number}": note for number, note in enumerate(self.older)}
        told = json.dumps(expect, indent=2).encode() + b"\n"
        return {"expect.json": told, "log.vkey": KEY.vkey.encode() + b"\n", **kept} | {
            f"log/{path}": data for path, data in self.files.items()
        }


def records(count: int = SIZE, writer: int = 0) -> Entries:
    """Audit records, each with the leaf hash of the one before it."""
    found: Entries = []
    for seq in range(count):
        prev = leaf_hash(found[-1]).hex() if found else "genesis"
        body = {"as_of_us": seq, "inputs": [[seq, f"{writer:064x}"]], "topics": {}}
        head = {"shard": 0, "seq": seq, "n": 0, "prev": prev, "kind": "slice", "body": body}
        found.append(json.dumps(head, separators=(",", ":")).encode())
    return found


def rechained(entries: Entries) -> Entries:
    """The records with a chain that fits again: what anybody can do who may write."""
    found: Entries = []
    for entry in entries:
        prev = leaf_hash(found[-1]).hex() if found else "genesis"
        found.append(json.dumps(json.loads(entry) | {"prev": prev}, separators=(",", ":")).encode())
    return found


def signed(entries: Entries, origin: str = ORIGIN, key: NoteKey = KEY, holder: Ed25519PrivateKey = LOG) -> bytes:
    """The signed checkpoint of these records."""
    edge = LogEdge()
    edge.extend(entries)
    return key.sign(Checkpoint(origin, edge.size, edge.root()).text(), holder.sign).encode()


def log(entries: Entries, checkpoint: bytes | None = None) -> Files:
    """The files of a log of these records; by default with their own checkpoint."""
    edge = LogEdge()
    files = dict(edge.extend(entries)) | dict(edge.partial_tiles())
    return {**files, "checkpoint": signed(entries) if checkpoint is None else checkpoint}


def changed(files: Files, path: str, data: bytes | None) -> Files:
    """The files with one of them replaced, or gone."""
    assert path in files
    return {**files, path: data} if data is not None else {name: found for name, found in files.items() if name != path}


def good_cases() -> Iterator[tuple[str, Case]]:
    """What must be taken."""
    whole = records()
    yield "log", Case("a log with a tile that is not full", log(whole))
    yield "log_one_record", Case("one record: the root is its leaf", log(whole[:1]))
    yield "log_two_tiles", Case("a full tile, and one record in the next", log(records(257)))
    kept = tuple(signed(whole[:size]) for size in (1, 8, 20, SIZE))
    yield "log_extends", Case("checkpoints kept from before are prefixes", log(whole), kept)
    stranger = NoteKey.named("witness.example", THIEF.public_key().public_bytes_raw())
    line = stranger.sign(signed(whole).decode().split("\n\n")[0] + "\n", THIEF.sign).encode().split(b"\n\n")[1]
    yield "log_unknown_signature_beside", Case("who else signed does not matter", log(whole, signed(whole) + line))


def record_cases() -> Iterator[tuple[str, Case]]:
    """Records that are not those that were sealed, with and without a chain that fits."""
    whole, files = records(), log(records())
    altered = [*whole[:7], whole[7].replace(b'"slice"', b'"slise"'), *whole[8:]]
    attacks = {
        "record_altered": ("one word of a record", altered),
        "record_dropped": ("a record is missing in the middle", whole[:7] + whole[8:]),
        "record_inserted_again": ("an old record again", [*whole[:7], whole[2], *whole[7:]]),
        "records_swapped": ("two neighbours", [*whole[:7], whole[8], whole[7], *whole[9:]]),
        "log_cut_by_one": ("the last record is missing", whole[:-1]),
        "log_cut": ("half of the log is missing", whole[:10]),
        "log_emptied": ("nothing is left", []),
    }
    for name, (why, entries) in attacks.items():
        for chain, attacked in (("", entries), ("_rechained", rechained(entries))):
            if attacked != entries or not chain:
                yield name + chain, Case(why, log(attacked, files["checkpoint"]), good=False)
    bundle = f"tile/entries/000.p/{SIZE}"
    yield "bundle_cut", Case("ends within a record", changed(files, bundle, files[bundle][:-3]), good=False)
    yield "bundle_gone", Case("no records", changed(files, bundle, None), good=False)
    other = encode_bundle(altered)
    yield "bundle_altered", Case("records that are not their tile's", changed(files, bundle, other), good=False)
    tile = f"tile/0/000.p/{SIZE}"
    yield (
        "tile_altered",
        Case("a hash that is no record's", changed(files, tile, bytes(32) + files[tile][32:]), good=False),
    )


def history_cases() -> Iterator[tuple[str, Case]]:
    """Logs that are whole in themselves, but not what was sealed before."""
    whole, anew = records(), records(writer=1)
    yield "log_rolled_back", Case("a shorter log than was sealed", log(whole[:10]), (signed(whole),), good=False)
    yield (
        "log_written_anew",
        Case("the sealer's key was used on another history", log(anew), (signed(whole[:10]),), good=False),
    )
    yield "split_view", Case("two roots for one size", log(whole), (signed(anew),), good=False)
    fork = [*whole[:10], *anew[10:]]
    yield (
        "log_forked",
        Case("the same beginning, another end", log(fork), (signed(whole[:10]), signed(whole[:15])), good=False),
    )


def checkpoint_cases() -> Iterator[tuple[str, Case]]:
    """Checkpoints that are not the log's."""
    whole = records()
    note = signed(whole)
    forged = signed(whole, key=NoteKey.named(ORIGIN, THIEF.public_key().public_bytes_raw()), holder=THIEF)
    yield "checkpoint_by_another_key", Case("nobody known signed it", log(whole, forged), good=False)
    falsely = signed(whole, holder=THIEF)
    yield "checkpoint_forged", Case("a false signature under the log's key id", log(whole, falsely), good=False)
    elsewhere = signed(whole, origin="risk.example/audit/prod/1")
    yield "checkpoint_of_another_log", Case("the same key, another partition", log(whole, elsewhere), good=False)
    text, _, line = note.partition(b"\n\n")
    bigger = text.replace(b"\n21\n", b"\n20\n") + b"\n\n" + line
    yield "checkpoint_size_changed", Case("the text is not what was signed", log(whole, bigger), good=False)
    yield "checkpoint_unsigned", Case("the signature was stripped", log(whole, text + b"\n\n"), good=False)
    short = line.rstrip(b"\n").rpartition(b" ")
    cut = base64.b64encode(base64.b64decode(short[2])[:-1])
    yield (
        "checkpoint_signature_cut",
        Case("63 bytes", log(whole, text + b"\n\n" + short[0] + b" " + cut + b"\n"), good=False),
    )
    yield "checkpoint_gone", Case("no checkpoint", changed(log(whole), "checkpoint", None), good=False)


def cases() -> dict[str, Case]:
    """All cases by folder name."""
    parts = (good_cases, record_cases, history_cases, checkpoint_cases)
    return {name + ("" if case.good else "_fail"): case for part in parts for name, case in part()}


def main(folder: Path) -> None:
    """Write every case."""
    for name, case in cases().items():
        for path, content in case.contents().items():
            target = folder / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "logs")
