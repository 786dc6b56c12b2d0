"""Mitigation: a playbook turns breaches and news into commands; per target a state that only people loosen.

A rule fires when a breach rises to its level (a jump over it counts), when a venue reports the status or a notice or an
alert of the kind it names arrives, once per target and ``cooldown_s``. A target stands at ``active``, ``reducing`` or
``halted`` and no command of a playbook ever moves it back: release is a human's (DESIGN §5).

What breaches by price alone, a *passive* breach, never forces trading in our own books (DESIGN §5): HEDGE and
REDUCE_POSITION for anything that holds an account of ours are withheld, and the audit says so.

A target has one writer: accounts, netting sets and counterparties their shard, everything wider the key ``all``.
"""

import hashlib
from decimal import Decimal
from typing import Any

import orjson

from seawall.operators.core.directory import shard_of
from seawall.operators.core.frames import Decision, Enforced, Frame, News, Planned
from seawall.operators.core.limit_rules import LEVELS
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.errors import invariant
from seawall.schemas.measures import SHARD_SCOPES
from seawall.schemas.records import Record

SCHEMA = "mitigation/1"
EXPIRES_S = 60
COMMAND_BYTES_MAX = 4096
TRADING = frozenset({"HEDGE", "REDUCE_POSITION"})
LADDER = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 2}
STATES = ("active", "reducing", "halted")
Trigger = tuple[str, str, str, dict[str, Any]]  # rule key and value, scope, evidence with its reason


