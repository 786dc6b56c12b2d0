"""What holds of mitigation whatever happens, on random walks of breaches, news and answers.

1. A target never gets looser without a human.
2. Of what one target is asked for in one slot in one slice, the safer is given.
3. A cancel is never held up: not by the budget, not by what is halted.
4. There is at most one open command per target and slot.
5. Every breach reaches a terminal state: it is cured, or what was commanded because of it is over.
6. Only a quorum of people releases.
"""

import orjson
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from seawall.operators.core.frames import Enforced, News, Planned
from seawall.operators.core.mitigation import MitigationState
from seawall.operators.core.mitigation.control import LADDER, UNBOUNDED, slot_of
from seawall.operators.core.mitigation.loop import OPEN
from seawall.ops.playbook_play import START_US, Desk
from seawall.schemas.measures import ACCOUNT
from seawall.schemas.playbook import read_playbook, read_response
from seawall.schemas.records import Record
from seawall_testing.desk import Json
from seawall_testing.playbooks import at_level
from seawall_testing.playbooks import rule as a_rule

LEVELS = ("none", "warning", "soft", "hard")
ACCOUNTS = ("a", "b", "h")
BUDGET = {"commands_max": 8, "per_s": 10}
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
WORTH: Json = {"counterparty": "c", "venue": "", "group": "", "netting_set": "", "holder": "counterparty"}


def a_desk() -> Desk:
    content = {"rule": RULES, "response": TERMS}
    measures = dict.fromkeys(ACCOUNT, 0)
    accounts = {name: {**WORTH, **measures, "counterparty": f"c-{name}"} for name in ACCOUNTS}
    accounts["h"]["holder"] = "house"
    return Desk(accounts, read_playbook(content, "p", ["low"]), read_response(content, "p"))


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

    def slice(self, after_us: int, breaches: list[Json] | None = None, news: list[News] | None = None) -> Planned:
        self.now_us += after_us
        found = breaches or []
        records = [Record("", orjson.dumps(b), f"b-{self.seq}-{at}", at) for at, b in enumerate(found)]
        frame = self.desk.frame("0", self.seq, self.now_us, news or [])
        planned = self.state.step(Enforced(frame, found, records))
        self.seq += 1
        self._check(planned)
        return planned

    def waits(self, account: str) -> bool:
        """Tell whether the budget holds up a change of an account's mode."""
        return f"account:{account} mode" in self.state.budget.waiting

    def breach(self, account: str, level: str) -> Json:
        before, self.levels[account] = self.levels[account], level
        return {"limit": "low", "scope": f"account:{account}", "measure": "equity", "value": 1.0, "bound": 1.0,
                "level": level, "previous_level": before, "cause": "active", "evidence": ["e"]}  # fmt: skip

    def _check(self, planned: Planned) -> None:
        payloads = [orjson.loads(record.value) for record in planned.commands]
        slots = []
        for payload in payloads:
            target = f"{payload['target']['scope']}:{payload['target']['id']}"
            command = {"kind": payload["type"], **payload["action"]}
            slots.append(slot_of(command, target))
            rung = LADDER.get(payload["type"], 0)
            assert not rung or rung > self.places.get(target, 0), (
                "1: a rung is never given below or at where one stands"
            )
            self.places[target] = max(self.places.get(target, 0), rung)
            if payload["type"] == "SET_HAIRCUT":
                assert float(payload["action"]["haircut"]) >= self.haircuts.get(target, 0.0), "1: nor a smaller haircut"
                self.haircuts[target] = float(payload["action"]["haircut"])
            self.given.append((self.now_us, payload))
        assert len(set(slots)) == len(slots), "2: one command per slot in one slice"
        window = self.now_us - BUDGET["per_s"] * 1_000_000
        counted = [p for at, p in self.given if at > window and p["type"] not in UNBOUNDED]
        assert len(counted) <= BUDGET["commands_max"], "the rate stays inside its budget"

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule(account=st.sampled_from(ACCOUNTS), level=st.sampled_from(LEVELS), after_us=st.integers(1, 3_000_000))
    def a_level_changes(self, account: str, level: str, after_us: int) -> None:
        if level == self.levels[account]:
            return
        before = self.levels[account]
        planned = self.slice(after_us, [self.breach(account, level)])
        if level == "hard" and before != "hard":
            kinds = [(orjson.loads(r.value)["type"], r.key) for r in planned.commands]
            assert ("CANCEL_ORDERS", f"account:{account}") in kinds, "3: a cancel is given at once, every time"
            assert self.places[f"account:{account}"] == 2 or self.waits(account), "2: of two rungs the stricter"

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
        self.slice(after_us, news=[News("alert", f"account:{account}", "odd", f"alert:{self.seq}")])

    @rule(
        which=st.integers(0, 20),
        outcome=st.sampled_from(("accepted", "completed", "partial", "rejected", "unknown")),
        who=st.sampled_from(("oms", "oms", "oms", "stranger")),
        times=st.integers(1, 2),
    )
    def somebody_answers(self, which: int, outcome: str, who: str, times: int) -> None:
        if self.given:
            id = self.given[-1 - which % len(self.given)][1]["id"]
            told = News("acknowledgement", id, outcome, f"acknowledgement:{who}:{self.now_us}")
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
        slots = [c["slot"] for c in self.state.loop.commands.values() if c["state"] in OPEN]
        assert len(set(slots)) == len(slots), "4"

    @invariant()
    def nobody_stands_lower_than_before(self) -> None:
        now = self.state.places()
        assert all(now.get(target, 0) >= place for target, place in self.places.items()), "1"

    @invariant()
    def our_own_books_are_never_traded_by_a_machine(self) -> None:
        assert all((p["type"], p["target"]["id"]) != ("REDUCE_POSITION", "h") for _, p in self.given)

    def teardown(self) -> None:
        if not self.seq:
            return
        for _ in range(12):  # nobody answers any more: everything runs out
            self.slice(10_000_000)
        assert self.state.loop.commands == {}, "5: no command is left open"
        assert self.state.budget.waiting == {}, "5: and none waits"
        for account, level in self.levels.items():
            if level in ("soft", "hard"):
                assert self.state.places().get(f"account:{account}", 0) == 2, "5: what is not cured ends halted"


Machine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase


def test_no_rule_can_release_and_a_release_by_one_key_is_refused_by_subscribers() -> None:
    from seawall.schemas.errors import UsageError
    from seawall.schemas.evidence.documents import only_takes_away

    with pytest.raises(UsageError, match="takes people"):
        read_playbook({"rule": [a_rule("r", at_level("soft"), ("REINSTATE", "account"))]}, "p", ["low"])
    assert not only_takes_away("REINSTATE", {})
