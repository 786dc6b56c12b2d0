"""Incidents of a run, ``seawall incidents``: causes, the commands they led to, and the answers, in order.

An incident is one cause: a limit on one scope that broke, a venue that is not up, a notice, an alert, a fill that a
venue forced. A command that follows from another command's answer belongs to the incident of the first. An incident is
open while its cause lasts or any of its commands is neither done nor over. Everything is read from the topics, so any
subscriber could see the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from seawall.connectors.bus import Bus, read_all
from seawall.operators.core.mitigation import MODE_RANKS, TARGET_STATES
from seawall.schemas import events as ev
from seawall.schemas.records import Slice, Stored, decode_slice

# ``seawall incidents``: what is open, why, what was commanded because of it, and who answered, in order.

CLOSED_STATES = ("completed", "rejected", "expired", "contradicted", "superseded")
StoryLine = tuple[int, str]


@dataclass
class CommandStory:
    """A command and its answers; ``state`` is by the last word that was heard of it."""

    payload: dict[str, Any]
    state: str = "sent"
    lines: list[StoryLine] = field(default_factory=list)
    released: bool = False

    @property
    def target(self) -> str:
        """Its target as one word."""
        return f"{self.payload['target']['scope']}:{self.payload['target']['id']}"


@dataclass
class Incident:
    """One cause with what followed; ``stands`` tells whether the cause still does."""

    cause: str
    opened_us: int
    stands: bool = False
    lines: list[StoryLine] = field(default_factory=list)
    commands: list[CommandStory] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Return whether the cause lasts or a command is neither done nor over."""
        return self.stands or any(command.state not in CLOSED_STATES for command in self.commands)

    def story(self) -> list[StoryLine]:
        """Return everything in order of time."""
        return sorted(
            [*self.lines, *(line for command in self.commands for line in command.lines)], key=lambda one: one[0]
        )

    def restricted(self) -> dict[str, str]:
        """Return the targets that its commands restricted; only people release them."""
        found: dict[str, int] = {}
        for command in self.commands:
            if command.released:
                continue
            rung = MODE_RANKS.get(command.payload["type"], 0)
            if rung:
                found[command.target] = max(found.get(command.target, 0), rung)
        return {target: TARGET_STATES[rung] for target, rung in found.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "cause": self.cause,
            "open": self.open,
            "opened_us": self.opened_us,
            "restricted": self.restricted(),
            "story": [{"at_us": at_us, "text": text} for at_us, text in self.story()],
            "commands": [
                {"id": one.payload["id"], "kind": one.payload["type"], "target": one.target, "state": one.state}
                for one in self.commands
            ],
        }


