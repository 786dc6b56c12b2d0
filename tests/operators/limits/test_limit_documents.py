"""Limits change by documents that a maker and a checker signed: what breaks a rule is refused with the rule's name."""

import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import StoredDocument, write_limit_document
from seawall.dataflows import Sequencer
from seawall.operators.core.base import MeasureTable
from seawall.operators.core.forecasts import ForecastState
from seawall.operators.core.limits import Policy
from seawall.operators.core.limits._cells import LimitCells
from seawall.operators.core.limits._rules import Limit
from seawall.ops.verify import Report, verify_limits
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import Reason, Rejected, UsageError
from seawall.schemas.events import Limit as LimitEvent
from seawall.schemas.evidence import LIMIT_DOCUMENT_TYPE, LimitDocument
from seawall.schemas.measures import check_limits
from seawall.schemas.records import decode_slice, encode_slice
from seawall_testing.command_line import seawall
from seawall_testing.core_states import core_state_cases
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark, rejects, sequence, transfer
from seawall_testing.pipeline import MemoryBus, PipelineRun, journal_in_order
from seawall_testing.signing import (
    CHECKER,
    CHECKER_OF_MAKER,
    CLERK,
    COVER,
    MAKER,
    ROOTS,
    Holder,
    limit_document,
    limit_document_sha256,
    limit_event,
    limit_key_set,
    make_desk_keys,
    signed_limit_document,
    tampered,
    write_key_set,
)
from seawall_testing.state_checks import check_resume_equals_uninterrupted

KEYS = limit_key_set()
BOTH = (MAKER, CHECKER)
FIRST = limit_document()
TIGHTER = limit_document(2, limit_document_sha256(FIRST), set=[{**COVER, "soft": 90.5}])
LOOSER = limit_document(2, limit_document_sha256(FIRST), set=[{**COVER, "soft": 110.5}])


def standing(*envelopes: Json) -> Policy:
    """Return the limits after some documents; the first one always stands."""
    policy = Policy()
    for envelope in (signed_limit_document(FIRST, *BOTH), *envelopes):
        policy.apply(envelope, T0)
    return policy


def check(envelope: Json, policy: Policy | None = None, at_us: int = T0, keys: Any = KEYS) -> LimitDocument:
    return LimitDocument.admit(envelope, policy or standing(), keys, "risk/prod", "prod", at_us)


def reason(envelope: Json, policy: Policy | None = None, **options: Any) -> Reason:
    with pytest.raises(Rejected) as caught:
        check(envelope, policy, **options)
    assert len(caught.value.detail) > 10
    return caught.value.reason


# --- what may be taken ------------------------------------------------------------------------------------------------


def test_what_a_maker_and_a_checker_signed_may_be_taken() -> None:
    assert check(signed_limit_document(FIRST, *BOTH), Policy()).version == 1
    assert check(signed_limit_document(LOOSER, *BOTH)).set[0]["soft"] == 110.5


def test_what_only_tightens_needs_no_checker_and_is_ratified_afterwards_by_the_same_bytes_with_both() -> None:
    assert check(signed_limit_document(TIGHTER, MAKER)).version == 2
    policy = standing(signed_limit_document(TIGHTER, MAKER))
    assert policy.unratified == [2]
    assert check(signed_limit_document(TIGHTER, *BOTH), policy).version == 2
    assert policy.apply(signed_limit_document(TIGHTER, *BOTH), T0)["outcome"] == "ratified"
    assert policy.unratified == []


def test_a_checker_who_signs_what_follows_ratifies_what_came_before() -> None:
    third = limit_document(3, limit_document_sha256(TIGHTER), set=[{**COVER, "soft": 200.5}])
    assert standing(signed_limit_document(TIGHTER, MAKER), signed_limit_document(third, *BOTH)).unratified == []


