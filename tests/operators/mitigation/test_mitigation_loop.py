"""Subscribers that are silent, partial, late, that lie or answer twice: the playbook escalates."""

from pathlib import Path

import pytest

from seawall.operators.core.mitigation import MitigationState
from seawall.operators.core.mitigation._command_tracking import CommandTracker
from seawall_testing.desk import SECOND, T0, Json, fill
from seawall_testing.pipeline import PipelineRun
from seawall_testing.playbooks import acknowledgement, at_level, equity, marks_every_second, rule, run_playbook

TERMS: Json = {"subscribers": ["oms"], "acknowledge_s": 3, "complete_s": 8, "verify_s": 10}
SUSPENDED: Json = {"id": "c", "type": "SUSPEND", "action": {}}
CALL = rule("call", at_level("soft"), ("REDUCE_ONLY", "account"), expires_s=30)


def escalation(*answers: str) -> list[Json]:
    return [rule(f"on-{name}", {"acknowledgement": name, "rule": "call"}, ("HALT_TRADING", "account"))
            for name in answers]  # fmt: skip


def play(folder: Path, answers: list[tuple[float, str]], *more: object, **options: object) -> PipelineRun:
    """Run one REDUCE_ONLY to its end, with a subscriber's answers at seconds, and escalation of everything bad."""
    bad = ("silent", "partial", "late", "rejected", "unknown", "contradicted", "expired")
    book = [CALL, *escalation(*bad)]
    terms = options.pop("response", TERMS)
    first = run_playbook(folder / "first", book, equity(1, "-850"), response=terms)
    command = first.topic("commands")[0]
    told = [acknowledgement(at, command, outcome) for at, outcome in answers]
    return run_playbook(folder / "then", book, equity(1, "-850"), told, marks_every_second(40), *more, response=terms)


def states(ran: PipelineRun) -> list[str]:
    """Return what became of the first command, step by step."""
    first = ran.topic("commands")[0]["id"]
    return [body["state"] for body in ran.audits("command_state") if body["command_id"] == first]


@pytest.mark.parametrize(
    ("answers", "expected", "escalates"),
    [
        ([(2, "accepted"), (3, "completed")], ["accepted", "completed"], False),
        ([(2, "completed"), (3, "completed")], ["completed"], False),
        ([(2, "completed"), (3, "accepted")], ["completed"], False),
        ([], ["silent"], True),
        ([(2, "accepted")], ["accepted", "late"], True),
        ([(2, "partial")], ["partial"], True),
        ([(2, "unknown")], ["unknown"], True),
        ([(2, "rejected")], ["rejected"], True),
        ([(2, "completed"), (4, "rejected")], ["completed", "contradicted"], True),
        ([(2, "completed"), (4, "partial")], ["completed", "contradicted"], True),
    ],
)
def test_what_a_subscriber_answers_is_what_the_playbook_acts_on(
    tmp_path: Path, answers: list[tuple[float, str]], expected: list[str], escalates: bool
) -> None:
    ran = play(tmp_path, answers)
    assert states(ran)[: len(expected)] == expected
    assert [kind for kind, _ in ran.commands()] == ["REDUCE_ONLY", *(["HALT_TRADING"] if escalates else [])]


def test_silence_escalates_at_its_deadline_and_the_second_command_stands_for_the_first(tmp_path: Path) -> None:
    ran = play(tmp_path, [])
    first, second = ran.topic("commands")
    assert second["evidence"]["as_of_us"] - first["evidence"]["as_of_us"] == 3 * SECOND
    assert second["supersedes"] == first["id"]
    assert (second["evidence"]["topic"], second["evidence"]["id"]) == ("commands", first["id"])


def test_a_late_answer_after_silence_still_counts(tmp_path: Path) -> None:
    book = [CALL, rule("again", {"acknowledgement": "silent", "rule": "call"}, ("CANCEL_ORDERS", "account"))]
    first = run_playbook(tmp_path / "1", book, equity(1, "-850"), response=TERMS).topic("commands")[0]
    ran = run_playbook(
        tmp_path / "2",
        book,
        equity(1, "-850"),
        acknowledgement(6, first, "completed"),
        marks_every_second(20),
        response=TERMS,
    )
    assert states(ran) == ["silent", "completed"]


