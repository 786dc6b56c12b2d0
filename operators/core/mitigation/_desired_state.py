"""Desired state: the sum of all commands so far, published every second, and a heartbeat beside it.

A command that is lost on its way must not stay lost, and that commands are held back must be seen (architecture.md,
"Evidence", TUF's snapshot and timestamp roles). So the firm publishes, signed, on the topic ``state``:

- a *state* document of the targets whose commands changed in a second, and of all targets at least every 60 s: per
  target its last command, and the commands in force;
- a *heartbeat* every second, valid for five, which names the last state document by its SHA-256, as each of those names
  the one before it, back to where a full one begins: none of those can be held back without a trace. In a journal of
  before they name none (``chained_states`` of its configuration).

In force are the highest rung of the trading mode, the last of each kind (and asset, limit or instrument) that sets
something until it is set otherwise, and, for an hour, the last of each kind that asks for something to be done. A state
never loosens by itself: what people released, by a REINSTATE that is journaled, is no longer in force.

Shards decide on commands, the firm publishes: it waits until every shard has told what it ordered in the
second, in order of shard, so the result depends on the journal alone.
"""

import hashlib
from collections import deque
from typing import Any, NamedTuple

import msgspec
import orjson

from seawall.operators.core.base import Outputs, RecordNumbering, pack, unpack
from seawall.schemas.errors import invariant
from seawall.schemas.evidence import subject_of
from seawall.schemas.records import Record

SCHEMA = "desired/3"
TOPIC = "state"
FULL_EVERY_US = 60_000_000
STATE_EXPIRES_US = 2 * FULL_EVERY_US  # who begins to listen between two full ones still accepts the one before
HEARTBEAT_EXPIRES_US = 5_000_000
ACTION_IN_FORCE_US = 3_600_000_000
FOREVER_US = 1 << 63
TARGETS_MAX = 256  # of one document: each takes up to 600 bytes, and subscribers refuse more than 256 KiB
IN_FORCE_MAX = 2 * TARGETS_MAX  # commands of one document
RELEASE = "REINSTATE"  # signed by people; only what they released is no longer in force
MODES = {"REDUCE_ONLY": 1, "SUSPEND": 2, "HALT_TRADING": 3}
SETTINGS = frozenset({
    "SET_LIMIT", "SET_HAIRCUT", "REROUTE", "BLOCK_COUNTERPARTY", "SWITCH_STRATEGY_PROFILE", "ENTER_DEGRADED_MODE",
})  # fmt: skip


class ShardCommands(NamedTuple):
    """Commands of one shard in a slice: their values; ``second`` when the slice ends one."""

    shard: int
    as_of_us: int
    second: bool
    commands: list[bytes]


class _TargetStatement(NamedTuple):
    """A target as documents say it: its JSON, how many commands that holds, and from when until when it is so."""

    value: bytes
    held: int
    from_us: int
    until_us: int


def _pages(targets: list[_TargetStatement]) -> list[list[orjson.Fragment]]:
    """Return targets as they are told together: no document above the bounds on targets and commands."""
    pages: list[list[orjson.Fragment]] = []
    held = 0
    for target in targets:
        held += target.held
        if not pages or len(pages[-1]) == TARGETS_MAX or held > IN_FORCE_MAX:
            pages.append([])
            held = target.held
        pages[-1].append(orjson.Fragment(target.value))
    return pages


def shard_commands(planned: Outputs) -> ShardCommands:
    """Return what a shard tells the firm of a slice; nothing, unless it ends a second or holds commands."""
    moment = planned.moment
    return ShardCommands(moment.partition, moment.as_of_us, moment.second, _ordered_values(planned))


def _ordered_values(planned: Outputs) -> list[bytes]:
    """Return the values of what was released and ordered in a slice, in this order."""
    commands = planned.records.get("commands")
    return [*planned.releases, *[record.value for record in commands]] if commands else planned.releases


class _Command(msgspec.Struct):
    """Of a command, what its state needs."""

    type: str
    id: str
    target: dict[str, str]
    epoch: int
    seq: int
    iat_us: int
    action: dict[str, Any]


