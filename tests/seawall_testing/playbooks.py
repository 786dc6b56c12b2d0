"""A desk of a client and two house accounts at a venue, and playbooks for it, to test mitigation with."""

from pathlib import Path
from typing import Any

from seawall_testing.desk import SECOND, T0, Json, account, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

LIMIT: Json = {"id": "low", "scope": "account:*", "measure": "equity", "direction": "below"}
LIMIT |= {"warning": 300, "soft": 200, "hard": 100}


def rule(name: str, when: Json, *commands: Any, **fields: Any) -> Json:
    """Return a rule; a command is (kind, target) or (kind, target, action)."""
    listed = [{"kind": c[0], "target": c[1], **(c[2] if len(c) > 2 else {})} for c in commands]
    return {"id": name, "when": when, "commands": listed, **fields}


def at_level(level: str) -> Json:
    return {"limit": "low", "level": level}


def run_playbook(
    folder: Path,
    playbook: list[Json],
    *more: Json | list[Json],
    limits: list[Json] | None = None,
    **options: Any,
) -> PipelineRun:
    """Run a desk of a client and two house accounts at a venue, which all begin with 1,000; events in order of time."""
    hub = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue", "group": "hubs"}
    house = {"type": "account", "counterparty": "hub", "holder": "house", "venue": "hub", "netting_set": "n"}
    base = [instrument(), hub, {**house, "account": "h1"}, {**house, "account": "h2"}, account("a")]
    events = [mark(T0 + 1, "100")]
    events += [transfer(T0 + 2, f"start-{name}", name, amount="1000") for name in ("h1", "h2", "a")]
    events += [event for item in more for event in (item if isinstance(item, list) else [item])]
    events.sort(key=lambda event: int(event["event_time_us"]))
    return run_pipeline(
        folder, *base, *events, limits=[LIMIT] if limits is None else limits, playbook=playbook, **options
    )


def equity(at_s: float, amount: str, name: str = "a") -> list[Json]:
    """Return transfers that move the equity of an account, which begins with 1,000, by an amount."""
    return [transfer(int(T0 + at_s * SECOND), f"x{name}{at_s}", name, amount=amount)]


def payloads(ran: PipelineRun) -> list[Json]:
    """Return the payload of every command."""
    return ran.topic("commands")


def external_event(at_s: float, name: str, /, **fields: Any) -> Json:
    return {"type": name, "event_time_us": int(T0 + at_s * SECOND), **fields}


def acknowledgement(at_s: float, command: Json, outcome: str, subscriber: str = "oms") -> Json:
    """Return a subscriber's acknowledgement of a command."""
    return external_event(at_s, "acknowledgement", command_id=command["id"], subscriber=subscriber, outcome=outcome)


def signal(at_s: float, *alerts: Json, depth: float = 0.0, seq: int = 0, **venues: float) -> Json:
    """Return what ``market`` says: depth of ETH-PERP in all and at venues, and alerts (kind and scope)."""
    at_us = int(T0 + at_s * SECOND)
    row = {"instrument": "ETH-PERP", "price": 100.0, "source": "mark", "time_us": at_us, "state": "ready"}
    row |= {"depth": [depth / 100] * 8} if depth else {}
    row["venues"] = [
        {"venue": name, "price": 100.0, "kind": "mark", "time_us": at_us, "depth": [worth / 100] * 8}
        for name, worth in venues.items()
    ]
    told = [{"score": 1.0, "severity": 2, "text": "test", **one} for one in alerts]
    head = {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": seq}
    return {**head, "instruments": [row] if depth or venues else [], "alerts": told}


def marks_every_second(until_s: int) -> list[Json]:
    """Return marks, one a second, so that time goes on."""
    return [mark(T0 + at * SECOND + 1, "100") for at in range(1, until_s + 1)]
