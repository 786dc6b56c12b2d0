"""The sequencer: with bounded inputs the journal is a function of their bytes and the configuration, and nothing else.

What a journal must be is said twice: in examples, and by a slow model that sorts all records and groups them.
"""

import base64
import hashlib
import json
import random
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import open_bus
from seawall.dataflows import Sequencer, _journal
from seawall.dataflows import _sequencer as module
from seawall.dataflows import sequence as dataflow
from seawall.dataflows._inputs import PENDING_MAX
from seawall.operators.core.holdings import shard_of
from seawall.operators.core.journal import WriteStep
from seawall.schemas import events as ev
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.records import SLICE_BYTES_MAX, Slice, decode_slice, encode_slice
from seawall_testing.desk import (
    MS,
    NOW,
    SECOND,
    T0,
    Json,
    account,
    fill,
    instrument,
    lines,
    mark,
    rejects,
    sequence,
    slices,
    transfer,
    write_desk,
)
from seawall_testing.pipeline import MemoryBus, MemoryWriter

SHARDS = 4
NAMES = ["a", "b", "c", "d", "e", "f"]
REFERENCE = lines(instrument(), instrument("BTC-PERP"), *(account(name) for name in NAMES))
A, B = shard_of("a", SHARDS), shard_of("b", SHARDS)


def sequence_files(folder: Path, *files: bytes, **top: Any) -> MemoryBus:
    bus = MemoryBus()
    names = {f"events{at}.jsonl": content for at, content in enumerate(files)}
    sequence(write_desk(folder, {"reference.jsonl": REFERENCE, **names}, **top), bus)
    return bus


def first(bus: MemoryBus, shard: int = A) -> Slice:
    return slices(bus, shard)[0]


# --- what is in a slice ---------------------------------------------------------------------------------------------


def test_a_slice_holds_reference_marks_fills_and_transfers_by_ordinal(tmp_path: Path) -> None:
    bus = sequence_files(
        tmp_path,
        lines(
            transfer(T0, "t1", "b", amount="-2.5", purpose="withdrawal"),
            mark(T0, "1600.5", "BTC-PERP", kind="index", venue="x"),
            fill(T0 + 1, "f1", "b", side="sell", quantity="0.25", price="1600"),
        ),
    )
    got = first(bus, B)
    assert len(got.reference) == 2 + 2 * len(NAMES)
    assert got.marks is not None and got.marks.instrument == [1] and got.marks.price == [1600.5]
    assert (got.marks.kind, got.marks.venue, got.marks.implied_volatility) == (["index"], ["x"], [])
    assert got.fills is not None and got.fills.account == [1] and got.fills.quantity == [-25]
    assert (got.fills.id, got.fills.price, got.fills.fee, got.fills.action) == (["f1"], [1600.0], [], [])
    assert got.transfers is not None and got.transfers.amount == [-2.5]
    assert (got.transfers.purpose, got.transfers.held_by) == (["withdrawal"], [])
    assert got.as_of_us == T0 + 100 * MS == got.cut_us
    assert got.sources["events0.jsonl"][0] == 4


def test_fills_go_to_their_shard_and_marks_to_every_shard(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(mark(T0), fill(T0, "f1", "a"), fill(T0, "f2", "b")))
    for shard in range(SHARDS):
        got = first(bus, shard)
        assert got.marks is not None
        want = [name for name, owner in (("f1", A), ("f2", B)) if owner == shard]
        assert (got.fills.id if got.fills else []) == want


def test_marks_are_conflated_to_the_latest_per_instrument_kind_and_venue(tmp_path: Path) -> None:
    records = [mark(T0 + 2, "3"), mark(T0 + 1, "2"), mark(T0 + 2, "4"), mark(T0 + 3, "5", venue="x")]
    marks = first(sequence_files(tmp_path, lines(*records))).marks
    assert marks is not None and (marks.price, marks.venue) == ([4.0, 5.0], ["", "x"])


def test_optional_columns_are_there_when_one_row_needs_them(tmp_path: Path) -> None:
    got = first(sequence_files(tmp_path, lines(fill(T0, "f1"), fill(T0, "f2", fee="0.1", fee_asset="USD")))).fills
    assert got is not None
    assert (got.fee, got.fee_asset, got.venue, got.source) == ([0.0, 0.1], ["", "USD"], [], [])


def test_events_keep_their_order_and_go_where_they_belong(tmp_path: Path) -> None:
    order = {"type": "order", "event_time_us": T0, "order_id": "o", "account": "a", "instrument": "ETH-PERP"}
    status = {"type": "venue_status", "event_time_us": T0, "venue": "x", "status": "down"}
    bus = sequence_files(
        tmp_path, lines(status, {**order, "side": "buy", "open_quantity": "1"}, {**status, "status": "up"})
    )
    other = next(shard for shard in range(SHARDS) if shard != A)
    assert [type(event) for event in first(bus, A).events] == [ev.VenueStatus, ev.Order, ev.VenueStatus]
    assert [type(event) for event in first(bus, other).events] == [ev.VenueStatus, ev.VenueStatus]