@pytest.mark.parametrize(
    ("envelope", "rule"),
    [
        (tampered(signed_limit_document(LOOSER, *BOTH), comment="other"), Reason.SIGNATURE_MUST_BE_GOOD),
        (signed_limit_document(LOOSER, CHECKER), Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_MAKER),
        (signed_limit_document(LOOSER, CLERK), Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_MAKER),
        (signed_limit_document(LOOSER, MAKER), Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER),
        (signed_limit_document(TIGHTER, MAKER, CLERK), Reason.DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER),
        (signed_limit_document(LOOSER, MAKER, MAKER), Reason.SIGNATURE_MUST_NOT_BE_REPEATED),
        (signed_limit_document(LOOSER, MAKER, CHECKER_OF_MAKER), Reason.MAKER_MUST_NOT_BE_CHECKER),
        (signed_limit_document(LOOSER, MAKER, Holder("stranger")), Reason.SIGNER_MUST_BE_KNOWN),
        (
            signed_limit_document(limit_document(3, limit_document_sha256(FIRST)), *BOTH),
            Reason.DOCUMENT_MUST_BE_THE_NEXT_VERSION,
        ),
        (signed_limit_document(FIRST, *BOTH), Reason.DOCUMENT_MUST_BE_THE_NEXT_VERSION),
        (signed_limit_document(limit_document(2, "0" * 64), *BOTH), Reason.DOCUMENT_MUST_NAME_ITS_PREDECESSOR),
        (signed_limit_document(limit_document(2, None), *BOTH), Reason.DOCUMENT_MUST_NAME_ITS_PREDECESSOR),
        (
            signed_limit_document(limit_document(2, limit_document_sha256(FIRST), env="test"), *BOTH),
            Reason.DOCUMENT_MUST_BE_FOR_THIS_ISSUER_AND_ENVIRONMENT,
        ),
        (
            signed_limit_document(limit_document(2, limit_document_sha256(FIRST), iss="other"), *BOTH),
            Reason.DOCUMENT_MUST_BE_FOR_THIS_ISSUER_AND_ENVIRONMENT,
        ),
        (
            signed_limit_document(limit_document(2, limit_document_sha256(FIRST), valid_to_us=T0), *BOTH),
            Reason.DOCUMENT_MUST_BE_VALID_AT_ITS_TIME,
        ),
        (
            signed_limit_document(limit_document(2, limit_document_sha256(FIRST), valid_from_us=T0 + 1), *BOTH),
            Reason.DOCUMENT_MUST_BE_VALID_AT_ITS_TIME,
        ),
        ({**signed_limit_document(LOOSER, *BOTH), "payload": "!"}, Reason.DOCUMENT_MUST_BE_WELL_FORMED),
        ({**signed_limit_document(LOOSER, *BOTH), "payloadType": "text/plain"}, Reason.DOCUMENT_MUST_BE_WELL_FORMED),
        ({**signed_limit_document(LOOSER, *BOTH), "signatures": []}, Reason.DOCUMENT_MUST_BE_WELL_FORMED),
        ({}, Reason.DOCUMENT_MUST_BE_WELL_FORMED),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused_with_its_name(envelope: Json, rule: Reason) -> None:
    assert reason(envelope) == rule


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"set": [{**COVER, "sort": 3}]}, "did you mean 'soft'"),
        ({"set": [{**COVER, "soft": "1e3"}]}, "does not match"),
        ({"set": [COVER, COVER]}, "taken"),
        ({"set": [], "remove": []}, "changes nothing"),
        ({"set": [COVER], "remove": ["cover"]}, "names a limit twice"),
        ({"set": [], "override": [COVER]}, "temporary"),
        ({"reason": "because"}, "reason"),
        ({"more": 1}, "more"),
        ({"sha256": "00"}, "own sha256"),
    ],
)
def test_a_document_that_says_it_wrongly_is_refused_with_what_is_wrong(changes: Json, what: str) -> None:
    with pytest.raises(Rejected, match=what) as caught:
        check(signed_limit_document(limit_document(2, limit_document_sha256(FIRST), **changes), *BOTH))
    assert caught.value.reason == Reason.DOCUMENT_MUST_BE_WELL_FORMED


def test_a_name_that_stands_twice_in_the_signed_bytes_is_refused() -> None:
    twice = FIRST.replace(b'"v":1', b'"v":1,"v":1')
    assert reason(signed_limit_document(twice, *BOTH), Policy()) == Reason.DOCUMENT_MUST_BE_WELL_FORMED


@pytest.mark.parametrize("changes", [{"remove": ["gone"], "set": []}, {"set": [], "override": [
    {**COVER, "id": "gone", "valid_to_us": T0 + SECOND}]}])  # fmt: skip