class Incidents:
    """All incidents of a run: a fold of its breaches, venue states, notices, commands, answers and audit."""

    def __init__(self) -> None:
        self.found: dict[str, Incident] = {}
        self.as_of_us = 0
        self._breaches: dict[str, str] = {}  # id of a breach's record -> cause
        self._commands: dict[str, tuple[str, CommandStory]] = {}

    def breach(self, id: str, breach: dict[str, Any]) -> None:
        """Take a change of level."""
        cause = f"limit {breach['limit']} on {breach['scope']}"
        self._breaches[id] = cause
        text = f"{breach['previous_level']} to {breach['level']}: {breach['measure']} {breach['value']:.6g}"
        text += f" against {breach['bound']:.6g} ({breach['cause']})"
        self._note(cause, breach["as_of_us"], text, breach["level"] != "none")

    def news(self, event: ev.VenueStatus | ev.Notice) -> None:
        """Take a venue's status or a notice."""
        if isinstance(event, ev.Notice):
            text = f"{event.kind}, severity {event.severity}: {event.detail or 'no detail'}"
            self._note(f"notice {event.notice_id} on {event.subject}", event.event_time_us, text, False)
        elif event.status != "up" or f"venue {event.venue}" in self.found:
            text = event.status + (f": {event.detail}" if event.detail else "")
            self._note(f"venue {event.venue}", event.event_time_us, text, event.status != "up")

    def command(self, payload: dict[str, Any]) -> None:
        """Take a command, after everything that can have caused it."""
        cause, at_us = self._cause(payload["evidence"]), payload["evidence"]["as_of_us"]
        ordered = CommandStory(payload)
        action = ", ".join(f"{name} {value}" for name, value in payload["action"].items())
        text = f"{payload['type']} to {ordered.target} by rule {payload['reason']['rule']}" + (
            f" ({action})" if action else ""
        )
        ordered.lines.append((at_us, text))
        incident = self.found.setdefault(cause, Incident(cause, at_us))
        incident.commands.append(ordered)
        self._commands[payload["id"]] = (cause, ordered)
        before = self._commands.get(payload["supersedes"] or "")
        if before is not None and before[1].state not in CLOSED_STATES:
            before[1].state = "superseded"

    def answer(self, event: ev.Acknowledgement) -> None:
        """Take a subscriber's answer."""
        found = self._commands.get(event.command_id)
        if found is not None:
            ordered = found[1]
            text = f"{event.subscriber} answers {event.outcome} to {ordered.payload['type']} to {ordered.target}"
            ordered.lines.append((event.event_time_us, text))
            ordered.state = event.outcome

    def decided(self, at_us: int, kind: str, body: dict[str, Any]) -> None:
        """Take what the audit says of a command: a deadline, a contradiction, or that it was withheld."""
        if kind == "withheld":
            cause = self._cause({"id": body["breach"], "topic": "breaches" if body["breach"] in self._breaches else ""})
            text = f"{body['kind']} to {body['target']} by rule {body['rule']} withheld: {body['why']}"
            self._note(cause, at_us, text, None)
        elif kind == "release":
            self._release(at_us, body)
        elif body["command_id"] in self._commands and body["state"] in ("silent", "late", "expired", "contradicted"):
            ordered = self._commands[body["command_id"]][1]
            ordered.lines.append((at_us, f"{body['kind']} to {body['target']} is {body['state']} ({body['evidence']})"))
            if body["state"] in CLOSED_STATES:
                ordered.state = body["state"]

    def _release(self, at_us: int, body: dict[str, Any]) -> None:
        for _, ordered in self._commands.values():
            if ordered.target == body["target"] and body["outcome"] == "released":
                ordered.released = True
                ordered.lines.append((at_us, f"people released {ordered.target}"))
                ordered.state = ordered.state if ordered.state in CLOSED_STATES else "superseded"

    def expire(self, as_of_us: int) -> None:
        """Take it that nobody waits for answers to what has expired."""
        self.as_of_us = as_of_us
        for _, ordered in self._commands.values():
            if ordered.state not in CLOSED_STATES and ordered.payload["exp_us"] <= as_of_us:
                ordered.state = "expired"

    def _cause(self, evidence: dict[str, Any]) -> str:
        id = evidence["id"]
        if evidence.get("topic") == "breaches":
            return self._breaches.get(id, f"breach {id}")
        if evidence.get("topic") == "commands":
            return self._commands[id][0] if id in self._commands else f"command {id}"
        kind, _, rest = id.partition(":")
        if kind == "venue_status":
            return f"venue {rest.rpartition(':')[0]}"
        known = (cause for cause in self.found if cause.startswith(f"notice {rest} on "))
        return (
            next(known, f"notice {rest}") if kind == "notice" else f"alert {id}" if kind != "fill" else f"fill {rest}"
        )

    def _note(self, cause: str, at_us: int, text: str, stands: bool | None) -> None:
        incident = self.found.setdefault(cause, Incident(cause, at_us))
        incident.lines.append((at_us, text))
        incident.stands = incident.stands if stands is None else stands


class _Audited(msgspec.Struct):
    """Of an audit record, what incidents need."""

    kind: str
    body: msgspec.Raw


def read_incidents(bus: Bus) -> Incidents:
    """Fold the topics of a run into its incidents, in order of event time."""
    reader = IncidentReader(bus)
    while reader.read():
        pass
    for stored in read_all(bus, "journal", 0):
        reader.take_slice(decode_slice(stored.value))
    return reader.settle(None)