def test_the_first_slice_of_every_shard_carries_the_configuration(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(mark(T0)))
    for shard in range(SHARDS):
        configuration = first(bus, shard).configuration
        assert configuration is not None and configuration["version"] == 1 and configuration["shards"] == SHARDS


def test_records_without_a_time_precede_everything_or_take_that_of_the_record_before(tmp_path: Path) -> None:
    late_instrument = instrument("SOL-PERP")
    bus = sequence_files(
        tmp_path, lines(mark(T0 + SECOND), late_instrument), lines(mark(T0 + 2 * SECOND, name="SOL-PERP"))
    )
    got = slices(bus, 0)
    assert [len(s.reference) for s in got if s.marks] == [2 * len(NAMES) + 3, 0]
    assert got[0].as_of_us == T0 + SECOND + 100 * MS
    assert not rejects(bus)


def test_records_of_equal_time_come_in_order_of_files_and_lines(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0, "f1"), fill(T0 + 1, "f4")), lines(fill(T0, "f2"), fill(T0, "f3")))
    fills = first(bus).fills
    assert fills is not None and fills.id == ["f1", "f2", "f3", "f4"]


def test_a_late_record_is_taken_now_and_counted(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0 + SECOND, "f1"), fill(T0, "f2"), fill(T0 + SECOND, "f3")))
    fills = first(bus).fills
    assert fills is not None and fills.id == ["f1", "f2", "f3"]
    assert first(bus).late == 1


def test_an_id_that_comes_again_stands_behind_the_fill_that_came_first(tmp_path: Path) -> None:
    again = fill(T0, "f1", quantity="50")
    bus = sequence_files(tmp_path, lines(fill(T0 + 20, "f1"), fill(T0 + 10, "f2"), again))
    fills = first(bus).fills
    assert fills is not None and fills.id == ["f1", "f2", "f1"] and fills.quantity[0] < fills.quantity[2]
    assert {key: json.loads(text) for key, text in first(bus).originals.items()} == {"fill:2": again}


def test_a_correction_of_a_correction_stands_behind_both(tmp_path: Path) -> None:
    records = [
        fill(T0 + 20, "f1"),
        fill(T0 + 5, "f2", action="correct", ref_fill_id="f1"),
        fill(T0 + 6, "f3", action="correct", ref_fill_id="f2"),
    ]
    fills = first(sequence_files(tmp_path, lines(*records))).fills
    assert fills is not None and fills.id == ["f1", "f2", "f3"]


def test_originals_travel_with_corrections_busts_and_repeated_ids(tmp_path: Path) -> None:
    records = [
        fill(T0, "f1"),
        fill(T0, "f1"),
        fill(T0, "f2", action="bust", ref_fill_id="f1"),
        transfer(T0, "t1"),
        transfer(T0 + SECOND, "t1"),
    ]
    got = slices(sequence_files(tmp_path, lines(*records)), A)
    assert {key: json.loads(text) for key, text in got[0].originals.items()} == {
        "fill:1": records[1],
        "fill:2": records[2],
    }
    assert {key: json.loads(text) for key, text in got[1].originals.items()} == {"transfer:0": records[4]}


def test_raw_market_events_are_checked_and_left_to_market(tmp_path: Path) -> None:
    trade = {"type": "trade", "event_time_us": T0, "venue": "x", "price": "1", "quantity": "1"}
    bus = sequence_files(tmp_path, lines({**trade, "instrument": "ETH-PERP"}, {**trade, "instrument": "X"}))
    assert [r["reason"] for r in rejects(bus)] == ["INSTRUMENT_MUST_BE_KNOWN"]
    assert [s.as_of_us for s in slices(bus, 0)] == [T0 + 100 * MS, T0 + SECOND]


# --- rejects --------------------------------------------------------------------------------------------------------

BAD = [
    b"{",
    b"\xff\xfe{}",
    b'{"type":"comet"}',
    json.dumps(mark(T0, name="X")).encode(),
    json.dumps(fill(T0, "f", "nobody")).encode(),
    json.dumps(fill(T0, "f", quantity="0.001")).encode(),
    json.dumps(mark(NOW + 24 * 3600 * SECOND + 1)).encode(),
    json.dumps(account("z")[1]).encode(),
    json.dumps(account("a", holder="house")[1] | {"holder": "house"}).encode(),
    json.dumps(account("b")[1] | {"netting_set": "a"}).encode(),
    json.dumps(instrument(quantity_increment="0.1")).encode(),
    json.dumps({"type": "obligation", "event_time_us": T0, "obligation_id": "o", "from": "house", "to": "z"}
               | {"asset": "USD", "amount": "1", "kind": "loan"}).encode(),
    b'{"type":"venue_status","event_time_us":1,"venue":"v","status":"up","detail":"' + b"\x7f\t" * 9 + b'"}',
]  # fmt: skip