def test_what_is_removed_or_overridden_must_exist(changes: Json) -> None:
    assert (
        reason(signed_limit_document(limit_document(2, limit_document_sha256(FIRST), **changes), *BOTH))
        == Reason.DOCUMENT_MUST_BE_WELL_FORMED
    )


def test_keys_count_within_their_window_and_key_sets_until_they_expire() -> None:
    window: Json = {"nbf_us": 0, "exp_us": T0 - 1, "types": (LIMIT_DOCUMENT_TYPE,)}
    people = [MAKER.entry("maker", **window), CHECKER.entry("checker", **window)]
    old = limit_key_set(keys=[*people, *(root.entry("root", types=()) for root in ROOTS)])
    assert reason(signed_limit_document(LOOSER, *BOTH), keys=old) == Reason.SIGNER_MUST_BE_KNOWN
    assert (
        reason(signed_limit_document(LOOSER, *BOTH), keys=limit_key_set(exp_us=T0 - 1)) == Reason.SIGNER_MUST_BE_KNOWN
    )


def test_a_run_whose_limits_come_from_a_file_takes_no_documents() -> None:
    assert reason(signed_limit_document(LOOSER, *BOTH), keys=None) == Reason.DOCUMENT_MUST_BE_EXPECTED


# --- what loosens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "loosens"),
    [
        ({"set": [{**COVER, "soft": 100.0}]}, False),
        ({"set": [{**COVER, "warning": 50.0}]}, False),
        ({"set": [{**COVER, "dwell_s": 5}]}, False),
        ({"set": [{**COVER, "exit_ratio": 0.5}]}, False),
        ({"set": [{**COVER, "id": "more", "hard": 1.0, "soft": 0.5}]}, False),
        ({"set": [{**COVER, "hard": 501.0}]}, True),
        ({"set": [{k: v for k, v in COVER.items() if k != "soft"}]}, True),
        ({"set": [{**COVER, "measure": "equity"}]}, True),
        ({"set": [{**COVER, "scope": "account:a"}]}, True),
        ({"set": [{**COVER, "window_s": 60}]}, True),
        ({"set": [{**COVER, "soft": 100.0}], "valid_to_us": T0 + 20_000 * SECOND}, True),
        ({"set": [], "remove": ["cover"]}, True),
    ],
)
def test_what_is_not_plainly_tighter_loosens(changes: Json, loosens: bool) -> None:
    document = LimitDocument.parse(limit_document(2, limit_document_sha256(FIRST), **changes))
    assert bool(document.loosenings(standing())) == loosens


@pytest.mark.parametrize(
    ("changes", "loosens"),
    [
        ({"set": [{**COVER, "valid_to_us": T0 + 9 * SECOND}]}, False),
        ({"set": [{**COVER, "valid_to_us": T0 + 10 * SECOND}]}, False),
        ({"set": [{**COVER, "valid_to_us": T0 + 11 * SECOND}]}, True),
        ({"set": [COVER]}, True),
        ({"set": [], "override": [{**COVER, "soft": 90.0, "valid_to_us": T0 + 9 * SECOND}]}, False),
        ({"set": [], "override": [{**COVER, "soft": 90.0, "valid_to_us": T0 + 11 * SECOND}]}, True),
    ],
)
def test_a_limit_that_holds_past_the_end_of_what_it_replaces_loosens(changes: Json, loosens: bool) -> None:
    policy = Policy()
    policy.apply(signed_limit_document(limit_document(set=[{**COVER, "valid_to_us": T0 + 10 * SECOND}]), *BOTH), T0)
    document = LimitDocument.parse(limit_document(2, policy.sha256, **changes))
    assert bool(document.loosenings(policy)) == loosens


def test_a_limit_on_what_nothing_covered_loosens_because_default_deny_refused_it() -> None:
    policy = Policy()
    policy.apply(signed_limit_document(limit_document(set=[{**COVER, "scope": "account:a"}]), *BOTH), T0)
    other = limit_document(2, policy.sha256, set=[{**COVER, "id": "b", "scope": "account:b"}])
    assert LimitDocument.parse(other).loosenings(policy)
    same = limit_document(2, policy.sha256, set=[{**COVER, "id": "b", "scope": "account:a"}])
    assert not LimitDocument.parse(same).loosenings(policy)


