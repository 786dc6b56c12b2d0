"""Whatever record of whatever topic is flipped, dropped, swapped, inserted or cut off: ``verify`` names its topic.

Every record of a small run is tampered with in every way, one at a time.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import KeptSnapshot, open_bus
from seawall.connectors.bus._appending import PART_BYTES
from seawall.connectors.bus.kafka._partition_reader import read_headers
from seawall.connectors.keys import _key_files
from seawall.operators.core.base import pack
from seawall.operators.core.pipeline import Pipeline
from seawall.ops.run import run
from seawall.ops.verify import Report, replay, slices_in_order, trusted_logs, verify
from seawall.schemas.configuration import load_configuration
from seawall.schemas.evidence import _envelopes, decode_base64url
from seawall.schemas.records import Stored, decode_slice
from seawall.schemas.transparency import COSIGNATURE, NoteKey
from seawall_testing import crisis
from seawall_testing.desk import MS, SECOND, T0, account, fill, instrument, lines, mark, write_desk
from seawall_testing.pipeline import MemoryBus

DERIVED = ("exposures", "alerts", "breaches", "commands", "audit", "rejects", "state")
TOPICS = ("signals", "journal", *DERIVED, "checkpoints")
Place = tuple[str, int]
Records = dict[Place, list[Stored]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended and went on with more input, so that each of its logs has two checkpoints."""
    path = crisis.write_crisis(tmp_path_factory.mktemp("run"), 2, per_second=5)
    run(load_configuration(path))
    with (path.parent / "marks.jsonl").open("ab") as more:
        more.write(lines(mark(T0 + 10 * SECOND, "50")))
    run(load_configuration(path))
    return path.parent


@pytest.fixture(scope="module")
def original(folder: Path) -> Records:
    bus = open_bus("sqlite:seawall.db", folder)
    return {(t, p): bus.read(t, p, 0, 1_000_000, 1 << 40) for t in bus.topics() for p in bus.partitions(t)}


@pytest.fixture(scope="module")
def public(folder: Path) -> dict[str, Any]:
    return _key_files.public_keys(folder / "keys" / "dev.pem")


Check = Callable[[Records], Report]


@pytest.fixture(scope="module")
def check(public: dict[str, Any], folder: Path) -> Check:
    logs = trusted_logs(load_configuration(folder / "run.toml"))._replace(folder=None)

    def checked(records: Records) -> Report:
        bus = MemoryBus()
        bus.records = {place: found for place, found in records.items() if found}
        return verify(bus, public, "dev", "risk/dev", logs)

    return checked


# --- ways to tamper: each gives all records of one partition anew -----------------------------------------------------


def numbered(records: list[Stored]) -> list[Stored]:
    return [record._replace(offset=offset) for offset, record in enumerate(records)]