def test_every_bad_record_is_rejected_once_with_its_exact_bytes_and_nothing_else_is_lost(tmp_path: Path) -> None:
    content = b"".join(bad + b"\n" + lines(fill(T0 + at * 50 * MS, f"g{at}")) for at, bad in enumerate(BAD))
    bus = sequence_files(tmp_path, content)
    found = rejects(bus)
    kept = [r["original"].encode() if "original" in r else base64.b64decode(r["original_base64"]) for r in found]
    assert kept == BAD
    assert [r["source"] for r in found] == [{"file": "events0.jsonl", "line": 2 * at + 1} for at in range(len(BAD))]
    assert len({r["reason"] for r in found}) >= 9
    assert sum(len(s.fills.id) for s in slices(bus, A) if s.fills) == len(BAD)
    headers = [record.headers for record in bus.read("rejects", SHARDS, 0, 100)]
    assert headers[1] == {"seawall-id": "events0.jsonl-3", "seawall-n": "1"}


def test_slices_count_and_hash_the_rejects_since_the_last_tick(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(b"{", fill(T0, "f1"), b"[", b"null", fill(T0 + SECOND, "f2"), b"]"))
    values = [record.value for record in bus.read("rejects", SHARDS, 0, 100)]
    counted = [s.rejects for s in slices(bus, A) if s.rejects]
    assert [c.count for c in counted] == [3, 1]
    digest = hashlib.sha256()
    for value in values[:3]:
        digest.update(len(value).to_bytes(4, "big") + value)
    assert counted[0].sha256 == digest.hexdigest()


def test_a_record_that_moves_no_time_does_not_move_those_after_it(tmp_path: Path) -> None:
    future = mark(NOW + 25 * 3600 * SECOND)
    bus = sequence_files(tmp_path, lines(fill(T0, "f1"), future, fill(T0 + 1, "f2")))
    assert [r["reason"] for r in rejects(bus)] == ["EVENT_TIME_MUST_NOT_BE_IN_THE_FUTURE"]
    assert first(bus).late == 0 and len(slices(bus, A)) == 2


def test_of_an_oversize_record_the_head_the_length_and_the_hash_are_kept(tmp_path: Path) -> None:
    accents = "é".encode() * 200_000
    for at, long in enumerate([b'{"a":"' + b"A" * 2_000_000, b"\xff" * 300_000, accents, b"1" + accents]):
        [reject] = rejects(sequence_files(tmp_path / str(at), lines(mark(T0), long)))
        assert reject["reason"] == "RECORD_MUST_NOT_EXCEED_256_KIB"
        kept = reject["original"].encode() if "original" in reject else base64.b64decode(reject["original_base64"])
        assert long.startswith(kept) and 64 * 1024 - 3 <= len(kept) <= 64 * 1024
        assert (reject["truncated"], reject["bytes"]) == (True, len(long))
        assert reject["sha256"] == hashlib.sha256(long).hexdigest()


def test_no_reject_exceeds_the_bus_however_its_text_escapes(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(mark(T0), b"\x01" * 200_000))
    [record] = bus.read("rejects", SHARDS, 0, 10)
    assert len(record.value) <= SLICE_BYTES_MAX
    assert base64.b64decode(json.loads(record.value)["original_base64"]) == b"\x01" * 200_000


def test_a_flood_of_rejects_is_written_in_steps(tmp_path: Path) -> None:
    flood = b"".join(b"{%0200000d\n" % at for at in range(20))
    bus = sequence_files(tmp_path, lines(fill(T0, "f1")) + flood + lines(fill(T0 + SECOND, "f2")))
    assert len(rejects(bus)) == 20
    got = slices(bus, A)
    assert sum(s.rejects.count for s in got if s.rejects) == 20
    assert any(s.more for s in got)
    assert_journal_is_regular(bus)


# --- ticks ----------------------------------------------------------------------------------------------------------