def test_tightening_the_limit_beneath_a_tighter_override_loosens() -> None:
    override = {**COVER, "soft": 50.0, "valid_to_us": T0 + SECOND}
    policy = standing(
        signed_limit_document(limit_document(2, limit_document_sha256(FIRST), set=[], override=[override]), *BOTH)
    )
    assert LimitDocument.parse(limit_document(3, policy.sha256, set=[{**COVER, "soft": 90.0}])).loosenings(policy)


bound = st.integers(1, 50).map(float)


@settings(max_examples=200, deadline=None)
@given(st.lists(bound, min_size=6, max_size=6), st.sampled_from(["above", "below"]), st.lists(bound, min_size=4))
def test_a_change_that_loosens_nothing_never_lowers_a_level(
    bounds: list[float], direction: str, values: list[float]
) -> None:
    def limit(three: list[float]) -> Json:
        levels = dict(zip(("warning", "soft", "hard"), sorted(three, reverse=direction == "below"), strict=True))
        return check_limits([{**COVER, **levels, "direction": direction}], "limits")[0]

    old, new = limit(bounds[:3]), limit(bounds[3:])
    policy = Policy()
    policy.apply(signed_limit_document(limit_document(set=[old]), *BOTH), T0)
    assume(not LimitDocument.parse(limit_document(2, policy.sha256, set=[new])).loosenings(policy))
    table = MeasureTable([str(at) for at in range(len(values))], ("gross_notional",), np.array([values]))
    levels = []
    for one in (old, new):
        cells = LimitCells([Limit(one)])
        cells.evaluate(table, T0)
        levels.append(cells.columns["level"].tolist())
    assert all(after >= before for before, after in zip(*levels, strict=True))


# --- time -------------------------------------------------------------------------------------------------------------


def test_an_override_holds_until_its_time_and_then_the_limit_holds_again() -> None:
    override = {**COVER, "soft": 300.0, "valid_to_us": T0 + 5 * SECOND}
    policy = standing(
        signed_limit_document(limit_document(2, limit_document_sha256(FIRST), set=[], override=[override]), *BOTH)
    )
    (during, _), change_us = policy.in_force(T0)[0][0], policy.in_force(T0)[1]
    (after, expired) = policy.in_force(T0 + 5 * SECOND)[0][0]
    assert (during["soft"], change_us, after["soft"], expired) == (300.0, T0 + 5 * SECOND, 100.5, False)


def test_limits_past_the_validity_of_their_document_count_at_their_tightest() -> None:
    policy = standing()
    end = T0 + 10_000 * SECOND
    assert policy.in_force(end - 1) == ([(policy.limits["cover"], False)], end)
    assert policy.in_force(end) == ([(policy.limits["cover"], True)], None)


def test_a_policy_is_the_same_after_a_snapshot() -> None:
    override = {**COVER, "soft": 300.0, "valid_to_us": T0 + 5 * SECOND}
    policy = standing(
        signed_limit_document(limit_document(2, limit_document_sha256(FIRST), set=[], override=[override]), *BOTH)
    )
    other = Policy()
    other.restore(json.loads(json.dumps(policy.snapshot())))
    assert other.snapshot() == policy.snapshot()
    assert other.in_force(T0) == policy.in_force(T0)


# --- in the sequencer and behind it -----------------------------------------------------------------------------------

BOOK: list[Any] = [
    instrument(), account("a"), mark(T0 + 1, "100"), fill(T0 + 2, "f", "a", quantity="1"),
    fill(T0 + 2 * SECOND, "g", "a", quantity="0.1"),
]  # fmt: skip