class MitigationState:
    """The mitigation operator of one key: ``step(enforced) -> Planned``."""

    def __init__(self, key: str, partition: int, playbook: dict[str, Any] | None = None) -> None:
        self.key = key
        self.numbering = Numbering(partition)
        self.configuration: dict[str, Any] = {}
        self._playbook = playbook
        self._targets: dict[str, list[Any]] = {}  # target -> [seq, previous id, place on the ladder]
        self._fired: dict[str, int] = {}  # "rule target" -> when it fired last
        self._withheld: list[Decision] = []

    def step(self, enforced: Enforced) -> Planned:
        """Plan the commands of one frame."""
        frame = enforced.frame
        if frame.configuration is not None:
            self.configuration = self._with_playbook(frame.configuration)
        commands: list[Record] = []
        self._withheld = []
        for breach, record in zip(enforced.breaches, enforced.records, strict=True):
            risen = range(LEVELS.index(breach["previous_level"]) + 1, LEVELS.index(breach["level"]) + 1)
            for level in risen:
                when = {"limit": breach["limit"], "level": LEVELS[level]}
                evidence = {"topic": "breaches", "id": record.id, "sha256": _sha256(record.value)}
                commands += self._fire(when, breach["scope"], evidence, breach, frame, len(commands))
        for news in frame.news:
            when = {news.kind: news.state}
            scope = news.subject if news.kind == "alert" else f"{news.kind}:{news.subject}"
            commands += self._fire(when, scope, {"id": news.evidence}, None, frame, len(commands), news)
        return Planned(enforced, commands, self._withheld)

    def _with_playbook(self, configuration: dict[str, Any]) -> dict[str, Any]:
        return configuration if self._playbook is None else {**configuration, "playbook": self._playbook}

    # --- rules ------------------------------------------------------------------------------------------------------

    def _fire(
        self,
        when: dict[str, str],
        scope: str,
        evidence: dict[str, Any],
        breach: dict[str, Any] | None,
        frame: Frame,
        count: int,
        news: News | None = None,
    ) -> list[Record]:
        """Return the commands of all rules that the trigger matches."""
        commands: list[Record] = []
        for rule in self.configuration["playbook"]["rules"]:
            if {k: v for k, v in rule["when"].items() if k != "scope"} != when:
                continue
            for command in rule["commands"]:
                for target in self._resolve(command["target"], scope, frame, news):
                    if breach is not None and self._forces_trading(command["kind"], target, breach, frame):
                        self._withhold(rule, command, target, evidence)
                        continue
                    record = self._command(rule, command, target, evidence, breach, frame, count + len(commands))
                    if record is not None:
                        commands.append(record)
        return commands

    def _forces_trading(self, kind: str, target: str, breach: dict[str, Any], frame: Frame) -> bool:
        """Tell whether a command would make our own books trade because prices moved; wide targets hold them all."""
        return kind in TRADING and breach["cause"] == "passive" and (self.key == "all" or target in frame.house)

    def _withhold(self, rule: dict[str, Any], command: dict[str, Any], target: str, evidence: dict[str, Any]) -> None:
        why = "a passive breach never forces trading in our own books"
        body = {"rule": rule["id"], "kind": command["kind"], "target": target, "breach": evidence["id"], "why": why}
        self._withheld.append(Decision("withheld", body))

    def _resolve(self, kind: str, scope: str, frame: Frame, news: News | None) -> list[str]:
        """Return the targets of one kind that a scope stands for, of those that this key may address."""
        if (kind in SHARD_SCOPES) == (self.key == "all"):
            return []
        name = scope.partition(":")[2]
        if kind == "firm":
            return ["firm"]
        if self.key == "all":
            return self._wide(kind, scope, name, frame, news)
        if news is not None and news.kind in ("venue_status", "notice"):
            subject = f"venue:{name}" if news.kind == "venue_status" else f"counterparty:{name}"
            if kind == "counterparty":
                mine = shard_of(name, self.configuration["shards"]) == frame.partition
                return [f"counterparty:{name}"] if mine else []
            return _members(kind, subject, frame)
        if scope.startswith(f"{kind}:"):
            return [scope]
        return _members(kind, scope, frame)

    def _wide(self, kind: str, scope: str, name: str, frame: Frame, news: News | None) -> list[str]:
        """Return the target across shards: the scope itself, the venue of a status, what a notice is about."""
        if news is None or news.kind == "alert":
            return [scope] if scope.startswith(f"{kind}:") else []
        if news.kind == "venue_status":
            return [f"venue:{name}"] if kind == "venue" else []
        table = frame.tables.get(kind)
        return [f"{kind}:{name}"] if table is not None and name in table.names else []

    def _command(
        self,
        rule: dict[str, Any],
        command: dict[str, Any],
        target: str,
        evidence: dict[str, Any],
        breach: dict[str, Any] | None,
        frame: Frame,
        at: int,
    ) -> Record | None:
        """Return the record of one command, or None while it cools down or where the target already stands there."""
        state = self._targets.setdefault(target, [0, None, 0])
        place = LADDER.get(command["kind"], 0)
        if place and place <= state[2]:
            return None
        fired = f"{rule['id']} {rule['commands'].index(command)} {target}"
        last = self._fired.get(fired)
        if last is not None and frame.as_of_us - last < int(float(rule.get("cooldown_s", 0)) * 1_000_000):
            return None
        self._fired[fired] = frame.as_of_us
        payload = self._payload(rule, command, target, evidence, breach, frame, state)
        value = orjson.dumps(payload)
        invariant(len(value) <= COMMAND_BYTES_MAX, f"a command exceeds {COMMAND_BYTES_MAX} bytes")
        state[:] = [payload["seq"], payload["id"], max(place, state[2])]
        return self.numbering.record("commands", frame.seq, at, target, value)

    def _payload(
        self,
        rule: dict[str, Any],
        command: dict[str, Any],
        target: str,
        evidence: dict[str, Any],
        breach: dict[str, Any] | None,
        frame: Frame,
        state: list[Any],
    ) -> dict[str, Any]:
        """Return the signed payload (``reference/signing.md`` §2.1 with microsecond times, DESIGN §6)."""
        configuration = self.configuration
        policy = {key: configuration["playbook"][key] for key in ("version", "sha256")}
        kind, _, name = target.partition(":")
        at = rule["commands"].index(command)  # a rule may give one target several commands of a kind
        cause = [configuration["issuer"], rule["id"], at, target, evidence, policy, frame.key, frame.seq]
        reason: dict[str, Any] = {"rule": rule["id"]}
        if breach is not None:
            reason |= {key: breach[key] for key in ("limit", "scope", "measure", "level")}
            reason |= {"observed": repr(breach["value"]), "bound": repr(breach["bound"])}
        action = {k: _text(v) for k, v in command.items() if k not in ("kind", "target")}
        if command["kind"] == "CALL_MARGIN" and breach is not None:
            action |= _margin_call(breach, frame, configuration["reporting_currency"])
        causes = [] if breach is None else breach["evidence"]
        return {
            "v": 1,
            "type": command["kind"],
            "id": _sha256(orjson.dumps(cause)),
            "iss": configuration["issuer"],
            "aud": ["*"],
            "env": configuration["environment"],
            "target": {"scope": kind, "id": name or kind},
            "epoch": configuration.get("epoch", 1),  # journals of the first version have none
            "seq": state[0] + 1,
            "prev_id": state[1],
            "supersedes": None,
            "iat_us": frame.cut_us,
            "nbf_us": frame.cut_us,
            "exp_us": frame.cut_us + int(float(rule.get("expires_s", EXPIRES_S)) * 1_000_000),
            "effect_until_us": None,
            "action": action,
            "reason": reason,
            "policy": policy,
            "evidence": {**evidence, "as_of_us": frame.as_of_us, "causes": causes},
        }

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "key": self.key,
            "partition": self.numbering.partition,
            "counts": self.numbering.counts,
            "configuration": self.configuration,
            "targets": self._targets,
            "fired": self._fired,
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes, playbook: dict[str, Any] | None = None) -> "MitigationState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["key"], state["partition"], playbook)
        self.numbering.counts, self.configuration = state["counts"], self._with_playbook(state["configuration"])
        self._targets, self._fired = state["targets"], state["fired"]
        return self


def _members(kind: str, scope: str, frame: Frame) -> list[str]:
    """Return the scopes of ``kind`` that hold, or are held by, the accounts of a scope, in order of account."""
    table = frame.tables.get("account")
    if table is None:
        return []
    found: dict[str, None] = {}
    for name, owners in zip(table.names, frame.owners, strict=False):
        circle = (f"account:{name}", *owners)
        if scope in circle:
            found.update((member, None) for member in circle if member.startswith(f"{kind}:"))
    return list(found)


def _margin_call(breach: dict[str, Any], frame: Frame, currency: str) -> dict[str, Any]:
    """Return the amount that brings the margin ratio back to the bound that was broken, to the cent upwards."""
    table = frame.tables.get("account")
    kind, _, name = breach["scope"].partition(":")
    if kind != "account" or breach["measure"] != "margin_ratio" or table is None:
        return {}
    values = dict(zip(table.measures, table.values[:, table.names.index(name)].tolist(), strict=True))
    cents = -int(-(values["maintenance_margin"] / breach["bound"] - values["equity"]) * 100 // 1)
    return {"amount": f"{max(cents, 0) // 100}.{max(cents, 0) % 100:02d}", "currency": currency}


def _text(value: Any) -> str:
    """Return a word as it is and a number as a decimal text: parsers differ on numbers, and signed bytes are final."""
    return value if isinstance(value, str) else format(Decimal(repr(value)), "f")


def _sha256(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