class DesiredState:
    """The publisher: ``step(told or planned) -> [Outputs]``, the firm's outputs with their state documents."""

    def __init__(self) -> None:
        self.configuration: dict[str, Any] = {}
        self.numbering = RecordNumbering(-1)
        self._unpublished: list[deque[ShardCommands]] = []  # by shard, in order of time: what is not published yet
        self._passed_us: list[int] = []  # by shard: the last second that it has told the end of
        self._waiting: list[Outputs] = []
        self._targets: dict[str, dict[str, Any]] = {}  # target -> its last command, and those in force by slot
        self._said: dict[str, _TargetStatement] = {}  # a full document repeats most of the one before
        self._full_as_of_us = -1
        self._sha256: str | None = None

    def step(self, item: ShardCommands | Outputs) -> list[Outputs]:
        """Take what one shard told, or what one second of the firm gave; return the seconds that became complete."""
        if isinstance(item, Outputs):
            self._waiting.append(item)
        else:
            self._take_commands(item)
        done = []
        while self._waiting and self._complete(self._waiting[0]):
            done.append(self._published(self._waiting.pop(0)))
        return done

    def go_on_after(self, counts: dict[str, int], sha256: str | None) -> None:
        """Go on after so many records by topic, the last document among them having this hash."""
        self.numbering.counts, self._sha256 = dict(counts), sha256

    def _take_commands(self, sent: ShardCommands) -> None:
        while len(self._unpublished) <= sent.shard:
            self._unpublished.append(deque())
            self._passed_us.append(-1)
        self._unpublished[sent.shard].append(sent)
        if sent.second:
            self._passed_us[sent.shard] = sent.as_of_us

    def _complete(self, planned: Outputs) -> bool:
        if planned.configuration is not None:
            self.configuration = planned.configuration
            self.numbering.partition = planned.moment.partition
        passed = self._passed_us
        return len(passed) == self.configuration["shards"] and min(passed) >= planned.moment.as_of_us

    def _published(self, planned: Outputs) -> Outputs:
        moment = planned.moment
        values = [*self._take(moment.as_of_us), *_ordered_values(planned)]
        changed = dict.fromkeys(map(self._apply, values))
        full = self._full_as_of_us < 0 or moment.as_of_us - self._full_as_of_us >= FULL_EVERY_US
        if full:
            self._full_as_of_us = moment.as_of_us
        names = list(self._targets if full else changed)
        records: list[Record] = []
        head = self._head(moment.seq, moment.cut_us)
        for listed in _pages([self._target(name, moment.cut_us) for name in names]):
            before = None if full and not records else self._sha256
            chain = {"prev_sha256": before} if self.configuration.get("chained_states") else {}
            ends = {"exp_us": moment.cut_us + STATE_EXPIRES_US, **chain}
            value = orjson.dumps({**head, **ends, "targets": listed})
            self._sha256 = hashlib.sha256(value).hexdigest()
            records.append(self._record(moment.seq, len(records), value))
        beat = {**head, "exp_us": moment.cut_us + HEARTBEAT_EXPIRES_US, "state_sha256": self._sha256}
        records.append(self._record(moment.seq, len(records), orjson.dumps(beat)))
        return planned._replace(records={**planned.records, "state": records})

    def _take(self, as_of_us: int) -> list[bytes]:
        """Take the commands that were ordered up to ``as_of_us``, shard by shard; the others stay."""
        values: list[bytes] = []
        for shard in self._unpublished:
            while shard and shard[0].as_of_us <= as_of_us:
                values += shard.popleft().commands
        return values

    def _record(self, seq: int, at: int, value: bytes) -> Record:
        return self.numbering.record(TOPIC, seq, at, str(self.configuration["issuer"]), value)

    def _head(self, seq: int, cut_us: int) -> dict[str, Any]:
        configuration = self.configuration
        who = {"v": 1, "iss": configuration["issuer"], "aud": ["*"], "env": configuration["environment"]}
        return {**who, "seq": seq, "iat_us": cut_us, "nbf_us": cut_us}

    def _apply(self, value: bytes) -> str:
        """Take a command into the state; return its target."""
        command = msgspec.json.decode(value, type=_Command)
        name = f"{command.target['scope']}:{command.target['id']}"
        state = self._targets.setdefault(name, {"in_force": {}})
        self._said.pop(name, None)
        place = {"epoch": command.epoch, "seq": command.seq, "id": command.id}
        state |= {"target": command.target, **place}
        entry = {**place, "type": command.type, "action": command.action, "iat_us": command.iat_us}
        if command.type == RELEASE:
            state["in_force"].pop("mode", None)
            return name
        slot = "mode" if command.type in MODES else " ".join(filter(None, [command.type, subject_of(command.action)]))
        before = state["in_force"].get(slot)
        if slot != "mode" or before is None or MODES[command.type] >= MODES[before["type"]]:
            state["in_force"][slot] = entry
        return name

    def _target(self, name: str, now_us: int) -> _TargetStatement:
        said = self._said.get(name)
        if said is None or not said.from_us <= now_us < said.until_us:
            said = self._said[name] = self._say(self._targets[name], now_us)
        return said

    def _say(self, state: dict[str, Any], now_us: int) -> _TargetStatement:
        """Say a target; what is asked for is told for an hour, so until the first of those hours is over."""
        in_force, until_us = [], FOREVER_US
        for slot, entry in state["in_force"].items():
            if slot != "mode" and entry["type"] not in SETTINGS:
                if now_us - entry["iat_us"] >= ACTION_IN_FORCE_US:
                    continue
                until_us = min(until_us, entry["iat_us"] + ACTION_IN_FORCE_US)
            in_force.append({key: item for key, item in entry.items() if key != "iat_us"})
        target = {**{key: state[key] for key in ("target", "epoch", "seq", "id")}, "in_force": in_force}
        return _TargetStatement(orjson.dumps(target), len(in_force), now_us, until_us)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes; between two epochs of the engine no second waits."""
        invariant(not self._waiting, "a second is published in the epoch in which its last shard passed it")
        state = {
            "configuration": self.configuration,
            "partition": self.numbering.partition,
            "counts": self.numbering.counts,
            "told": [[list(sent) for sent in shard] for shard in self._unpublished],
            "passed": self._passed_us,
            "targets": self._targets,
            "last": [self._full_as_of_us, self._sha256],
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "DesiredState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state, self = unpack(SCHEMA, data), cls()
        self.configuration, self.numbering.partition = state["configuration"], state["partition"]
        self.numbering.counts, self._targets = state["counts"], state["targets"]
        self._unpublished = [deque(ShardCommands(*sent) for sent in shard) for shard in state["told"]]
        self._passed_us = list(state["passed"])
        self._full_as_of_us, self._sha256 = state["last"]
        return self
