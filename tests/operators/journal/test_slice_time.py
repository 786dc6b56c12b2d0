"""A keyed stream of one's own records in front of the operators: the slices are those that a journal would hold."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import msgspec
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

import seawall.operators as sw
from seawall.operators.core.journal import SlicingState
from seawall.operators.core.journal._journal_state import REMEMBERED_MORE
from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.decoding import decode_event
from seawall.schemas.records import decode_slice
from seawall_testing import crisis
from seawall_testing.desk import SECOND, T0, account, fill, instrument, lines, mark, sequence
from seawall_testing.pipeline import MemoryBus, journal_in_order, write_configuration

SHARDS = 2


def records() -> list[bytes]:
    return lines(*crisis.records(2), b"no json", b'{"type":"mark","event_time_us":1}').splitlines()


@pytest.fixture
def stream_configuration(tmp_path: Path) -> Configuration:
    """Return the configuration of a desk whose records are one file."""
    files = {"stream.jsonl": b"".join(line + b"\n" for line in records())}
    path = write_configuration(tmp_path / "desk", files, crisis.LIMITS, crisis.PLAYBOOK, shards=SHARDS)
    return load_configuration(path)


def unplaced(values: list[bytes]) -> list[dict[str, Any]]:
    """Return slices without what quotes their sources."""
    quoted = ("sources", "rejects", "originals")
    return [{k: v for k, v in json.loads(value).items() if k not in quoted} for value in values]


def cut(state: SlicingState, given: list[Any], end: bool = True) -> tuple[list[tuple[int, bytes]], list[Any]]:
    """Return the slices and rejects of some records."""
    cuts = [state.step(record) for record in given] + ([state.finish()] if end else [])
    return [found for one in cuts for found in one.slices], [found for one in cuts for found in one.rejects]


def test_the_slices_are_those_that_the_sequencer_journals_of_a_file(stream_configuration: Configuration) -> None:
    bus = MemoryBus()
    sequence(stream_configuration.path, bus)
    slices, rejects = cut(SlicingState(stream_configuration), records())
    values = sorted((decode_slice(value).as_of_us, shard, at, value) for at, (shard, value) in enumerate(slices))
    assert unplaced([value for *_, value in values]) == unplaced(journal_in_order(bus, SHARDS))
    kept = [json.loads(stored.value) for stored in bus.read("rejects", SHARDS, 0, 1000)]
    assert [(k["reason"], k.get("original")) for k in kept] == [
        (k["reason"], k.get("original")) for k in (json.loads(record.value) for record in rejects)
    ]
    assert len(kept) > 3 and len(slices) > 40


@pytest.mark.parametrize("every", [1, 7, 100])
def test_a_restart_in_mid_stream_gives_the_same_slices(stream_configuration: Configuration, every: int) -> None:
    wanted = cut(SlicingState(stream_configuration), records())
    state, slices, rejects = SlicingState(stream_configuration), [], []
    for begin in range(0, len(records()), every):
        state = SlicingState.restore(state.snapshot(), stream_configuration)
        found = cut(state, records()[begin : begin + every], end=begin + every >= len(records()))
        slices, rejects = slices + found[0], rejects + found[1]
    assert (slices, rejects) == wanted
    assert state.snapshot() == SlicingState.restore(state.snapshot(), stream_configuration).snapshot()


def test_bytes_text_dicts_and_events_are_the_same_records(stream_configuration: Configuration) -> None:
    good = [line for line in records() if _is_good(line)]
    forms = [good, [line.decode() for line in good], [json.loads(line) for line in good]]
    forms.append([decode_event(line) for line in good])
    first, *others = [
        unplaced([value for _, value in cut(SlicingState(stream_configuration), form)[0]]) for form in forms
    ]
    assert all(other == first for other in others)


def _is_good(line: bytes) -> bool:
    try:
        decode_event(line)
    except Exception:
        return False
    return True


def test_a_stream_that_ended_may_go_on(stream_configuration: Configuration) -> None:
    state = SlicingState(stream_configuration)
    first, _ = cut(state, records())
    more, _ = cut(SlicingState.restore(state.snapshot(), stream_configuration), [mark(T0 + 1000 * SECOND, "90")])
    assert min(decode_slice(value).seq for _, value in more) == 1 + max(decode_slice(value).seq for _, value in first)
    assert state.finish().slices == []


def test_state_is_bounded_by_what_is_open(stream_configuration: Configuration) -> None:
    state = SlicingState(stream_configuration)
    cut(state, records(), end=False)
    sizes = []
    for step in range(2):
        cut(state, [mark(T0 + (1000 * (step + 1) + n) * SECOND, str(90 + n % 7)) for n in range(500)], end=False)
        sizes.append(len(state.snapshot()))
    assert abs(sizes[1] - sizes[0]) < 200


def flow(desk: Configuration, given: list[tuple[str, Any]], out: list[Any], kept: list[Any]) -> Dataflow:
    dataflow = Dataflow("theirs")
    stream = op.input("stream", dataflow, TestingSource(given, 5))
    sliced = sw.slice_time("time", stream, desk)
    breaches: Any = sw.enforce_limits("limits", sw.aggregate_exposure("exposure", sliced.slices))
    op.output("out", breaches, TestingSink(out))
    op.output("rejects", sliced.rejects, TestingSink(kept))
    return dataflow


def breaches_of(enforced: list[Any]) -> list[Any]:
    return sorted((record.id, record.value) for _, item in enforced for record in item.breaches.records)


def test_exposure_and_limits_of_a_stream_are_those_of_the_journal(stream_configuration: Configuration) -> None:
    bus, journaled, found, kept = MemoryBus(), [], [], []
    sequence(stream_configuration.path, bus)
    slices = [(str(decode_slice(value).shard), value) for value in journal_in_order(bus, SHARDS)]
    dataflow = Dataflow("ours")
    stream = op.input("journal", dataflow, TestingSource(slices, 5))
    op.output("out", sw.enforce_limits("limits", sw.aggregate_exposure("exposure", stream)), TestingSink(journaled))
    run_main(dataflow)
    run_main(flow(stream_configuration, [(f"feed-{n % 3}", line) for n, line in enumerate(records())], found, kept))
    assert breaches_of(found) == breaches_of(journaled)
    assert len(breaches_of(found)) > 5
    assert [json.loads(record.value)["source"]["offset"] for _, block in kept for record in block][-1] == len(
        records()
    ) - 1


def test_a_killed_dataflow_continues_where_its_snapshot_was(
    stream_configuration: Configuration, tmp_path: Path
) -> None:
    whole, kept, parts = [], [], []
    given: list[Any] = [("feed", line) for line in records()]
    run_main(flow(stream_configuration, given, whole, kept))
    (tmp_path / "store").mkdir()
    init_db_dir(tmp_path / "store", 1)
    half = len(given) // 2
    dataflow = flow(stream_configuration, [*given[:half], TestingSource.ABORT(), *given[half:]], parts, kept)
    for _ in range(2):
        run_main(dataflow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(tmp_path / "store")))
    assert sorted(set(breaches_of(parts))) == breaches_of(whole)


def test_a_configuration_that_changed_becomes_an_event_of_the_next_slice(stream_configuration: Configuration) -> None:
    state = SlicingState(stream_configuration)
    cut(state, records(), end=False)
    changed = msgspec.structs.replace(stream_configuration, mark_max_age_s=5.0)
    slices, _ = cut(SlicingState.restore(state.snapshot(), changed), [mark(T0 + 900 * SECOND)])
    told = [decode_slice(value).configuration for _, value in slices]
    assert [c["mark_max_age_s"] for c in told if c is not None] == [5.0] * SHARDS


def test_the_dotted_step_ids_are_frozen_because_they_are_the_state_schema(stream_configuration: Configuration) -> None:
    steps = flow(stream_configuration, [], [], []).substeps[1].substeps
    assert [step.step_id for step in steps] == [f"theirs.time.{name}" for name in ("one", "cut", "slices", "rejects")]


def test_what_is_forgotten_does_not_depend_on_a_restart(tmp_path: Path) -> None:
    reference = lines(instrument(), account("a"))
    files = {"reference.jsonl": reference}
    path = write_configuration(tmp_path / "desk", files, crisis.LIMITS, crisis.PLAYBOOK, shards=1, fill_memory=1000)
    configuration = load_configuration(path)
    early = [*reference.splitlines(), *lines(fill(T0 + 20, "late"), fill(T0 + 5, "early")).splitlines()]
    between = lines(*(fill(T0 + SECOND, f"f{number}") for number in range(1000 + REMEMBERED_MORE - 1))).splitlines()
    last = lines(fill(T0 + 2 * SECOND, "late"), fill(T0 + 2 * SECOND, "early")).splitlines()
    wanted, _ = cut(SlicingState(configuration), [*early, *between, *last])
    state = SlicingState(configuration)
    found, _ = cut(state, [*early, *between[:1]], end=False)
    found += cut(SlicingState.restore(state.snapshot(), configuration), [*between[1:], *last])[0]
    assert found == wanted
    (kept,) = [one for _, value in found if (one := decode_slice(value)).originals]
    assert list(kept.originals) == ["fill:1"]  # what stood first in its slice, `late`, was forgotten first