class IncidentReader:
    """Reads what incidents are made of as it arrives: topics by itself, slices of shard 0 from whoever reads these.

    What was read waits until everything that can come before it was read too (``settle``).
    """

    def __init__(self, bus: Bus) -> None:
        self._bus, self._found = bus, Incidents()
        self._items: list[tuple[int, int, Any]] = []  # event time, what comes first at one time, what to do
        self._offsets: dict[tuple[str, int], int] = {}
        self._waiting: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        self._audited_us: dict[int, int] = {}
        self._last_us = 0

    def read(self) -> bool:
        """Read on, decisions before what caused them, so many records per partition; tell whether any came."""
        before = sum(self._offsets.values())
        for topic, take in (("audit", self._audit), ("commands", self._command), ("breaches", self._breach)):
            for partition in self._bus.partitions(topic):
                offset = self._offsets.get((topic, partition), self._bus.start(topic, partition))
                for stored in self._bus.read(topic, partition, offset):
                    take(partition, stored)
                    offset = stored.offset + 1
                self._offsets[topic, partition] = offset
        return sum(self._offsets.values()) != before

    def take_slice(self, piece: Slice) -> None:
        """Take the news and the answers in a slice of shard 0."""
        self._last_us = piece.as_of_us
        for event in piece.events:
            if isinstance(event, ev.VenueStatus | ev.Notice):
                self._items.append((piece.as_of_us, 0, (self._found.news, event)))
            elif isinstance(event, ev.Acknowledgement):
                self._items.append((piece.as_of_us, 2, (self._found.answer, event)))

    def settle(self, partitions: int | None) -> Incidents:
        """Fold what is known to be complete, by how far each of so many audit partitions has come; None: everything."""
        until_us = self._last_us
        if partitions is not None:
            until_us = min(until_us, *(self._audited_us.get(at, 0) for at in range(partitions)))
        due = [item for item in self._items if partitions is None or item[0] <= until_us]
        self._items = [item for item in self._items if partitions is not None and item[0] > until_us]
        for _, _, (take, *given) in sorted(due, key=lambda item: item[:2]):
            take(*given)
        self._found.expire(until_us)
        return self._found

    def _breach(self, _: int, stored: Stored) -> None:
        breach = orjson.loads(stored.value)
        self._items.append((breach["as_of_us"], 0, (self._found.breach, stored.headers["seawall-id"], breach)))

    def _command(self, _: int, stored: Stored) -> None:
        payload = orjson.loads(stored.value)
        self._items.append((payload["evidence"]["as_of_us"], 1, (self._found.command, payload)))

    def _audit(self, partition: int, stored: Stored) -> None:
        """Take what the audit says of commands, at the time of the slice that they stand in, which closes it."""
        record = msgspec.json.decode(stored.value, type=_Audited)
        waiting = self._waiting.setdefault(partition, [])
        if record.kind in ("withheld", "command_state", "release"):
            waiting.append((record.kind, orjson.loads(bytes(record.body))))
        elif record.kind in ("slice", "second"):
            at_us = self._audited_us[partition] = msgspec.json.decode(record.body, type=_Time).as_of_us
            self._items += [(at_us, 3, (self._found.decided, at_us, kind, body)) for kind, body in waiting]
            waiting.clear()


class _Time(msgspec.Struct):
    as_of_us: int


# Incidents as lines for a person and as plain values for a program.


def incident_lines(incidents: list[Incident], total: int) -> Iterator[str]:
    """Yield the incidents, each with its story in order of time, and a last line that counts them."""
    for incident in incidents:
        yield f"{format_time(incident.opened_us)}  {'OPEN  ' if incident.open else 'closed'}  {incident.cause}"
        for at_us, text in incident.story():
            yield f"    {format_time(at_us)}  {text}"
        for target, state in incident.restricted().items():
            yield f"    {target} stands at {state} until people release it"
    still = sum(incident.open for incident in incidents)
    yield f"{still} open of {total} incidents"


def format_time(time_us: int) -> str:
    """Return an event time in UTC, to a tenth of a second."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:21]
