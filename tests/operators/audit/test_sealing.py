"""Sealed logs: every attack of the tamper simulation is found, and clean runs with crashes raise no alarm."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.connectors.keys import SEALER_KEYS_FILE, new_key, open_signer
from seawall.connectors.transparency_log import CHECKPOINT_FILE, CHECKPOINTS_TOPIC, Cosigner, LogFolder, log_key
from seawall.dataflows import LogPublisher
from seawall.operators.core.audit import GENESIS, LogFault, SealState, check_partition
from seawall.schemas.errors import Divergence, PartitionLocked
from seawall.schemas.transparency import Checkpoint, CompactRange, LogEdge, Tile, leaf_hash
from seawall_testing.pipeline import MemoryBus, MemoryWriter

RUNS = int(os.environ.get("SEAWALL_TAMPER_RUNS", "20"))
ORIGIN = "risk.example/audit/dev/audit/0"
Entries = list[bytes]


def log(dice: random.Random, length: int) -> Entries:
    """Chained audit records of one partition, of a bounded or a live run."""
    found: Entries = []
    prev, as_of_us, live = GENESIS, 1_000_000_000, dice.random() < 0.5
    for seq in range(length):
        as_of_us += dice.choice((0, 0, 0, 1, 9)) * 100_000
        stated = seq == length - 1 or dice.random() < 0.8
        timed = {"as_of_us": as_of_us, "inputs": [], "topics": {}} if stated else {"value": dice.random()}
        timed |= {"cut_us": as_of_us + 250_000} if stated and live else {}
        timed |= {"end": True} if seq == length - 1 else {}
        value = {"shard": 0, "seq": seq, "n": 0, "prev": prev, "kind": "slice", "body": timed}
        found.append(json.dumps(value, separators=(",", ":")).encode())
        prev = leaf_hash(found[-1]).hex()
    return found


def seal(records: Entries, dice: random.Random | None = None) -> dict[int, bytes]:
    """Seal a partition; with dice, in batches, and the sealer is killed now and then and starts from a snapshot."""
    state, published = SealState(ORIGIN, 0), {}
    stored = state.snapshot()
    while state.size < len(records):
        batch = records[state.size : state.size + (dice.randrange(1, 9) if dice else len(records))]
        for checkpoint in state.step(batch).checkpoints:
            assert published.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root
        if dice is not None and dice.random() < 0.1:
            stored = state.snapshot()
        if dice is not None and dice.random() < 0.05:
            state = SealState.restore(stored)
    return published


def checkpoints(published: dict[int, bytes]) -> list[Checkpoint]:
    return [Checkpoint(ORIGIN, size, root) for size, root in published.items()]


def rechain(entries: Entries) -> Entries:
    """What an attacker with write access does: make the chain fit again."""
    found, prev = [], GENESIS
    for entry in entries:
        found.append(json.dumps(json.loads(entry) | {"prev": prev}, separators=(",", ":")).encode())
        prev = leaf_hash(found[-1]).hex()
    return found


def drop_one(entries: Entries, dice: random.Random) -> Entries:
    at = dice.randrange(len(entries) - 1)
    return entries[:at] + entries[at + 1 :]


def alter_one(entries: Entries, dice: random.Random) -> Entries:
    at = dice.randrange(len(entries))
    return [*entries[:at], json.dumps(json.loads(entries[at]) | {"kind": "alert"}).encode(), *entries[at + 1 :]]


def reinsert_one(entries: Entries, dice: random.Random) -> Entries:
    at = dice.randrange(len(entries))
    return [*entries[:at], dice.choice(entries), *entries[at:]]


def swap_two(entries: Entries, dice: random.Random) -> Entries:
    at = dice.randrange(len(entries) - 1)
    return [*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]]


ATTACKS: dict[str, Callable[[Entries, random.Random], Entries]] = {
    "drop one": drop_one,
    "alter one": alter_one,
    "re-insert one": reinsert_one,
    "swap neighbours": swap_two,
    "drop the last": lambda entries, dice: entries[:-1],
    "cut the last twenty": lambda entries, dice: entries[:-20],
    "remove everything": lambda entries, dice: [],
}


@pytest.mark.parametrize("rechained", [False, True])
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_every_attack_on_a_sealed_log_is_found(name, rechained):
    dice, found = random.Random(name), Counter()
    for _ in range(RUNS):
        records = log(dice, dice.randrange(30, 700))
        published = seal(records)
        attacked = ATTACKS[name](records, dice)
        findings = list(check_partition(rechain(attacked) if rechained else attacked, checkpoints(published)))
        faults = {finding.fault for finding in findings}
        found["tree"] += bool(faults & {LogFault.ROOT, LogFault.TRUNCATED})
        found["chain"] += LogFault.CHAIN in faults
    assert found["tree"] == RUNS
    if rechained or name in ("drop the last", "cut the last twenty", "remove everything"):
        assert found["chain"] == 0  # why the chain alone is not evidence
    else:
        assert found["chain"] == RUNS


def test_clean_runs_with_crashes_raise_no_alarm_and_write_the_same_checkpoints():
    dice = random.Random(0)
    for _ in range(5 * RUNS):
        records = log(dice, dice.randrange(1, 700))
        published = seal(records, dice)
        assert published == seal(records)
        assert list(check_partition(records, checkpoints(published))) == []


def test_the_chain_names_the_record():
    records = log(random.Random(1), 50)
    records[17] = records[17].replace(b'"seq":17', b'"seq":71')
    published = seal(log(random.Random(1), 50))
    first = next(check_partition(records, checkpoints(published)))
    assert (first.at, first.fault) == (18, LogFault.CHAIN) or first.fault is LogFault.ROOT


def test_a_split_view_is_found():
    records = log(random.Random(2), 40)
    published = checkpoints(seal(records))
    forked = [*published, Checkpoint(ORIGIN, published[-1].size, bytes(32))]
    assert [finding.fault for finding in check_partition(records, forked)] == [LogFault.SPLIT]


def slice_record(kind: str, as_of_us: int, **last: object) -> bytes:
    head = {"shard": 0, "seq": 1, "n": 0, "prev": GENESIS, "kind": kind}
    body = {"as_of_us": as_of_us, "inputs": [], "topics": {"exposures": [1, "e" * 64]}, **last}
    return json.dumps({**head, "body": body}, separators=(",", ":")).encode()


def test_a_live_log_is_sealed_each_second_of_the_clock_that_its_slices_state():
    clock = [5, 500_000, 1_000_004, 1_000_005, 1_500_000, 2_000_005, *[2_000_006] * 300]
    records = [slice_record("slice", 0, cut_us=9_000_000 + at) for at in clock]
    records.insert(4, b'{"shard":0,"seq":1,"n":0,"kind":"breach","body":{"id":"0-1-0","versions":{"limits":1}}}')
    assert list(seal(records)) == [1, 4, 7, 256]


def test_a_clock_that_was_set_back_does_not_stop_sealing():
    records = [slice_record("second", 0, cut_us=at) for at in (9_000_000, 9_500_000, 1_000_000, 1_900_000, 2_000_000)]
    assert list(seal(records)) == [1, 3, 5]


def test_a_bounded_log_which_no_clock_ordered_is_sealed_when_a_tile_is_full_and_at_its_end():
    records = [slice_record("slice", seq * 3_600_000_000) for seq in range(599)]
    assert list(seal([*records, slice_record("slice", 1, end=True)])) == [256, 512, 600]


def test_text_inside_a_record_cannot_bring_a_checkpoint_about():
    told = (
        b'{"shard":0,"seq":1,"n":0,"kind":"alert","body":{"text":%s}}' % json.dumps('},"cut_us":7,"end":true').encode()
    )
    assert seal([slice_record("slice", 0), told]) == {}


def test_a_record_that_is_none_stops_the_sealer():
    with pytest.raises(Divergence, match="record 1 is no audit record"):
        SealState(ORIGIN, 0).step([*log(random.Random(3), 1), b"\xff"])


def test_what_is_not_json_breaks_the_chain_without_an_exception():
    tree = CompactRange()
    tree.append(leaf_hash(b"\xff"))
    findings = list(check_partition([b"\xff"], [Checkpoint(ORIGIN, 1, tree.root())]))
    assert [finding.fault for finding in findings] == [LogFault.CHAIN]


# --- publishing -------------------------------------------------------------------------------------------------------


class FencedWriter(MemoryWriter):
    """A writer whom somebody else displaces at its second flush."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes > 1:
            raise PartitionLocked("another writer took over")
        super().flush()


