"""What a shard hears in a slice besides movements: venue states, notices, and alerts of signals.

Everything is told once. A shard turns it into what its own playbook may act on: an alert about an instrument concerns
the accounts that hold it. The second operator hears what shard 0 heard, and there an alert about an instrument concerns
its underlying; it also writes the alert down, since no shard is closer to a market than another.
"""

from collections.abc import Iterator
from typing import Any

from seawall.operators.core.frames import News
from seawall.operators.core.ledger import Ledger
from seawall.schemas import events as ev


def news_of(events: list[Any], ledger: Ledger) -> list[News]:
    """Return what the shard's own rules hear."""
    found: list[News] = []
    for event in events:
        if isinstance(event, ev.Signal):
            for at, alert in enumerate(event.alerts):
                evidence = alert_id(event, at)
                found += [News("alert", scope, alert.kind, evidence) for scope in _holders(alert.scope, ledger)]
        elif isinstance(event, ev.VenueStatus | ev.Notice):
            found.append(_plain(event))
    return found


def wide_news_of(events: list[Any], ledger: Ledger) -> list[News]:
    """Return what the second operator's rules hear."""
    found: list[News] = []
    for event in events:
        if isinstance(event, ev.Signal):
            for at, alert in enumerate(event.alerts):
                found.append(News("alert", _underlying(alert.scope, ledger), alert.kind, alert_id(event, at)))
        elif isinstance(event, ev.VenueStatus | ev.Notice):
            found.append(_plain(event))
    return found


def alerts_of(events: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the alerts of signals in the form of the topic ``alerts``, without their place in it."""
    for event in events:
        if isinstance(event, ev.Signal):
            for alert in event.alerts:
                yield {
                    "kind": alert.kind,
                    "scope": alert.scope,
                    "score": alert.score,
                    "severity": alert.severity,
                    "text": alert.text,
                    "contributions": alert.contributions,
                }


def alert_id(signal: ev.Signal, at: int) -> str:
    """Return what evidence calls an alert of a signal."""
    return f"signal:{signal.group}-{signal.seq}:{at}"


def _plain(event: ev.VenueStatus | ev.Notice) -> News:
    if isinstance(event, ev.VenueStatus):
        return News("venue_status", event.venue, event.status, f"venue_status:{event.venue}:{event.event_time_us}")
    return News("notice", event.subject, event.kind, f"notice:{event.notice_id}")


def _holders(scope: str, ledger: Ledger) -> list[str]:
    """Return the scopes within a shard that an alert concerns: its own, or the accounts that hold the instrument."""
    kind, _, name = scope.partition(":")
    number = ledger.directory.instruments.get(name) if kind == "instrument" else None
    if number is None:
        return [scope]
    rows, directory = ledger.positions.rows, ledger.directory
    held = (rows["units"] != 0) & (rows["instrument"] == number)
    accounts = dict.fromkeys(rows["account"][held].tolist())
    return [f"account:{directory.own_names[account]}" for account in sorted(accounts)]


def _underlying(scope: str, ledger: Ledger) -> str:
    kind, _, name = scope.partition(":")
    number = ledger.directory.instruments.get(name) if kind == "instrument" else None
    if number is None:
        return scope
    record = ledger.directory.instrument_records[number]
    return f"underlying:{record.underlying or record.base}"