def write_prod(folder: Path, *records: Any, documents: tuple[bytes | Json, ...] = (FIRST,), shards: int = 1) -> Path:
    """Write a prod desk that takes its limits from a folder of documents, signed by both."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "events.jsonl").write_bytes(lines(*records))
    (folder / "limits").mkdir(exist_ok=True)
    for number, found in enumerate(documents, 1):
        envelope = signed_limit_document(found, *BOTH) if isinstance(found, bytes) else found
        write_limit_document(folder / "limits" / f"{number:04}.json", envelope)
    pinned = write_key_set(folder / "keyset.jsonl")
    path = folder / "desk.toml"
    path.write_text(
        f'environment = "prod"\nissuer = "risk/prod"\nshards = {shards}\nexposure_change_min = 0\n'
        "price_max_age_s = 3600\n"
        '[inputs]\nevents = ["events.jsonl"]\n[limits]\ndocuments = ["limits"]\n'
        f'[keys]\nsigner = "file:keys/prod.pem"\nset = "keyset.jsonl"\nset_sha256 = "{pinned}"\n'
    )
    return path


def run_journal(path: Path, bus: MemoryBus, shards: int = 1) -> PipelineRun:
    sequence(path, bus)
    return PipelineRun(journal_in_order(bus, shards), shards)


def test_a_prod_run_takes_its_limits_from_documents(tmp_path: Path) -> None:
    found = run_journal(write_prod(tmp_path, *BOOK), MemoryBus())
    breaches = [(b["limit"], b["version"], b["level"], b["bound"]) for b in found.topic("breaches")]
    assert breaches == [("cover", 1, "soft", 100.5)]
    assert [body["outcome"] for body in found.audits("limit_document")] == ["approved", "approved"]  # shard and all


def test_a_document_is_journaled_once_however_often_the_run_is_begun(tmp_path: Path) -> None:
    bus = MemoryBus()
    path = write_prod(tmp_path, *BOOK)
    before = run_journal(path, bus).values
    assert run_journal(path, bus).values == before


def test_a_document_that_arrives_later_counts_from_the_next_run_on(tmp_path: Path) -> None:
    bus = MemoryBus()
    run_journal(write_prod(tmp_path, *BOOK), bus)
    found = run_journal(write_prod(tmp_path, *BOOK, documents=(FIRST, signed_limit_document(TIGHTER, MAKER))), bus)
    assert [body["outcome"] for body in found.audits("limit_document")][-1] == "tightened"
    ratified = run_journal(write_prod(tmp_path, *BOOK, documents=(FIRST, TIGHTER)), bus)
    assert [body["outcome"] for body in ratified.audits("limit_document")][-1] == "ratified"


def test_a_document_in_the_stream_of_events_counts_from_its_time_and_a_bad_one_is_rejected_with_its_name(
    tmp_path: Path,
) -> None:
    bus = MemoryBus()
    tight = limit_event(T0 + SECOND, signed_limit_document(TIGHTER, MAKER))
    bad = limit_event(
        T0 + SECOND + 1,
        signed_limit_document(limit_document(3, limit_document_sha256(TIGHTER), set=[{**COVER, "soft": 400.0}]), MAKER),
    )
    found = run_journal(write_prod(tmp_path, *BOOK[:4], tight, bad, BOOK[4]), bus)
    breaches = [(b["limit"], b["version"], b["level"], b["bound"]) for b in found.topic("breaches")]
    assert breaches == [("cover", 2, "soft", 90.5)]
    (refused,) = rejects(bus, 1)
    assert refused["reason"] == "DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER"
    assert json.loads(refused["original"])["type"] == "limit"


def test_a_configured_document_that_breaks_a_rule_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    path = write_prod(tmp_path, *BOOK, documents=(signed_limit_document(FIRST, MAKER),))
    with pytest.raises(UsageError, match=r"0001\.json: DOCUMENT_MUST_BE_SIGNED_BY_A_CHECKER"):
        Sequencer(load_configuration(path), MemoryBus())


LIKELY: Json = {"id": "likely", "scope": "account:*", "measure": "breach_probability_1h", "hard": 0.5}


def test_a_document_with_a_limit_on_a_forecast_is_refused_where_none_are_made(tmp_path: Path) -> None:
    path = write_prod(tmp_path, *BOOK, documents=(limit_document(set=[COVER, LIKELY]),))
    with pytest.raises(UsageError, match=r"0001\.json: DOCUMENT_MUST_NAME_MEASURES_THAT_ARE_COMPUTED: .* likely"):
        Sequencer(load_configuration(path), MemoryBus())


def test_forecasts_are_not_switched_off_under_a_limit_that_is_in_force(tmp_path: Path) -> None:
    bus = MemoryBus()
    path = write_prod(tmp_path, *BOOK, documents=(limit_document(set=[COVER, LIKELY]),))
    path.write_text(path.read_text() + "[forecasts]\nenabled = true\n")
    assert run_journal(path, bus).measures("account:a")["breach_probability_1h"] >= 0.0
    path.write_text(path.read_text().replace("enabled = true", "enabled = false"))
    with pytest.raises(UsageError, match="the limit likely is on breach_probability_1h"):
        Sequencer(load_configuration(path), bus)


def test_another_document_of_a_version_that_is_journaled_stops_the_run(tmp_path: Path) -> None:
    bus = MemoryBus()
    run_journal(write_prod(tmp_path, *BOOK), bus)
    with pytest.raises(UsageError, match="the journal has another version 1"):
        run_journal(write_prod(tmp_path, *BOOK, documents=(limit_document(comment="other"),)), bus)


def test_every_shard_and_the_second_operator_take_the_same_document(tmp_path: Path) -> None:
    wide = limit_document(set=[COVER, {"id": "firm", "scope": "firm", "measure": "gross_notional", "hard": 105.0}])
    found = run_journal(write_prod(tmp_path, *BOOK, documents=(wide,), shards=2), MemoryBus(), shards=2)
    assert {(b["limit"], b["shard"]) for b in found.topic("breaches")} >= {("firm", "all")}
    assert len(found.audits("limit_document")) == 3


def test_margins_are_forecast_to_the_levels_of_the_documents_in_force(tmp_path: Path) -> None:
    margin = {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "soft": 0.5, "hard": 0.8}
    first, until_us = limit_document(set=[COVER, margin]), T0 + 4 * SECOND + 300_000
    second = limit_document(
        2, limit_document_sha256(first), set=[], override=[{**margin, "hard": 0.9, "valid_to_us": until_us}]
    )
    book = [instrument(maintenance_margin_rate="0.05"), account("a"), transfer(T0, "t", "a", amount="5.9"), *BOOK[2:4]]
    amended = limit_event(T0 + 2 * SECOND, signed_limit_document(second, *BOTH))
    told = {"type": "notice", "subject": "BTC", "kind": "regulation", "severity": 1}  # measures stay as they are
    at_us = [until_us - 50_000, until_us + 50_000]
    notices = [{**told, "event_time_us": us, "notice_id": f"n{number}"} for number, us in enumerate(at_us)]
    path = write_prod(tmp_path, *book, amended, *notices, documents=(first,))
    path.write_text(path.read_text() + "[forecasts]\nenabled = true\n")
    found, state, levels = run_journal(path, MemoryBus()), ForecastState(0), []
    for one in found.watched:
        state = ForecastState.restore(state.snapshot())
        state.step(one)
        levels.append((one.measures.moment.as_of_us, state.margins.bounds["hard"]))
    assert {hard for at_us, hard in levels if at_us <= T0 + 2 * SECOND} == {0.8}
    assert {hard for at_us, hard in levels if T0 + 2 * SECOND < at_us < until_us} == {0.9}
    assert {hard for at_us, hard in levels if at_us >= until_us} == {0.8}
    assert found.foresight[0].margins.crossed[1].tolist() == [until_us]
    assert state.snapshot() == found.foresight[0].snapshot()


def test_every_state_resumes_at_every_slice_of_a_run_whose_limits_change(tmp_path: Path) -> None:
    override = {**COVER, "soft": 300.0, "valid_to_us": T0 + 2 * SECOND}
    second = limit_document(2, limit_document_sha256(FIRST), set=[], override=[override])
    third = limit_document(3, limit_document_sha256(second), set=[{**COVER, "hard": 90.0, "soft": 80.0}])
    changes = [
        limit_event(T0 + SECOND, signed_limit_document(second, *BOTH)),
        limit_event(T0 + 3 * SECOND, signed_limit_document(third, MAKER)),
    ]
    records = [*BOOK, mark(T0 + 5 * SECOND, "101")]
    found = run_journal(write_prod(tmp_path, *records[:4], changes[0], records[4], changes[1], records[5]), MemoryBus())
    assert [b["level"] for b in found.topic("breaches")] == ["soft", "hard"]
    for subject in core_state_cases(found, 1):
        check_resume_equals_uninterrupted(subject)


def test_a_live_run_takes_documents_as_they_arrive_and_says_once_what_it_may_not_take(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bus = MemoryBus()
    path = write_prod(tmp_path)
    path.write_text(path.read_text().replace('events = ["events.jsonl"]', 'topics = ["in"]'))
    now = [T0]
    sequencer = Sequencer(load_configuration(path), bus, lambda: now[0])
    with caplog.at_level(logging.WARNING):
        for tick in range(1, 40):
            if tick == 5:
                write_limit_document(tmp_path / "limits" / "0002.json", signed_limit_document(TIGHTER, MAKER))
                write_limit_document(
                    tmp_path / "limits" / "0003.json", signed_limit_document(limit_document(4, "0" * 64), *BOTH)
                )
            now[0] = T0 + tick * SECOND
            sequencer._following._discovered_at -= 1.0
            sequencer.step()
    assert sequencer.standing.admission.policy.version == 2
    assert [record.getMessage() for record in caplog.records if "THE_NEXT_VERSION" in record.getMessage()] != []
    assert len(caplog.records) == 1
    sequencer.close()


def write_live(folder: Path, *documents: bytes) -> Path:
    """Write a prod desk with a live topic."""
    path = write_prod(folder, documents=documents)
    path.write_text(path.read_text().replace('events = ["events.jsonl"]', 'topics = ["in"]'))
    return path


def follow(sequencer: Sequencer, now: list[int], from_s: int, to_s: int) -> None:
    """Let some seconds pass, in each of which the folder of documents is looked at."""
    for second in range(from_s, to_s):
        now[0] = T0 + second * SECOND
        sequencer._following._discovered_at -= 1.0
        sequencer.step()


def test_a_live_run_starts_again_after_a_document_was_signed_while_it_was_down(tmp_path: Path) -> None:
    bus, now = MemoryBus(), [T0]
    path = write_live(tmp_path, FIRST)
    sequencer = Sequencer(load_configuration(path), bus, lambda: now[0])
    follow(sequencer, now, 1, 5)
    sequencer.close()
    now[0] = T0 + 100 * SECOND
    later = limit_document(2, limit_document_sha256(FIRST), set=[{**COVER, "soft": 90.5}], valid_from_us=now[0])
    write_limit_document(tmp_path / "limits" / "0002.json", signed_limit_document(later, *BOTH))
    sequencer = Sequencer(load_configuration(path), bus, lambda: now[0])
    assert sequencer.standing.admission.policy.version == 1
    follow(sequencer, now, 101, 104)
    assert sequencer.standing.admission.policy.version == 2
    sequencer.close()


def test_a_document_for_tomorrow_waits_in_a_live_run_over_a_restart_and_what_follows_waits_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bus, now = MemoryBus(), [T0]
    tomorrow = limit_document(
        2, limit_document_sha256(FIRST), set=[{**COVER, "soft": 90.5}], valid_from_us=T0 + 1000 * SECOND
    )
    third = limit_document(3, limit_document_sha256(tomorrow), set=[{**COVER, "soft": 80.5}])
    path = write_live(tmp_path, FIRST, tomorrow, third)
    for seconds, version in (((1, 9), 1), ((20, 29), 1), ((998, 1009), 3)):
        caplog.clear()
        now[0] = T0 + seconds[0] * SECOND
        sequencer = Sequencer(load_configuration(path), bus, lambda: now[0])
        follow(sequencer, now, *seconds)
        sequencer.close()
        assert sequencer.standing.admission.policy.version == version
        (waits,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "0002.json: is taken when its time has come: DOCUMENT_MUST_BE_VALID_AT_ITS_TIME" in waits


def test_a_live_run_begins_with_records_of_before_its_first_document(tmp_path: Path) -> None:
    bus, now = MemoryBus(), [T0 + 5 * SECOND]
    path = write_live(tmp_path, limit_document(valid_from_us=T0))
    writer = bus.writer([("in", 0)])
    writer.append("in", 0, "", lines(mark(T0 - 60 * SECOND)).strip(), {})
    writer.flush()
    sequencer = Sequencer(load_configuration(path), bus, lambda: now[0])
    follow(sequencer, now, 6, 12)
    assert sequencer.standing.admission.policy.version == 1
    sequencer.close()


def test_a_document_past_its_time_stops_a_live_run_too(tmp_path: Path) -> None:
    path = write_live(tmp_path, limit_document(valid_to_us=T0))
    with pytest.raises(UsageError, match=r"0001\.json: DOCUMENT_MUST_BE_VALID_AT_ITS_TIME"):
        Sequencer(load_configuration(path), MemoryBus(), lambda: T0 + SECOND)


def findings(path: Path, bus: Any) -> list[str]:
    from seawall.connectors.keys import read_key_sets

    report = Report()
    verify_limits(bus, {keys.sha256: keys for keys in read_key_sets(load_configuration(path))}, report)
    assert {finding.rule for finding in report.findings} <= {"LIMITS"}
    return [finding.what for finding in report.findings]


@pytest.mark.parametrize("spelt", [b'"type": "limit"', b'"type":"l\\u0069mit"', b'"type"\n:\t"limit"'])
def test_verify_finds_a_forged_document_however_its_slice_is_spelt(tmp_path: Path, spelt: bytes) -> None:
    bus, changed = MemoryBus(), MemoryBus()
    path = write_prod(tmp_path, *BOOK, limit_event(T0 + SECOND, signed_limit_document(TIGHTER, MAKER)))
    run_journal(path, bus)
    forged = tampered(signed_limit_document(TIGHTER, MAKER), comment="forged")
    writer = changed.writer([("journal", 0)])
    for record in bus.read("journal", 0, 0, 1000):
        piece = decode_slice(record.value)
        if piece.seq:
            events = [
                msgspec.structs.replace(e, document=forged) if isinstance(e, LimitEvent) else e for e in piece.events
            ]
            piece.events = events
        value = encode_slice(piece)
        writer.append("journal", 0, "0", value.replace(b'"type":"limit"', spelt) if piece.seq else value, {})
    writer.flush()
    assert "SIGNATURE_MUST_BE_GOOD" in findings(path, changed)[0]


def test_verify_checks_every_journaled_document_again(tmp_path: Path) -> None:
    bus = MemoryBus()
    path = write_prod(tmp_path, *BOOK, limit_event(T0 + SECOND, signed_limit_document(TIGHTER, MAKER)))
    run_journal(path, bus)
    assert findings(path, bus) == []
    forged = tampered(signed_limit_document(FIRST, *BOTH), comment="forged")
    changed = MemoryBus()
    writer = changed.writer([("journal", 0)])
    for record in bus.read("journal", 0, 0, 1000):
        piece = decode_slice(record.value)
        if piece.seq == 0:
            piece.events = [msgspec.structs.replace(piece.events[0], document=forged)]
        writer.append("journal", 0, "0", encode_slice(piece), {})
    writer.flush()
    assert "SIGNATURE_MUST_BE_GOOD" in findings(path, changed)[0]


def test_a_prod_run_is_run_verified_and_replayed_with_public_keys_only(tmp_path: Path) -> None:
    path = write_prod(tmp_path, *BOOK)
    make_desk_keys(path)
    assert seawall("run", path).returncode == 0
    verified = seawall("verify", path)
    assert (verified.returncode, verified.stderr) == (0, "")
    (tmp_path / "keys" / "prod.pem").unlink()
    assert seawall("replay", path).returncode == 0
    bus = open_bus("sqlite:seawall.db", tmp_path)
    assert len(bus.read("breaches", 0, 0, 10)) == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('documents = ["limits"]', 'file = "limits.toml"', "prod takes signed limit documents"),
        ('documents = ["limits"]', 'documents = ["limits"]\nfile = "l.toml"', "prod takes signed limit documents"),
        ('set = "keyset.jsonl"\n', "", "limit documents need set"),
        ('set_sha256 = "', 'set_sha256 = "00', "must match"),
    ],
)
def test_a_mistake_in_where_limits_come_from_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = write_prod(tmp_path, *BOOK)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UsageError, match=told):
        load_configuration(path)


def test_files_that_are_no_documents_are_named(tmp_path: Path) -> None:
    path = write_prod(tmp_path, *BOOK)
    (tmp_path / "limits" / "0002.json").write_text("[]")
    with pytest.raises(UsageError, match=r"0002\.json is no limit document"):
        StoredDocument.read_all(load_configuration(path))