def test_a_checkpoint_that_did_not_come_to_stand_is_neither_published_nor_shown_to_witnesses(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem", SEALER_KEYS_FILE)
    signer, bus, asked = open_signer("file:key.pem", tmp_path, SEALER_KEYS_FILE), MemoryBus(), list[bytes]()

    class Witnesses(Cosigner):
        def cosigned(self, checkpoint: bytes, last: bool = False) -> bytes:
            asked.append(checkpoint)
            return checkpoint

    folder = LogFolder(tmp_path / "tiles")
    key = log_key(ORIGIN, signer.public_jwk())
    publisher = LogPublisher(bus, FencedWriter(bus), 0, folder, signer, key, Witnesses(folder.read, ()))
    state, entries = SealState(ORIGIN, 0), log(random.Random(3), 60)
    with pytest.raises(PartitionLocked):
        for at in range(0, 60, 5):
            publisher.publish([state.step(entries[at : at + 5])])
    publisher.close()
    stands = [stored.value for stored in bus.read(CHECKPOINTS_TOPIC, 0, 0)]
    assert len(stands) >= 1 and folder.checkpoint() == stands[-1]
    assert set(asked) <= set(stands)


def test_tiles_of_a_log_are_those_that_were_written_and_one_that_is_gone_or_short_is_missed(tmp_path: Path) -> None:
    folder, edge = LogFolder(tmp_path), LogEdge()
    for size in (0, 1, 255, 256, 257, 700):
        folder.write(edge.extend([b"record"] * (size - edge.size)))
        folder.write(list(edge.partial_tiles()))
        assert folder.has_tiles(size)
        assert not folder.has_tiles(size + 1)
        expected = {tile.path for tile in Tile.of_log(size)}
        assert expected <= {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    for path in sorted(expected):
        kept = (tmp_path / path).read_bytes()
        (tmp_path / path).unlink()
        assert not folder.has_tiles(700), path
        (tmp_path / path).write_bytes(b"")
        assert not folder.has_tiles(700), path
        (tmp_path / path).write_bytes(kept)
    assert folder.has_tiles(700)


def test_tiles_and_their_names_are_on_the_disk_before_the_checkpoint_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "key.pem", SEALER_KEYS_FILE)
    signer, bus = open_signer("file:key.pem", tmp_path, SEALER_KEYS_FILE), MemoryBus()
    folder = LogFolder(tmp_path / "logs" / "0")
    before: list[Path] = []  # what was synced when the checkpoint was made durable
    synced: list[Path] = []

    class Watched(MemoryWriter):
        def flush(self) -> None:
            before.extend(synced)
            super().flush()

    key = log_key(ORIGIN, signer.public_jwk())
    publisher = LogPublisher(bus, Watched(bus), 0, folder, signer, key, Cosigner(folder.read, ()))
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    publisher.publish([SealState(ORIGIN, 0).step(log(random.Random(3), 600))])
    files = [path for path in folder.path.rglob("*") if path.is_file() and path.name != CHECKPOINT_FILE]
    assert files
    for path in files:
        assert any(one.name.startswith(f".{path.name}.") and one.parent == path.parent for one in before), path
        above = [parent for parent in path.parents if tmp_path in parent.parents or parent == tmp_path]
        assert set(above) <= set(before), path
