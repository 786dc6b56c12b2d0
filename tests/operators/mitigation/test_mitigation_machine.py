"""What holds of mitigation whatever happens, on random walks of breaches, news and answers.

1. A target never gets looser without a human.
2. Of what one target is asked for in one slot in one slice, the safer is given; of what waits there, the safer waits.
3. A cancel is never held up: not by the budget, not by what is halted.
4. There is at most one open command per target and slot.
5. Every breach reaches a terminal state: it is cured, or its target is halted and what was commanded is over.
6. Only a quorum of people releases, and what it released may be restricted anew.

All of it is judged by what leaves: commands, and what the audit says became of them.
"""

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.operators.core.base import Breaches, ExternalEvent, Outputs
from seawall.operators.core.mitigation import MODE_RANKS, MitigationState
from seawall.operators.core.mitigation._control import UNBOUNDED, slot_of
from seawall.ops.lab._playbook_cases import START_US, CaseDesk
from seawall.schemas.configuration import read_playbook, read_response
from seawall.schemas.errors import Rejected
from seawall.schemas.evidence import COMMAND, KeySet, check_release
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.records import Record
from seawall_testing.desk import Json
from seawall_testing.playbooks import at_level
from seawall_testing.playbooks import rule as a_rule
from seawall_testing.signing import CHECKER, CHECKER_OF_MAKER, ISSUER, MAKER, ROOTS, Holder, encode, envelope, keys
from seawall_testing.signing import command as a_command

LEVELS = ("none", "warning", "soft", "hard")
ACCOUNTS = ("a", "b", "h")
BUDGET = {"commands_max": 3, "per_s": 10}
TERMS = {"acknowledge_s": 3, "complete_s": 6, "verify_s": 4, "subscribers": ["oms"], **BUDGET}
CUT = {"asset": "X", "haircut": 0.2}
RULES = [
    a_rule("call", at_level("warning"), ("CALL_MARGIN", "account"), expires_s=8),
    a_rule("mild", at_level("soft"), ("REDUCE_ONLY", "account"), ("SET_HAIRCUT", "account", CUT), expires_s=8),
    a_rule("hard", at_level("hard"), ("CANCEL_ORDERS", "account"), ("SUSPEND", "account"), expires_s=8),
    a_rule("deep", at_level("hard"), ("SET_HAIRCUT", "account", {**CUT, "haircut": 0.6}), priority=3, expires_s=8),
    a_rule("sell", at_level("hard"), ("REDUCE_POSITION", "account"), expires_s=8),
    a_rule("long", at_level("soft"), ("HALT_TRADING", "account"), dwell_s=7, expires_s=8),
    a_rule("both", {"all": [at_level("soft"), {"alert": "odd"}], "within_s": 5}, ("CANCEL_ORDERS", "account")),
    a_rule("heard", {"any": [{"acknowledgement": one} for one in ("silent", "rejected", "contradicted", "partial")]},
           ("HALT_TRADING", "account"), cooldown_s=5, expires_s=8),
]  # fmt: skip
OVER = ("completed", "rejected", "expired", "contradicted")
QUORUM = (MAKER, CHECKER)
SIGNERS: list[tuple[Holder, ...]] = [(MAKER,), (CHECKER,), (MAKER, CHECKER_OF_MAKER), (ISSUER,), QUORUM, QUORUM]
WORTH: Json = {"counterparty": "c", "venue": "", "group": "", "netting_set": "", "holder": "counterparty"}


def a_desk() -> CaseDesk:
    content = {"rule": RULES, "response": TERMS}
    measures = dict.fromkeys(ACCOUNT, 0)
    accounts = {name: {**WORTH, **measures, "counterparty": f"c-{name}"} for name in ACCOUNTS}
    accounts["h"]["holder"] = "house"
    return CaseDesk(accounts, read_playbook(content, "p", ["low"]), read_response(content, "p"))