def assert_journal_is_regular(bus: MemoryBus, ended: bool = True) -> None:
    """Check what every journal keeps, whatever is in it."""
    seconds: list[list[int]] = []
    for shard in range(SHARDS):
        records = bus.read("journal", shard, 0, 1_000_000)
        got = [decode_slice(record.value) for record in records]
        assert [record.headers for record in records] == [
            {"seawall-id": f"{shard}-{at}-0", "seawall-n": str(at)} for at in range(len(records))
        ]
        assert all(record.key == str(shard) and len(record.value) <= SLICE_BYTES_MAX for record in records)
        assert all(encode_slice(piece) == record.value for piece, record in zip(got, records, strict=True))
        assert [piece.seq for piece in got] == list(range(len(got)))
        assert all(piece.shard == shard and piece.as_of_us % (100 * MS) == 0 for piece in got)
        for before, after in pairwise(got):
            assert before.as_of_us == after.as_of_us if before.more else before.as_of_us < after.as_of_us
        assert not got[-1].more and got[-1].end is ended
        seconds.append([piece.as_of_us for piece in got if piece.second])
        last = {(piece.as_of_us - 1) // SECOND: piece.as_of_us for piece in got}
        assert set(last.values()) == set(seconds[-1])
    assert all(found == seconds[0] for found in seconds)


def test_the_last_tick_of_a_second_goes_to_every_shard_and_there_are_no_other_empty_slices(tmp_path: Path) -> None:
    at = [T0, T0 + 250 * MS, T0 + 900 * MS, T0 + 2 * SECOND]
    bus = sequence_files(tmp_path, lines(*(fill(time, f"f{time}") for time in at)))
    assert [(s.as_of_us - T0) // (100 * MS) for s in slices(bus, A)] == [1, 3, 10, 21, 30]
    assert [(s.as_of_us - T0) // (100 * MS) for s in slices(bus, B)] == [1, 10, 30]
    assert [s.second for s in slices(bus, B)] == [False, True, True]
    assert_journal_is_regular(bus)


def test_a_run_whose_last_tick_is_a_full_second_ends_with_it(tmp_path: Path) -> None:
    got = slices(sequence_files(tmp_path, lines(fill(T0 + 999 * MS, "f1"))), B)
    assert [(s.as_of_us, s.second, s.end) for s in got] == [(T0 + SECOND, True, True)]


def test_empty_inputs_give_a_journal_of_the_configuration(tmp_path: Path) -> None:
    bus = MemoryBus()
    sequence(write_desk(tmp_path, {"empty.jsonl": b""}), bus)
    assert [(s.end, s.configuration is not None) for s in slices(bus, 0)] == [(True, True)]


def test_a_tick_too_large_for_the_bus_is_written_in_steps(tmp_path: Path) -> None:
    many = lines(*(fill(T0, f"f{at:0100}", "a") for at in range(6_000)), fill(T0, "g", "b"), mark(T0))
    bus = sequence_files(tmp_path, many)
    got = [s for s in slices(bus, A) if s.as_of_us == T0 + 100 * MS]
    assert len(got) >= 3 and [s.more for s in got] == [True] * (len(got) - 1) + [False]
    assert [name for s in got if s.fills for name in s.fills.id] == [f"f{at:0100}" for at in range(6_000)]
    assert_journal_is_regular(bus)


@pytest.mark.parametrize("seed", range(6))
def test_the_journal_is_what_the_slow_model_says(tmp_path: Path, seed: int) -> None:
    files = [random_records(random.Random(seed * 10 + at), at) for at in range(3)]
    bus = sequence_files(tmp_path, *(lines(*records) for records in files))
    assert_journal_is_regular(bus)
    for shard in range(SHARDS):
        got = [
            (s.as_of_us, s.fills.id if s.fills else [], s.marks.price if s.marks else [], s.late)
            for s in slices(bus, shard)
            if not s.end
        ]
        assert got == model(files, shard)


def random_records(rng: random.Random, file: int) -> list[Json]:
    records: list[Json] = []
    at = T0
    for number in range(rng.randrange(120)):
        at += rng.choice([0, 0, 1, 30 * MS, 400 * MS, 3 * SECOND])
        when = at - rng.choice([0, 0, 0, 5 * SECOND])
        name = f"f{file}-{number}"
        records.append(fill(when, name, rng.choice(NAMES)) if rng.random() < 0.6 else mark(when, str(number + 1)))
    return records


def model(files: list[list[Json]], shard: int) -> list[tuple[int, list[str], list[float], int]]:
    """Sort all records, group them by tick, and decide which shards see each group."""
    merged = []
    for file, records in enumerate(files):
        high = 0
        for line, record in enumerate(records):
            late = record["event_time_us"] < high
            high = max(high, record["event_time_us"])
            merged.append((high, file, line, late, record))
    merged.sort(key=lambda entry: entry[:3])
    ticks: dict[int, list[tuple[bool, Json]]] = {}
    for high, _, _, late, record in merged:
        ticks.setdefault((high // (100 * MS) + 1) * 100 * MS, []).append((late, record))
    found = []
    for at, (tick, group) in enumerate(ticks.items()):
        following = list(ticks)[at + 1] if at + 1 < len(ticks) else -(-tick // SECOND) * SECOND
        second = (tick - 1) // SECOND != (following - 1) // SECOND
        ids = [r["fill_id"] for _, r in group if r["type"] == "fill" and shard_of(r["account"], SHARDS) == shard]
        marks = [r for _, r in group if r["type"] == "mark"]
        best = max(marks, key=lambda r: r["event_time_us"], default=None) if marks else None
        for r in marks:
            best = r if best is not None and r["event_time_us"] >= best["event_time_us"] else best
        late = sum(late for late, r in group if r["type"] == "mark" or r["fill_id"] in ids)
        if ids or marks or second or at == 0:
            found.append((tick, ids, [float(best["price"])] if best else [], late))
    return [entry for entry in found if entry[0] % SECOND or entry[0] != max(ticks)]


# --- restarts -------------------------------------------------------------------------------------------------------


def killed_run(path: Path, bus: MemoryBus, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run to the end through kills; return how often it was killed."""
    monkeypatch.setattr(_journal, "WAITING_BYTES_MAX", 1)
    kills = 0
    while True:
        monkeypatch.setattr(module, "BATCH", rng.choice([1, 2, 7, 60]))
        sequencer = Sequencer(load_configuration(path), bus, lambda: NOW)
        if all(sequencer.step() for _ in range(rng.randrange(1, 60))):
            sequencer.close()
            kills += 1
        else:
            return kills


@pytest.mark.parametrize("seed", range(4))
def test_kills_and_batches_have_no_effect_on_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    contents = [lines(*soiled(random_records(random.Random(seed * 7 + at), at), rng)) for at in range(2)]
    contents.append(lines(instrument("SOL-PERP"), *(fill(T0 + 5, f"big{at:0100}") for at in range(4_000))))
    want = sequence_files(tmp_path, *contents)
    bus = MemoryBus()
    kills = killed_run(tmp_path / "desk.toml", bus, rng, monkeypatch)
    assert kills > 0 and bus.records == want.records


def soiled(records: list[Json], rng: random.Random) -> list[Json | bytes]:
    mixed: list[Json | bytes] = list(records)
    for bad in BAD:
        mixed.insert(rng.randrange(len(mixed) + 1), bad)
    return mixed


def test_a_finished_run_does_nothing_when_run_again(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0, "f1"), b"{"))
    before = {key: list(records) for key, records in bus.records.items()}
    again = sequence(tmp_path / "desk.toml", bus)
    assert bus.records == before and again.slices == 0


def test_a_run_whose_files_grew_continues_after_its_end(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0, "f1")), lines(mark(T0)))
    for name, more in (("events0.jsonl", fill(T0 + 5 * SECOND, "f2")), ("events1.jsonl", mark(T0 + 1))):
        with (tmp_path / name).open("ab") as file:
            file.write(lines(more))
    sequence(tmp_path / "desk.toml", bus)
    got = slices(bus, A)
    assert [((s.as_of_us - T0) // (100 * MS), s.late, s.end) for s in got] == [
        (1, 0, False),
        (10, 0, True),
        (11, 1, False),
        (51, 0, False),
        (60, 0, True),
    ]
    assert_journal_is_regular(bus)


def test_changed_limits_are_journaled_for_every_shard_in_a_later_slice(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0, "f1")))
    limit = '[[limit]]\nid = "x"\nscope = "account:*"\nmeasure = "equity"\ndirection = "below"\nhard = 0\n'
    (tmp_path / "limits.toml").write_text(limit)
    with (tmp_path / "desk.toml").open("a") as file:
        file.write('[limits]\nfile = "limits.toml"\n')
    sequence(tmp_path / "desk.toml", bus)
    for shard in range(SHARDS):
        last = slices(bus, shard)[-1]
        assert last.configuration is not None and last.as_of_us == T0 + 2 * SECOND and last.end
        assert [last.configuration[key]["version"] for key in ("limits", "playbook")] == [2, 1]
        assert last.configuration["version"] == 2
    assert_journal_is_regular(bus)
    assert sequence(tmp_path / "desk.toml", bus).slices == 0


@pytest.mark.parametrize(
    "change",
    [{"shards": 2}, {"shards": 8}, {"slice_ms": 50}, {"environment": "test", "price_max_age_s": 60}, {"issuer": "x"}],
)
def test_what_never_may_change_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0, "f1")))
    with pytest.raises(UsageError, match=next(iter(change))):
        run_again = write_desk(tmp_path, {"reference.jsonl": REFERENCE}, **change)
        sequence(run_again, bus)


def test_ids_are_remembered_across_a_restart(tmp_path: Path) -> None:
    bus = sequence_files(tmp_path, lines(fill(T0, "f1"), transfer(T0, "t1")))
    with (tmp_path / "events0.jsonl").open("ab") as file:
        file.write(lines(fill(T0 + SECOND, "f1"), transfer(T0 + SECOND, "t1")))
    sequence(tmp_path / "desk.toml", bus)
    assert [set(s.originals) for s in slices(bus, A) if s.fills] == [set(), {"fill:0", "transfer:0"}]


def test_nothing_in_the_journal_depends_on_the_folder_or_the_clock(tmp_path: Path) -> None:
    one = sequence_files(tmp_path / "one", lines(fill(T0, "f1"), b"{"))
    two = MemoryBus()
    (tmp_path / "two").mkdir()
    path = write_desk(tmp_path / "two", {"reference.jsonl": REFERENCE, "events0.jsonl": lines(fill(T0, "f1"), b"{")})
    sequence(path, two, lambda: NOW + 10 * SECOND)
    assert one.records == two.records


def test_a_run_on_the_embedded_bus_is_the_run_in_memory(tmp_path: Path) -> None:
    want = sequence_files(tmp_path, lines(*random_records(random.Random(3), 0), b"{"))
    bus = open_bus("sqlite:seawall.db", tmp_path)
    sequence(tmp_path / "desk.toml", bus)
    assert {key: bus.read(*key, 0, 10_000) for key in want.records} == want.records
    bus.close()


# --- live topics ----------------------------------------------------------------------------------------------------


class Live:
    """A live sequencer, its bus and a clock that the test moves."""

    def __init__(self, folder: Path, at_us: int, more: str = "") -> None:
        path = write_desk(folder, {"reference.jsonl": REFERENCE})
        path.write_text(path.read_text() + f'topics = ["fills"]\nwait_ms = 50\n{more}')
        self.configuration, self.bus, self.now = load_configuration(path), MemoryBus(), at_us
        self.start()

    def start(self) -> None:
        self.sequencer = Sequencer(self.configuration, self.bus, lambda: self.now)
        while self.sequencer._merged is not None:
            self.sequencer.step()

    def send(self, *records: Json | bytes, partition: int = 0) -> None:
        writer = self.bus.writer([("fills", partition)])
        for line in lines(*records).splitlines():
            writer.append("fills", partition, "", line, {})
        writer.flush()

    def until(self, at_us: int, step_us: int = 10 * MS) -> None:
        while self.now < at_us:
            self.now = min(self.now + step_us, at_us)
            self.sequencer._following._discovered_at = -10.0
            self.sequencer.step()


def test_live_events_are_cut_by_the_clock_after_the_wait(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    live.until(T0 + 210 * MS)
    live.send(fill(T0 + 205 * MS, "f1"))
    live.until(T0 + 340 * MS)
    assert [s for s in slices(live.bus, A) if s.fills] == []
    live.until(T0 + 350 * MS)
    [got] = [s for s in slices(live.bus, A) if s.fills]
    assert (got.as_of_us, got.cut_us) == (T0 + 300 * MS, T0 + 350 * MS)
    assert got.sources["fills/0"] == [1, 0, T0 + 205 * MS]


@pytest.mark.parametrize(
    ("at_ms", "rest_ms"),
    [(160, 10), (238, 6), (245, 2), (249, 1), (250, 0.5), (300, 0.5)],
    ids=["long before the cut", "until shortly before it", "shortly before it", "until the cut", "at the cut", "after"],
)
def test_a_live_run_rests_while_records_come_together_and_never_past_a_cut(
    tmp_path: Path, at_ms: int, rest_ms: float
) -> None:
    live = Live(tmp_path, T0)
    live.until(T0 + 150 * MS)  # cut up to 100 ms, 50 ms were waited; the next cut is at 250 ms
    live.now = T0 + at_ms * MS
    assert live.sequencer._following.rest_s() * 1000 == pytest.approx(rest_ms)


def test_live_records_are_taken_once_stragglers_were_waited_for_and_only_the_last_are_left_at_the_cut(
    tmp_path: Path,
) -> None:
    """Two sources, the second 40 ms behind: what it says is put before what the first said later."""
    live, taken = Live(tmp_path, T0), list[int]()
    live.until(T0 + 200 * MS)
    for at in range(10):
        live.send(mark(live.now, str(100 + at), "BTC-PERP"), fill(live.now, f"f{at}"))
        late = live.now - 40 * MS
        live.send(fill(late, f"l{at}"), mark(late, "1", "BTC-PERP"), partition=1)
        live.until(live.now + 10 * MS)
        taken.append(live.sequencer.events)
    before = [f"l{at}" for at in range(4)]  # of the interval before, which was cut 50 ms after its end
    assert [s.fills.id for s in slices(live.bus, A) if s.fills] == [before]
    assert taken[-1] - taken[0] > 20  # most of the open interval is in
    live.until(T0 + 400 * MS)
    got = [s for s in slices(live.bus, A) if s.fills]
    within = ["f0", "l4", "f1", "l5", "f2", "l6", "f3", "l7", "f4", "l8", "f5", "l9", "f6", "f7", "f8", "f9"]
    assert [s.fills.id for s in got if s.fills] == [before, within]
    assert sum(s.late for s in got) == 0
    assert [s.marks.price for s in got if s.marks] == [[1.0], [109.0]]


def test_records_before_any_time_of_their_topic_precede_those_behind_them_and_each_is_taken_once(
    tmp_path: Path,
) -> None:
    live = Live(tmp_path, T0)
    live.until(T0 + 200 * MS)
    live.send(*account("g"), fill(T0 + 195 * MS, "f1", "g"))
    live.until(T0 + 500 * MS)
    live.sequencer.close()
    live.start()
    live.until(T0 + 1500 * MS)
    shard = shard_of("g", SHARDS)
    assert live.bus.read("rejects", SHARDS, 0) == []
    assert [s.fills.id for s in slices(live.bus, shard) if s.fills] == [["f1"]]
    assert slices(live.bus, shard)[-1].sources["fills/0"] == [3, 0, T0 + 195 * MS]


def test_a_first_run_cuts_what_waited_on_a_topic_by_its_times_though_the_first_record_has_none(tmp_path: Path) -> None:
    class Waiting(Live):
        def start(self) -> None:
            self.send(*account("g"), *(fill(T0 + n * SECOND, f"f{n}") for n in range(20)))
            super().start()

    live = Waiting(tmp_path, T0 + 600 * SECOND)
    live.until(T0 + 601 * SECOND)
    found = [s.as_of_us for s in slices(live.bus, A) if s.fills]
    assert found == [T0 + n * SECOND + 100 * MS for n in range(20)]
    assert live.sequencer.late == 0


def test_a_partition_that_lags_makes_the_others_wait_on_the_bus_and_not_in_memory(tmp_path: Path) -> None:
    live, count, ahead = Live(tmp_path, T0), 14_000, [0]
    live.send(*(fill(T0 + n * MS, f"slow-{n}") for n in range(count)))
    live.send(*(fill(T0 + n * 20 * MS, f"fast-{n}") for n in range(count)), partition=1)
    live.now = T0 + 300_000 * MS
    while ahead[-1] or len(ahead) < 3:
        live.sequencer.step()
        ahead.append(max(map(len, live.sequencer._following._pending)))
    assert PENDING_MAX <= max(ahead) < PENDING_MAX + 1000 < count
    found = [name for s in slices(live.bus, A) if s.fills for name in s.fills.id]
    assert set(found) == {f"{way}-{n}" for way in ("slow", "fast") for n in range(count)}
    assert live.sequencer.late == 0


class SlowWriter(MemoryWriter):
    """Commits when it is told to; ``calls`` says how what it was given came to be durable."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.calls: list[str] = []
        self.idle = True

    def submit(self) -> None:
        self.calls.append("submit")
        self.idle = False

    def is_idle(self) -> bool:
        return self.idle

    def flush(self) -> None:
        self.calls.append("flush")
        super().flush()


def test_a_live_run_that_is_behind_commits_beside_its_work_and_one_that_is_not_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, count = Live(tmp_path, T0), 3_500
    writer = SlowWriter(live.bus)
    live.send(*(fill(T0 + n * MS, f"f{n}") for n in range(count)))
    monkeypatch.setattr(live.sequencer._journal, "_writer", writer)
    live.now = T0 + 10 * SECOND
    steps = []
    for _ in range(4):
        live.sequencer.step()
        steps.append(list(writer.calls))
        writer.calls.clear()
        writer.idle = writer.idle or len(steps) == 2
    # The second thousand waits for the first to be committed; the last records that are there are waited for.
    assert steps == [["submit"], [], ["submit"], ["flush"]]
    live.sequencer.step()
    assert writer.calls == []
    found = [name for s in slices(live.bus, A) if s.fills for name in s.fills.id]
    assert found == [f"f{n}" for n in range(count)]


def test_what_was_submitted_is_waited_for_at_the_latest_when_a_live_run_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(tmp_path, T0)
    journal, writer = live.sequencer._journal, SlowWriter(live.bus)
    monkeypatch.setattr(journal, "_writer", writer)
    journal.append([WriteStep([(A, live.sequencer.standing.seqs[A], b"{}")], [])])
    journal.submit()
    assert writer.calls == ["submit"]
    journal.flush()
    journal.flush()
    assert writer.calls == ["submit", "flush"]


def test_a_live_topic_of_which_a_mapping_skips_every_record_is_not_read_from_its_beginning_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "oms.toml").write_text(
        'format = "json"\nunmatched = "skip"\n[[record]]\ntype = "notice"\nwhen = { kind = "NEWS" }\n[record.fields]\n'
        'event_time_us = { from = "ts", time = "us" }\nnotice_id = "id"\nsubject = "subject"\nseverity = "severity"\n'
        'kind = { constant = "outage" }\n'
    )
    live = Live(tmp_path, T0, 'mappings = { "fills" = "oms.toml" }\n')
    live.send(*({"kind": "HEARTBEAT"} for _ in range(30)))
    live.until(T0 + 2100 * MS)
    assert slices(live.bus, A)[-1].sources["fills/0"] == [30, 0, -1]
    live.sequencer.close()
    live.start()
    live.send({"kind": "HEARTBEAT"})
    read = live.bus.read
    live.bus.read = lambda topic, partition, offset, *rest: (
        offsets.append(offset) or read(topic, partition, offset, *rest)
    )
    offsets: list[int] = []
    live.until(T0 + 4100 * MS)
    assert offsets[0] == 30 and slices(live.bus, A)[-1].sources["fills/0"] == [31, 0, -1]
    assert live.sequencer.late == 0


def test_a_live_second_ends_for_every_shard_even_in_silence(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    live.until(T0 + 3100 * MS)
    for shard in range(SHARDS):
        ends = [s.as_of_us for s in slices(live.bus, shard) if s.second]
        assert ends == [T0 + SECOND, T0 + 2 * SECOND, T0 + 3 * SECOND]
    assert not any(s.end for s in slices(live.bus, 0))


def test_a_live_event_that_arrives_after_its_cut_goes_into_the_next_slice_as_late(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    live.until(T0 + 500 * MS)
    live.send(fill(T0 + 100 * MS, "f1"))
    live.until(T0 + 700 * MS)
    [got] = [s for s in slices(live.bus, A) if s.fills]
    assert got.late == 1 and got.as_of_us > T0 + 400 * MS


def test_a_live_event_from_the_future_does_not_hold_up_those_after_it(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    live.send(fill(T0 + 3600 * SECOND, "f1"), fill(T0 + 20 * MS, "f2"))
    live.until(T0 + 400 * MS)
    assert [s.fills.id for s in slices(live.bus, A) if s.fills] == [["f2", "f1"]]


def test_a_live_mark_from_the_future_gives_way_to_those_after_it(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    live.send(mark(T0 + 23 * 3600 * SECOND, "100"))
    live.until(T0 + 400 * MS)
    live.send(mark(T0 + 390 * MS, "80"))
    live.until(T0 + 800 * MS)
    times = [time_us for s in slices(live.bus, A) if s.marks for time_us in s.marks.time_us]
    assert len(times) == 2 and times == sorted(times) and times[1] == T0 + 390 * MS


def test_a_live_run_continues_after_a_restart_without_losing_or_repeating(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    for at in range(30):
        live.send(fill(live.now, f"f{at}", NAMES[at % len(NAMES)]), b"{")
        live.until(live.now + 70 * MS)
        if at % 7 == 3:
            live.sequencer.close()
            live.start()
    live.until(live.now + 2 * SECOND)
    found = [name for shard in range(SHARDS) for s in slices(live.bus, shard) if s.fills for name in s.fills.id]
    assert sorted(found) == sorted(f"f{at}" for at in range(30))
    assert [r["source"]["offset"] for r in rejects(live.bus)] == list(range(1, 60, 2))
    for shard in range(SHARDS):
        got = slices(live.bus, shard)
        assert all(before.as_of_us < after.as_of_us for before, after in pairwise(got))


def test_a_backlog_is_cut_by_event_time(tmp_path: Path) -> None:
    live = Live(tmp_path, T0 + 100 * SECOND)
    live.sequencer.close()
    live.send(*(fill(T0 + at * 100 * MS, f"f{at}") for at in range(50)))
    live.bus.records = {key: records for key, records in live.bus.records.items() if key == ("fills", 0)}
    live.start()
    live.until(live.now + 400 * MS)
    got = [s for s in slices(live.bus, A) if s.fills]
    assert len(got) == 50 and sum(s.late for s in got) == 0


def test_a_live_run_stops_on_its_event(tmp_path: Path) -> None:
    live = Live(tmp_path, T0)
    stop = threading.Event()
    thread = threading.Thread(target=live.sequencer.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


# --- as a dataflow --------------------------------------------------------------------------------------------------


def test_the_dataflow_for_the_engine_writes_the_same_journal(tmp_path: Path) -> None:
    from bytewax.testing import run_main

    want = sequence_files(tmp_path, lines(fill(T0, "f1"), mark(T0 + SECOND)))
    run_main(dataflow.flow(str(tmp_path / "desk.toml")))
    bus = open_bus("sqlite:seawall.db", tmp_path)
    assert {key: bus.read(*key, 0, 100) for key in want.records} == want.records
    bus.close()
