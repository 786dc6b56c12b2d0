"""Playing a case: a desk of accounts, both writers, and what they give step by step (``playbook_cases``)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from seawall.operators.core.firm import KEY
from seawall.operators.core.frames import Enforced, Frame, News, Planned, Table
from seawall.operators.core.mitigation import MitigationState
from seawall.operators.core.mitigation.control import LADDER, STATES
from seawall.schemas.configuration import playbook_section
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import ACCOUNT, SHARD_SCOPES
from seawall.schemas.playbook import FEEDS
from seawall.schemas.records import Record

START_US = 1_700_000_000_000_000
NEWS = ("venue_status", "notice", "alert", "feed", "fill")


@dataclass
class Coverage:
    """What the cases reached: rules that asked for something, and rungs that targets went between."""

    rules: dict[str, bool]
    transitions: dict[str, bool]

    def reach(self, rule: str) -> None:
        """Note that a rule asked for something."""
        self.rules[rule] = True

    def go(self, rule: str, before: int, after: int) -> None:
        """Note that a rule moved a target."""
        if before != after:
            self.transitions[f"{rule}: {STATES[before]} to {STATES[after]}"] = True


class Desk:
    """The accounts of a file of cases, as the operators see them."""

    def __init__(self, accounts: dict[str, dict[str, Any]], rules: list[Any], response: dict[str, Any]) -> None:
        self.accounts = accounts
        playbook = playbook_section(rules, response)
        self.configuration = {
            "issuer": "risk/cases", "environment": "test", "shards": 1, "reporting_currency": "USD", "epoch": 1,
            "limits": {"version": 1, "sha256": "", "limits": []}, "playbook": playbook,
        }  # fmt: skip

    def frame(self, key: str, seq: int, at_us: int, news: list[News]) -> Frame:
        """Return a frame of the one shard or of the second operator."""
        tables, owners, house = self._tables() if key != KEY else self._wide()
        return Frame(
            key=key, partition=1 if key == KEY else 0, seq=seq, as_of_us=at_us, cut_us=at_us, decides=True, inputs=[],
            configuration=self.configuration if seq == 0 else None, tables=tables, owners=owners, house=house,
            news=news,
        )  # fmt: skip

    def _tables(self) -> tuple[dict[str, Table], list[tuple[str, ...]], frozenset[str]]:
        values = np.array([[float(one[m]) for one in self.accounts.values()] for m in ACCOUNT])
        tables = {"account": Table(list(self.accounts), ACCOUNT, values.reshape(len(ACCOUNT), -1))}
        owners, house = [], set()
        for name, one in self.accounts.items():
            held = [f"netting_set:{one['netting_set'] or name}", f"counterparty:{one['counterparty']}"]
            held += [f"{kind}:{one[kind]}" for kind in ("venue", "group") if one[kind]]
            owners.append(tuple(held))
            if one["holder"] == "house":
                house |= {f"account:{name}", *held[:2]}
        return tables, owners, frozenset(house)

    def _wide(self) -> tuple[dict[str, Table], list[tuple[str, ...]], frozenset[str]]:
        def table(kind: str) -> Table:
            names = list(dict.fromkeys(one[kind] for one in self.accounts.values() if one[kind]))
            return Table(names, (), np.zeros((0, len(names))))

        return {kind: table(kind) for kind in ("group", "venue")}, [], frozenset()


class Play:
    """One case while it is played: both writers, what they gave, and the levels that limits stand at."""

    def __init__(self, desk: Desk, coverage: Coverage, place: str, obeys: bool) -> None:
        self._desk, self._coverage, self._place, self._seq = desk, coverage, place, 0
        self._obeys = obeys
        self.writers = {"0": MitigationState("0", 0), KEY: MitigationState(KEY, 1)}
        self._levels: dict[tuple[str, str], str] = {}
        self.given: list[tuple[float, str, str, str]] = []
        self.ids: dict[tuple[str, str], list[str]] = {}  # rule and target -> its last commands
        self._obeyed: list[News] = []  # answers of a subscriber that does as it is told
        self.withheld: list[str] = []

    def step(self, second: float, events: list[dict[str, Any]]) -> None:
        """Let events happen and both writers decide."""
        at_us = START_US + int(second * 1_000_000)
        news = [*self._obeyed, *(item for event in events for item in self._news(event, at_us))]
        self._obeyed = []
        breaches = [self._breach(event, at_us) for event in events if "limit" in event]
        for key, writer in self.writers.items():
            mine = [b for b in breaches if (b["scope"].partition(":")[0] in SHARD_SCOPES) == (key != KEY)]
            records = [Record("", orjson.dumps(b), f"case-{self._seq}-{at}", at) for at, b in enumerate(mine)]
            before = writer.places()
            planned = writer.step(Enforced(self._desk.frame(key, self._seq, at_us, news), mine, records))
            self._take(planned, second, writer, before)
        self._seq += 1

    def _take(self, planned: Planned, second: float, writer: MitigationState, before: dict[str, int]) -> None:
        mine: dict[tuple[str, str], list[str]] = {}
        for record in planned.commands:
            payload = orjson.loads(record.value)
            rule = payload["reason"]["rule"]
            self.given.append((second, payload["type"], record.key, rule))
            mine.setdefault((rule, record.key), []).append(payload["id"])
            if self._obeys:
                self._obeyed.append(News("acknowledgement", payload["id"], "completed", "acknowledgement:oms:0"))
            self._coverage.reach(rule)
            if payload["type"] in LADDER:
                self._coverage.go(rule, before.get(record.key, 0), LADDER[payload["type"]])
        self.ids |= mine
        for kind, body in planned.decisions:
            if kind in ("withheld", "shadowed"):
                self._coverage.reach(body["rule"])
            if kind == "withheld":
                self.withheld.append(f"{body['kind']} {body['target']}")

    def _news(self, event: dict[str, Any], at_us: int) -> list[News]:
        if "answer" in event:
            known = (event.get("rule", ""), event.get("target", ""))
            if known not in self.ids:
                raise UsageError(
                    f"{self._place}: at {event['at_s']} s rule {known[0]!r} has commanded {known[1]!r} nothing"
                )
            evidence = f"acknowledgement:{event['by']}:{at_us}"
            return [News("acknowledgement", id, event["answer"], evidence) for id in self.ids[known]]
        name = next((name for name in NEWS if name in event), None)
        if name is None:
            return []
        kind = "alert" if name == "feed" else name
        state = FEEDS[event["feed"]] if name == "feed" else event[name]
        return [News(kind, event["of"], state, f"{kind}:{event['of']}:{at_us}")]

    def _breach(self, event: dict[str, Any], at_us: int) -> dict[str, Any]:
        key = (event["limit"], event["of"])
        before, level = self._levels.get(key, "none"), event.get("level", "hard")
        self._levels[key] = level
        return {
            "shard": 0, "seq": self._seq, "as_of_us": at_us, "limit": event["limit"], "version": 1,
            "scope": event["of"], "measure": event["measure"], "value": float(event["value"]),
            "bound": float(event["bound"]), "utilisation": 1.0, "level": level, "previous_level": before,
            "cause": event["cause"], "evidence": [f"case:{event['at_s']}"],
        }  # fmt: skip