def test_who_claims_to_have_halted_and_goes_on_trading_contradicts_himself(tmp_path: Path) -> None:
    halt = rule("halt", at_level("hard"), ("HALT_TRADING", "account"))
    block = rule("block", {"acknowledgement": "contradicted"}, ("BLOCK_COUNTERPARTY", "counterparty"))
    base = [equity(1, "-950")]
    first = run_playbook(tmp_path / "1", [halt, block], *base, response=TERMS).topic("commands")[0]
    done = acknowledgement(2, first, "completed")
    for number, (more, lies) in enumerate([
        ([fill(T0 + 3 * SECOND, "f")], True),
        ([fill(T0 + 3 * SECOND, "f", source="liquidation")], False),  # a venue's doing, not the subscriber's
        ([fill(T0 + 3 * SECOND, "f", "h1")], False),
        ([fill(T0 + 20 * SECOND, "f")], False),  # long after the time to verify
    ]):  # fmt: skip
        folder = tmp_path / f"case-{number}"
        ran = run_playbook(folder, [halt, block], *base, done, *more, marks_every_second(25), response=TERMS)
        assert (("BLOCK_COUNTERPARTY", "counterparty:a") in ran.commands()) is lies, more
        assert ("contradicted" in states(ran)) is lies


def test_orders_that_still_work_when_the_time_to_verify_is_over_contradict_their_cancelling(tmp_path: Path) -> None:
    cancel = rule("cancel", at_level("hard"), ("CANCEL_ORDERS", "account"))
    halt = rule("halt", {"acknowledgement": "contradicted"}, ("HALT_TRADING", "account"))
    order = {"type": "order", "event_time_us": T0 + SECOND // 2, "order_id": "o", "account": "a", "side": "buy"}
    order |= {"instrument": "ETH-PERP", "open_quantity": "5"}
    base = [order, equity(1, "-950")]
    first = run_playbook(tmp_path / "1", [cancel, halt], *base, response=TERMS).topic("commands")[0]
    done = acknowledgement(2, first, "completed")
    lied = run_playbook(tmp_path / "2", [cancel, halt], *base, done, marks_every_second(20), response=TERMS)
    assert ("HALT_TRADING", "account:a") in lied.commands()
    gone = {**order, "event_time_us": T0 + 3 * SECOND, "open_quantity": "0"}
    kept = run_playbook(tmp_path / "3", [cancel, halt], *base, done, gone, marks_every_second(20), response=TERMS)
    assert kept.commands() == [("CANCEL_ORDERS", "account:a")]


def test_strangers_and_unknown_commands_are_not_heard(tmp_path: Path) -> None:
    first = run_playbook(tmp_path / "1", [CALL], equity(1, "-850"), response=TERMS).topic("commands")[0]
    strangers = [acknowledgement(2, first, "completed", "nobody"), acknowledgement(2, {"id": "0" * 64}, "completed")]
    ran = run_playbook(tmp_path / "2", [CALL], equity(1, "-850"), strangers, marks_every_second(5), response=TERMS)
    assert states(ran) == ["silent"]


def test_a_command_is_completed_when_all_who_must_have_completed_it() -> None:
    loop = CommandTracker()
    loop.configure({**TERMS, "subscribers": ["oms", "desk"]})
    loop.issue(SUSPENDED, "account:a mode", "account:a", {"id": "r"}, 0, 60 * SECOND)
    assert loop.hear("c", "oms", "completed", "e", 1) == []
    assert [change.what for change in loop.hear("c", "desk", "completed", "e", 2)] == ["completed"]


def test_without_named_subscribers_the_answer_of_anyone_is_enough() -> None:
    loop = CommandTracker()
    loop.configure({**TERMS, "subscribers": []})
    loop.issue(SUSPENDED, "account:a mode", "account:a", {"id": "r"}, 0, 60 * SECOND)
    assert [change.what for change in loop.hear("c", "whoever", "accepted", "e", 1)] == ["accepted"]
    assert [change.what for change in loop.advance(4 * SECOND)] == []
    assert [change.what for change in loop.advance(9 * SECOND)] == ["late"]
    assert [change.what for change in loop.advance(61 * SECOND)] == ["expired"]
    assert loop.commands == {}


def test_a_resumed_state_goes_on_like_one_that_never_stopped(tmp_path: Path) -> None:
    from seawall.operators.core.limits import LimitsState

    book = [CALL, *escalation("silent", "late"),
            rule("long", at_level("soft"), ("CANCEL_ORDERS", "account"), dwell_s=4)]  # fmt: skip
    ran = run_playbook(
        tmp_path, book, equity(1, "-850"), equity(2, "-950", "h1"), marks_every_second(12), response=TERMS
    )
    limits, whole, cut = LimitsState("0", 0), MitigationState("0", 0), MitigationState("0", 0)
    for measures, events, *_ in ran.exposed:
        breaches = limits.step(measures, events)
        cut = MitigationState.restore(cut.snapshot())
        one, other = whole.step(measures, events, breaches), cut.step(measures, events, breaches)
        assert (one.records, one.decisions) == (other.records, other.decisions)
        assert (whole.due_us, whole.watches) == (cut.due_us, cut.watches)
    assert whole.snapshot() == cut.snapshot()