def flip(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    value = records[at].value
    rng = random.Random(at)
    for place in {0, len(value) - 1, rng.randrange(len(value)), rng.randrange(len(value))}:
        changed = value[:place] + bytes([value[place] ^ (1 << rng.randrange(8))]) + value[place + 1 :]
        yield [*records[:at], records[at]._replace(value=changed), *records[at + 1 :]]


def drop(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    left = [*records[:at], *records[at + 1 :]]
    yield left
    if at < len(left):
        yield numbered(left)


def swap(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    for other in {(at + 1) % len(records), (at + 7) % len(records)} - {at}:
        swapped = list(records)
        swapped[at], swapped[other] = records[other], records[at]
        yield numbered(swapped)
        values = list(records)  # only the values, headers and keys where they were
        values[at], values[other] = (
            records[at]._replace(value=records[other].value),
            records[other]._replace(value=records[at].value),
        )
        if records[at].value != records[other].value:
            yield values


def insert(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    copy = records[at]
    yield [*records, copy._replace(offset=len(records))]
    yield numbered([*records[:at], copy, *records[at:]])
    number = {**copy.headers, "seawall-n": str(len(records))}
    yield [*records, copy._replace(offset=len(records), headers=number)]


def truncate(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    yield records[:at]


def rekey(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    for key in (records[at].key + "x", ""):
        yield [*records[:at], records[at]._replace(key=key), *records[at + 1 :]]


def rehead(records: list[Stored], at: int) -> Iterator[list[Stored]]:
    headers = records[at].headers
    changes: list[dict[str, str]] = [{**headers, "extra": "1"}, {}]
    changes += [{k: v for k, v in headers.items() if k != name} for name in headers]
    changes += [{**headers, name: headers[name] + "0"} for name in headers]
    changes += [{**headers, "dsse": "e30"}] if "dsse" not in headers else [{**headers, "dsse": headers["dsse"][:-8]}]
    for changed in changes:
        yield [*records[:at], records[at]._replace(headers=changed), *records[at + 1 :]]


WAYS = (flip, drop, swap, insert, truncate, rekey, rehead)


def test_the_run_has_records_of_every_topic_and_of_several_partitions(original: Records, check: Check) -> None:
    assert {topic for topic, _ in original} == set(TOPICS)
    assert {partition for topic, partition in original if topic == "rejects"} == {1, 2}
    report = check(original)
    assert report.good, [str(finding) for finding in [*report.findings, *report.behind]]
    assert report.records == {topic: sum(len(r) for (t, _), r in original.items() if t == topic) for topic in TOPICS}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_verify_names_the_topic_and_partition_of_every_record_tampered_with(
    original: Records, check: Check, way: Callable[[list[Stored], int], Iterator[list[Stored]]], topic: str
) -> None:
    missed, tried = [], 0
    for place, records in original.items():
        if place[0] != topic:
            continue
        for at in range(len(records)):
            for number, changed in enumerate(way(records, at)):
                tried += 1
                report = check({**original, place: changed})
                named = {(finding.topic, finding.partition) for finding in [*report.findings, *report.behind]}
                if place not in named:
                    missed.append((place, at, number, sorted(named)))
    assert tried > 0
    assert missed == []


@pytest.mark.parametrize("topic", TOPICS)
def test_verify_names_the_offset_of_a_flipped_record(original: Records, check: Check, topic: str) -> None:
    missed = []
    for place, records in original.items():
        for at in range(len(records)) if place[0] == topic else ():
            changed = next(flip(records, at))
            findings = check({**original, place: changed}).findings
            exact = any((f.topic, f.partition) == place and f.offset is not None and f.offset <= at for f in findings)
            if not exact:
                missed.append((place, at, [str(finding) for finding in findings]))
    assert missed == []


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != "journal"])
def test_a_partition_that_is_gone_is_named(original: Records, check: Check, topic: str) -> None:
    for place in [place for place in original if place[0] == topic]:
        report = check({other: records for other, records in original.items() if other != place})
        assert place in {(f.topic, f.partition) for f in [*report.findings, *report.behind]}


def test_a_whole_journal_that_is_gone_is_named_and_nothing_left_passes(original: Records, check: Check) -> None:
    report = check({place: records for place, records in original.items() if place[0] != "journal"})
    assert not report.good


@pytest.mark.parametrize("place", [("exposures", 3), ("journal", 2), ("commands", 9), ("strange", 0)])
def test_a_partition_or_topic_that_nobody_writes_is_named(original: Records, check: Check, place: Place) -> None:
    record = Stored(0, "0", {"seawall-id": "3-0-0", "seawall-n": "0"}, b"{}")
    report = check({**original, place: [record]})
    assert place in {(finding.topic, finding.partition) for finding in report.findings}


def test_a_forger_without_the_key_cannot_replace_a_command_even_with_all_hashes_in_order(
    original: Records, check: Check, tmp_path: Path
) -> None:
    forger = _key_files.new_key(tmp_path / "forger.pem")
    place = next(place for place in original if place[0] == "commands")
    record = original[place][0]
    value = json.dumps({**json.loads(record.value), "action": {"ratio": 0}}, separators=(",", ":")).encode()
    envelope = _envelopes.sign_payload(forger, _envelopes.COMMAND_TYPE, value)
    forged = record._replace(value=value, headers={**record.headers, "dsse": envelope})
    report = check({**original, place: [forged, *original[place][1:]]})
    assert (*place, 0) in {(f.topic, f.partition, f.offset) for f in report.findings}


def respelled(text: str) -> Iterator[str]:
    """Yield the header of a command as a subscriber refuses it, or with a signature that no run writes."""
    content = json.loads(text)
    yield text[:-1] + ',"signatures":[]}'
    yield text[:-1] + ',"payloadType":"text/plain"}'
    yield text[:-1] + ',"signatures":' + json.dumps(content["signatures"]) + "}"
    yield text[:-1] + ',"x":1.5}'
    yield text[:-1] + ',"x":' + "[" * 40 + "]" * 40 + "}"
    for more in ({"keyid": 5, "sig": "AA=="}, {"sig": ""}, {"keyid": "x" * 43, "sig": "AAAA"}):
        yield json.dumps({**content, "signatures": [*content["signatures"], more]})


def test_verify_and_replay_name_a_signature_header_that_subscribers_refuse(
    original: Records, public: dict[str, Any], check: Check
) -> None:
    place = next(place for place in original if place[0] == "commands")
    records = original[place]
    for text in respelled(records[0].headers["dsse"]):
        changed = {**original, place: [records[0]._replace(headers=records[0].headers | {"dsse": text}), *records[1:]]}
        bus = MemoryBus()
        bus.records = changed
        for report in (check(changed), replay(bus, public, 2)[0]):
            named = [(found.topic, found.partition, found.offset, found.rule) for found in report.findings]
            assert named == [(*place, 0, "SIGNATURE")], text


def test_a_second_signature_by_a_key_that_is_known_is_no_finding(
    original: Records, check: Check, public: dict[str, Any], tmp_path: Path
) -> None:
    second = _key_files.new_key(tmp_path / "second.pem")
    place = next(place for place in original if place[0] == "commands")
    record, *rest = original[place]
    content = json.loads(record.headers["dsse"])
    content["signatures"] += json.loads(_envelopes.sign_payload(second, _envelopes.COMMAND_TYPE, record.value))[
        "signatures"
    ]
    bus = MemoryBus()
    bus.records = {**original, place: [record._replace(headers=record.headers | {"dsse": json.dumps(content)}), *rest]}
    assert [found.rule for found in verify(bus, public, "dev", "risk/dev").findings] == ["SIGNATURE"]
    both = public | _envelopes.public_keys({"keys": [second.public_jwk()]})
    assert verify(bus, both, "dev", "risk/dev").good


def test_headers_of_a_broker_that_stand_twice_or_are_no_text_are_told_under_another_name() -> None:
    assert read_headers([("a", b"1"), ("b", None)]) == {"a": "1", "b": ""}
    assert read_headers([("dsse", b"1"), ("dsse", b"2")]) == {"dsse": "2", "dsse (twice)": "1"}
    assert set(read_headers([("dsse", b"\xff")])) == {"dsse", "unreadable"}


def test_a_command_of_another_environment_or_issuer_is_a_finding(
    original: Records, public: dict[str, Any], check: Check
) -> None:
    bus = MemoryBus()
    bus.records = dict(original)
    for environment, issuer in (("prod", "risk/dev"), ("dev", "risk/other")):
        report = verify(bus, public, environment, issuer)
        assert {finding.topic for finding in report.findings} == {"commands", "state"}


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])  # of either shard
def test_rejects_that_only_one_shard_heard_of_are_no_strangers(name: str, tmp_path: Path) -> None:
    book = lines(
        mark(T0), fill(T0, "f0", name), b"{", fill(T0 + 300 * MS, "f1", name), b"[", fill(T0 + SECOND, "f2", name)
    )
    path = write_desk(tmp_path, {"reference.jsonl": lines(instrument(), account(name)), "book.jsonl": book}, shards=2)
    configuration = load_configuration(path)
    run(configuration)
    bus = open_bus("sqlite:seawall.db", tmp_path)
    trust = _key_files.public_keys(tmp_path / "keys" / "dev.pem")
    report = verify(bus, trust, configuration.environment, configuration.issuer)
    bus.close()
    assert report.good and report.records["rejects"] == 2


def test_live_inputs_on_the_same_bus_are_no_strangers(original: Records, folder: Path, public: dict[str, Any]) -> None:
    bus = MemoryBus()
    bus.records = {**original, ("oms", 3): original["journal", 0][:2]}
    configuration = load_configuration(folder / "run.toml")
    terms = public, configuration.environment, configuration.issuer, None
    assert [found.rule for found in verify(bus, *terms).findings] == ["STRANGER"]
    assert verify(bus, *terms, ["oms"]).good


def with_line(record: Stored, line: bytes) -> Stored:
    return record._replace(value=record.value + line)


def test_a_checkpoint_has_the_lines_of_the_sealer_and_of_witnesses_and_no_others(
    original: Records, folder: Path, public: dict[str, Any]
) -> None:
    place = next(place for place in original if place[0] == "checkpoints")
    record, *rest = original[place]
    text, _, line = record.value.partition("\n\n— ".encode())
    witness = _key_files.new_key(folder.parent / "witness.pem")
    key = NoteKey.named("witness", decode_base64url(witness.public_jwk()["x"]), COSIGNATURE)
    seen = key.cosign(text.decode() + "\n", witness.sign, T0 // SECOND).line().encode()
    logs = trusted_logs(load_configuration(folder / "run.toml"))._replace(folder=None)
    for more, known in ((seen, [key]), (seen, []), (seen * 2, [key]), ("— ".encode() + line, [key])):
        bus = MemoryBus()
        bus.records = {**original, place: [with_line(record, more), *rest]}
        report = verify(bus, public, "dev", "risk/dev", logs._replace(witnesses=known))
        named = [(found.topic, found.partition, found.offset, found.rule) for found in report.findings]
        assert named == ([] if (more, known) == (seen, [key]) else [(*place, 0, "CHECKPOINT")])


def test_states_that_an_engine_left_are_whole_and_a_part_that_was_changed_removed_or_added_is_named(
    original: Records, check: Check
) -> None:
    bus = MemoryBus()
    KeptSnapshot(4, pack("small/1", {"body": b"a"})).publish(bus, 1)
    KeptSnapshot(7, pack("large/1", {"body": bytes(range(256)) * (PART_BYTES // 100)})).publish(bus, 1)
    states = bus.records["snapshots", 1]
    assert len(states) == 4
    good = check({**original, ("snapshots", 1): states})
    assert good.good and good.records["snapshots"] == 4
    first, *large = states
    tampered = [[*states, record._replace(offset=len(states))] for record in large[1:]]
    tampered += [states[:-1], numbered([first, large[0], large[2]]), numbered([first, *large[1:]]), [first, *large[1:]]]
    for at, record in enumerate(states):
        for change in ({"value": b"SWS1 changed"}, {"key": "x"}, {"headers": {}}):
            tampered.append([*states[:at], record._replace(**change), *states[at + 1 :]])
    for number, records in enumerate(tampered):
        report = check({**original, ("snapshots", 1): records})
        assert {(f.topic, f.partition, f.rule) for f in report.findings} == {("snapshots", 1, "STATE")}, number


def test_what_a_cut_run_leaves_is_told_from_what_was_changed(original: Records, check: Check) -> None:
    """All outputs ahead of the audit's end are cut in one place: unfinished, nothing is accused."""
    cut = {place: records for place, records in original.items() if place[0] in ("signals", "journal", "rejects")}
    cut = {place: records for place, records in cut.items() if place != ("rejects", 1)}
    report = check(cut)
    assert report.findings == []
    assert {finding.topic for finding in report.behind} == {"audit"}
    assert {finding.rule for finding in report.behind} == {"BEHIND"}


def cut_everywhere(original: Records, as_of_us: int) -> Records:
    """Return what is left by somebody who cuts the journal after a second, and with it all that follows from it."""
    bus, ends, steps = MemoryBus(), Counter[Place](), {}
    for place in [place for place in original if place[0] == "journal"]:
        bus.records[place] = [s for s in original[place] if decode_slice(s.value).as_of_us <= as_of_us]
        for piece in (decode_slice(stored.value) for stored in bus.records[place]):
            if piece.rejects is not None:
                steps[piece.as_of_us, sum(at[0] for at in piece.sources.values())] = piece.rejects.count
    risk = Pipeline(2)
    for audited in (found for value in slices_in_order(bus, 2) for found in risk.step(value)):
        ends.update({(topic, audited.moment.partition): len(records) for topic, records in audited.records.items()})
    ends["rejects", 2] = sum(steps.values())
    signals = {place: records for place, records in original.items() if place[0] == "signals"}
    return {**bus.records, **{place: original.get(place, [])[:end] for place, end in ends.items()}, **signals}


def test_a_bounded_run_that_was_cut_everywhere_at_once_is_said_to_be_unfinished(
    original: Records, public: dict[str, Any]
) -> None:
    pieces = [decode_slice(stored.value) for stored in original["journal", 0]]
    seconds = sorted({piece.as_of_us for piece in pieces if piece.second and not piece.more and not piece.end})
    bus = MemoryBus()
    bus.records = {place: found for place, found in cut_everywhere(original, seconds[0]).items() if found}
    assert verify(bus, public, "dev", "risk/dev").good
    report = verify(bus, public, "dev", "risk/dev", bounded=True)
    assert [(found.topic, found.partition, found.rule) for found in report.behind] == [
        ("journal", 0, "BEHIND"),
        ("journal", 1, "BEHIND"),
    ]
    assert report.findings == []
    bus.records = dict(original)
    assert verify(bus, public, "dev", "risk/dev", bounded=True).good


def test_a_bounded_run_whose_journal_holds_nothing_is_said_to_be_unfinished(
    original: Records, public: dict[str, Any]
) -> None:
    for kept in ((), ("signals",)):  # all was removed, or it was stopped while market had yet to end
        bus = MemoryBus()
        bus.records = {place: found for place, found in original.items() if place[0] in kept}
        report = verify(bus, public, "dev", "risk/dev", bounded=True)
        assert [(found.topic, found.rule) for found in report.behind] == [("journal", "BEHIND")]
        assert not report.good


def test_what_follows_from_a_journal_does_not_stand_without_one(original: Records, public: dict[str, Any]) -> None:
    bus = MemoryBus()
    bus.records = {place: found for place, found in original.items() if place[0] != "journal"}
    for bounded in (True, False):
        report = verify(bus, public, "dev", "risk/dev", bounded=bounded)
        told = [found.what for found in report.findings if found.topic == "journal"]
        left = "exposures, alerts, breaches, commands, audit, rejects, state, checkpoints"
        assert told == [f"holds nothing, though {left} follow from it"]


def test_replay_finds_a_change_that_every_hash_and_signature_agrees_with(
    original: Records, public: dict[str, Any]
) -> None:
    place = next(place for place in original if place[0] == "exposures")
    records = original[place]
    changed = [*records[:-1], records[-1]._replace(value=records[-1].value.replace(b'"seq":', b'"seq": ', 1))]
    bus = MemoryBus()
    bus.records = {**original, place: changed}
    report, _, _ = replay(bus, public, 2)
    assert (*place, len(records) - 1) in {(f.topic, f.partition, f.offset) for f in report.findings}


@pytest.mark.parametrize("topic", DERIVED)
def test_replay_names_a_flipped_dropped_or_added_record(original: Records, public: dict[str, Any], topic: str) -> None:
    missed = []
    for place, records in original.items():
        if place[0] != topic or place == ("rejects", 2):  # that one is the sequencer's, which replay does not run
            continue
        at = len(records) // 2
        for way in (flip, drop, insert):
            for number, changed in enumerate(way(records, at)):
                bus = MemoryBus()
                bus.records = {**original, place: changed}
                report, _, _ = replay(bus, public, 2)
                if place not in {(f.topic, f.partition) for f in [*report.findings, *report.behind]}:
                    missed.append((place, way.__name__, number))
    assert missed == []