def key_set() -> KeySet:
    """Return a key set of the machine, two people (one with two keys) and the roots."""
    window: Json = {"nbf_us": 0, "exp_us": 2 * START_US}
    roles = ((ISSUER, "issuer"), (MAKER, "maker"), (CHECKER, "checker"), (CHECKER_OF_MAKER, "checker"))
    listed = [one.entry(role, types=(COMMAND,), **window) for one, role in roles]
    listed += [root.entry("root", types=(), **window) for root in ROOTS]
    return keys(keys=listed, environment="test", iat_us=0, exp_us=2 * START_US)


KEYS = key_set()


def of_account(account: str) -> str:
    return f"account:{account}"


class Machine(RuleBasedStateMachine):
    """Random walks; each step is one slice of a second or less."""

    def __init__(self) -> None:
        super().__init__()
        self.desk, self.state = a_desk(), MitigationState("0", 0)
        self.seq, self.now_us = 0, START_US
        self.levels = dict.fromkeys(ACCOUNTS, "none")
        self.places: dict[str, int] = {}
        self.haircuts: dict[str, float] = {}
        self.given: list[tuple[int, Json]] = []
        self.chain: dict[str, tuple[int, str | None]] = {}  # target -> seq and id of its last command
        self.slots: dict[str, str] = {}  # id of a command -> its slot
        self.ends: dict[str, str] = {}  # id of a command -> how it ended
        self.strict_until: dict[str, int] = {}  # account -> until when a stop that was asked for may wait
        self.released: set[str] = set()  # accounts that people gave back while their level stood

    def slice(
        self, after_us: int, breaches: list[Json] | None = None, news: list[ExternalEvent] | None = None
    ) -> Outputs:
        self.now_us += after_us
        found = breaches or []
        records = [Record("", orjson.dumps(b), f"b-{self.seq}-{at}", at) for at, b in enumerate(found)]
        measured = self.desk.measured("0", self.seq, self.now_us, news or [])
        planned = self.state.step(*measured, Breaches(found, records))
        self.seq += 1
        self._check(planned)
        return planned

    def waits(self, account: str) -> str:
        """Return what change of an account's mode the budget holds up; empty where none."""
        waiting = self.state.budget.waiting.get(f"account:{account} mode")
        if waiting is None:
            return ""
        rules: list[Any] = self.desk.configuration["playbook"]["rules"]
        return str(rules[waiting[1].rule]["commands"][waiting[1].at]["kind"])

    def breach(self, account: str, level: str) -> Json:
        before, self.levels[account] = self.levels[account], level
        if LEVELS.index(level) < LEVELS.index("soft") <= LEVELS.index(before):
            self.released.discard(account)
        return {"limit": "low", "scope": f"account:{account}", "measure": "equity", "value": 1.0, "bound": 1.0,
                "level": level, "previous_level": before, "cause": "active", "evidence": ["e"]}  # fmt: skip

    def _check(self, planned: Outputs) -> None:
        payloads = [orjson.loads(record.value) for record in planned.records.get("commands", ())]
        slots = []
        for payload in payloads:
            target = f"{payload['target']['scope']}:{payload['target']['id']}"
            command = {"kind": payload["type"], **payload["action"]}
            slots.append(slot_of(command, target))
            self._follows(target, payload, slots[-1])
            rung = MODE_RANKS.get(payload["type"], 0)
            assert not rung or rung > self.places.get(target, 0), (
                "1: a rung is never given below or at where one stands"
            )
            self.places[target] = max(self.places.get(target, 0), rung)
            if payload["type"] == "SET_HAIRCUT":
                assert float(payload["action"]["haircut"]) >= self.haircuts.get(target, 0.0), "1: nor a smaller haircut"
                self.haircuts[target] = float(payload["action"]["haircut"])
            self.given.append((self.now_us, payload))
        assert len(set(slots)) == len(slots), "2: one command per slot in one slice"
        for kind, body in planned.decisions:
            if kind == "command_state" and body["state"] in OVER:
                assert self.ends.setdefault(body["command_id"], body["state"]) in OVER, "5: what is over stays over"
        window = self.now_us - BUDGET["per_s"] * 1_000_000
        counted = [p for at, p in self.given if at > window and p["type"] not in UNBOUNDED]
        assert len(counted) <= BUDGET["commands_max"], "the rate stays inside its budget"

    def _follows(self, target: str, payload: Json, slot: str) -> None:
        """Check that a command follows the last one to its target, and stands for the open one of its slot."""
        seq, before = self.chain.get(target, (0, None))
        assert (payload["seq"], payload["prev_id"]) == (seq + 1, before)
        self.chain[target] = payload["seq"], payload["id"]
        open_ids = [id for id, one in self.slots.items() if one == slot and id not in self.ends]
        if payload["supersedes"] is not None:
            assert payload["supersedes"] in open_ids, "4: it stands for one that is open"
            self.ends[payload["supersedes"]] = "superseded"
            open_ids.remove(payload["supersedes"])
        self.slots[payload["id"]] = slot

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule(account=st.sampled_from(ACCOUNTS), level=st.sampled_from(LEVELS), after_us=st.integers(1, 3_000_000))
    def a_level_changes(self, account: str, level: str, after_us: int) -> None:
        if level != self.levels[account]:
            self._goes(account, level, after_us)

    def _goes(self, account: str, level: str, after_us: int) -> None:
        before = self.levels[account]
        planned = self.slice(after_us, [self.breach(account, level)])
        if level == "hard" and before != "hard":
            kinds = [(orjson.loads(r.value)["type"], r.key) for r in planned.records.get("commands", [])]
            assert ("CANCEL_ORDERS", f"account:{account}") in kinds, "3: a cancel is given at once, every time"
            self.places.setdefault(of_account(account), 0)
            if self.places[of_account(account)] < 2:
                assert self.waits(account) in ("SUSPEND", "HALT_TRADING"), "2: of two rungs the stricter"
                self.strict_until[account] = self.now_us + 8_000_000
            cut = self.haircuts.get(of_account(account), 0.0)
            held = f"account:{account} SET_HAIRCUT X" in self.state.budget.waiting
            assert cut == 0.6 or held, "2: of two haircuts the larger"

    @rule(account=st.sampled_from(ACCOUNTS))
    def a_stop_is_asked_for_and_at_once_something_milder(self, account: str) -> None:
        for level in ("none", "hard", "none", "soft"):
            if level != self.levels[account]:
                self._goes(account, level, 1)

    @rule(account=st.sampled_from(ACCOUNTS))
    def a_level_is_left_and_reached_again(self, account: str) -> None:
        if self.levels[account] in ("soft", "hard"):
            self.slice(9_000_000, [self.breach(account, "none")])
            self.slice(9_000_000, [self.breach(account, "soft")])

    @rule(levels=st.lists(st.sampled_from(LEVELS), min_size=3, max_size=3), after_us=st.integers(1, 2_000_000))
    def many_levels_change(self, levels: list[str], after_us: int) -> None:
        changed = [pair for pair in zip(ACCOUNTS, levels, strict=True) if pair[1] != self.levels[pair[0]]]
        self.slice(after_us, [self.breach(*pair) for pair in changed])

    @rule(account=st.sampled_from(ACCOUNTS), after_us=st.integers(1, 3_000_000))
    def something_odd_is_seen(self, account: str, after_us: int) -> None:
        planned = self.slice(after_us, news=[ExternalEvent("alert", f"account:{account}", "odd", f"alert:{self.seq}")])
        if self.levels[account] in ("soft", "hard"):
            given = [(orjson.loads(r.value)["type"], r.key) for r in planned.records.get("commands", [])]
            assert ("CANCEL_ORDERS", f"account:{account}") in given, "3: whatever else waits, or is halted"

    @rule(account=st.sampled_from(ACCOUNTS), signers=st.sampled_from(SIGNERS), ahead=st.sampled_from((1, 1, 1, 0)))
    def somebody_signs_a_release(self, account: str, signers: tuple[Holder, ...], ahead: int) -> None:
        """People, or others, sign a REINSTATE; it goes the way of every release: only what is accepted is heard."""
        target = of_account(account)
        if target not in self.chain:
            return
        window = {"iat_us": self.now_us, "nbf_us": self.now_us, "exp_us": self.now_us + 60_000_000}
        seq = self.chain[target][0] + ahead
        body = a_command("REINSTATE", seq, target=target, iss="risk/cases", env="test", **window)
        document = orjson.loads(envelope(encode(body), list(signers), COMMAND))
        try:
            check_release(document, KEYS, "risk/cases", "test", self.now_us)
        except Rejected:
            assert signers != QUORUM, "6: a quorum is accepted"
            return
        assert signers == QUORUM, "6: nobody else is"
        self.slice(1, news=[ExternalEvent("release", target, encode(body).decode(), f"release:{body['id']}")])
        if ahead:
            self.chain[target], self.places[target] = (seq, body["id"]), 0
            self.ends |= {id: "released" for id, slot in self.slots.items()
                          if slot.startswith(f"{target} ") and id not in self.ends}  # fmt: skip
            self.strict_until.pop(account, None)
            self.released.add(account)
            assert self.state.place(target) == 0, "6: it may be restricted anew"

    @rule(
        which=st.integers(0, 20),
        outcome=st.sampled_from(("accepted", "completed", "partial", "rejected", "unknown")),
        who=st.sampled_from(("oms", "oms", "oms", "stranger")),
        times=st.integers(1, 2),
    )
    def somebody_answers(self, which: int, outcome: str, who: str, times: int) -> None:
        if self.given:
            id = self.given[-1 - which % len(self.given)][1]["id"]
            told = ExternalEvent("acknowledgement", id, outcome, f"acknowledgement:{who}:{self.now_us}")
            self.slice(1, news=[told] * times)

    @rule(after_us=st.integers(1, 12_000_000))
    def time_passes(self, after_us: int) -> None:
        self.slice(after_us)

    @rule()
    def it_is_stopped_and_resumed(self) -> None:
        self.state = MitigationState.restore(self.state.snapshot())

    # --- what holds -------------------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_command_is_open_per_slot(self) -> None:
        slots = [slot for id, slot in self.slots.items() if id not in self.ends]
        assert len(set(slots)) == len(slots), "4"

    @invariant()
    def a_stop_that_waits_is_not_displaced_by_something_milder(self) -> None:
        for account, until_us in self.strict_until.items():
            if self.places[of_account(account)] < 2 and self.now_us < until_us:
                assert self.waits(account) in ("SUSPEND", "HALT_TRADING"), "2: of what waits, the safer"

    @invariant()
    def nobody_stands_lower_than_what_people_left_and_playbooks_commanded(self) -> None:
        now = self.state.places()
        assert all(now.get(target, 0) == place for target, place in self.places.items()), "1"

    @invariant()
    def our_own_books_are_never_traded_by_a_machine(self) -> None:
        assert all((p["type"], p["target"]["id"]) != ("REDUCE_POSITION", "h") for _, p in self.given)

    def teardown(self) -> None:
        if not self.seq:
            return
        for _ in range(12):  # nobody answers any more: everything runs out
            self.slice(10_000_000)
        assert set(self.slots) == set(self.ends), "5: every command has come to an end that was told"
        assert self.state.loop.commands == {}, "5: and nothing waits for an answer"
        assert self.state.budget.waiting == {}, "5: nor for the budget"
        for account, level in self.levels.items():
            stopped = self.state.place(of_account(account)) == 2
            assert stopped or level in ("none", "warning") or account in self.released, "5: cured, halted, or people's"


Machine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase


def test_no_rule_can_release_and_a_release_by_one_key_is_refused_by_subscribers() -> None:
    from seawall.schemas.errors import UsageError
    from seawall.schemas.evidence._documents import only_takes_away

    with pytest.raises(UsageError, match="takes people"):
        read_playbook({"rule": [a_rule("r", at_level("soft"), ("REINSTATE", "account"))]}, "p", ["low"])
    assert not only_takes_away("REINSTATE", {})
