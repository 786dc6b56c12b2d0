"""Decoders under inputs that nobody would send: refused by their own errors, and nothing valid beside them is lost.

`SEAWALL_FUZZ=1000000` sends so many in all; a few hundred to each decoder by default.
"""

import os
import random
from pathlib import Path

import pytest

from seawall_testing import desk, fuzz
from seawall_testing.pipeline import MemoryBus

TARGETS = fuzz.targets()
INPUTS = max(300, int(os.environ.get("SEAWALL_FUZZ", "0")) // len(TARGETS))


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_takes_an_input_or_refuses_it_by_its_own_error(target: fuzz.Target) -> None:
    told = fuzz.attack(target, INPUTS, seed=1)
    assert told.total() == INPUTS
    assert told["taken"]  # what is sent is near enough to what is meant


def test_every_valid_line_among_broken_ones_is_journaled_and_every_broken_one_rejected(tmp_path: Path) -> None:
    rng, seeds, sent, mixed = random.Random(7), fuzz.corpus("event"), 0, []
    reference = desk.lines(desk.instrument(), *desk.account("a"))
    for number in range(2_000):
        if rng.random() < 0.5:
            sent += 1
            mixed.append(desk.lines(desk.fill(desk.T0 + number, f"valid-{number}")).strip())
        else:
            mixed.append(
                fuzz.mutate(rng, seeds).replace(b"\n", b" ").replace(b"\r", b" ").replace(b"valid-", b"other-")
            )
    bus = MemoryBus()
    path = desk.write_desk(tmp_path, {"reference.jsonl": reference, "mixed.jsonl": b"\n".join(mixed) + b"\n"}, shards=2)
    sequencer = desk.sequence(path, bus)
    found = [name for shard in range(2) for piece in desk.slices(bus, shard) if piece.fills for name in piece.fills.id]
    valid = [name for name in found if name.startswith("valid-")]
    assert len(valid) == len(set(valid)) == sent
    blank = sum(not line.strip() for line in mixed)
    assert sequencer.events + sequencer.rejected == len(mixed) - blank + reference.count(b"\n")
    assert len(desk.rejects(bus, 2)) == sequencer.rejected > 500
