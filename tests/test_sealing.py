"""Sealed logs: every attack of the tamper simulation is found, and clean runs with crashes raise no alarm."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from seawall.operators.core.sealing import GENESIS, Fault, SealState, check_partition
from seawall.schemas.errors import Divergence
from seawall.schemas.evidence.merkle import CompactRange, leaf_hash
from seawall.schemas.evidence.tlog import Checkpoint

RUNS = int(os.environ.get("SEAWALL_TAMPER_RUNS", "20"))
ORIGIN = "risk.example/audit/dev/audit/0"
Entries = list[bytes]


def log(dice: random.Random, length: int) -> Entries:
    """Chained audit records of one partition, with the event times of their slices."""
    found: Entries = []
    prev, as_of_us = GENESIS, 1_000_000_000
    for seq in range(length):
        as_of_us += dice.choice((0, 0, 0, 1, 9)) * 100_000
        stated = seq == length - 1 or dice.random() < 0.8
        timed = {"as_of_us": as_of_us, "inputs": []} if stated else {"value": dice.random()}
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
        found["tree"] += bool(faults & {Fault.ROOT, Fault.TRUNCATED})
        found["chain"] += Fault.CHAIN in faults
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
    assert (first.at, first.fault) == (18, Fault.CHAIN) or first.fault is Fault.ROOT


def test_a_split_view_is_found():
    records = log(random.Random(2), 40)
    published = checkpoints(seal(records))
    forked = [*published, Checkpoint(ORIGIN, published[-1].size, bytes(32))]
    assert [finding.fault for finding in check_partition(records, forked)] == [Fault.SPLIT]


def test_a_checkpoint_stands_where_the_rule_says():
    times = [0, 500_000, 999_999, 1_000_000, 1_500_000, 2_000_000, *[2_000_000] * 300]
    head = b'{"shard":0,"seq":1,"n":0,"prev":"genesis","kind":"%s","body":{'
    records = [(head % b"slice") + b'"as_of_us":%d,"inputs":[]}}' % at for at in times]
    records.insert(4, (head % b"breach") + b'"id":"0-1-0"}}')  # a decision waits for the record of its slice
    records[-1] = records[-1][:-2] + b',"end":true}}'
    assert list(seal(records)) == [1, 4, 7, 256, len(records)]


def test_a_record_that_is_none_stops_the_sealer():
    with pytest.raises(Divergence, match="record 1 is no audit record"):
        SealState(ORIGIN, 0).step([*log(random.Random(3), 1), b"\xff"])


def test_what_is_not_json_breaks_the_chain_without_an_exception():
    tree = CompactRange()
    tree.append(leaf_hash(b"\xff"))
    findings = list(check_partition([b"\xff"], [Checkpoint(ORIGIN, 1, tree.root())]))
    assert [finding.fault for finding in findings] == [Fault.CHAIN]
