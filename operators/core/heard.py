"""What a shard hears in a slice: venue states, notices, answers to commands, alerts of signals, forced fills.

Everything is told once. A shard turns it into what its own playbook may act on: an alert about an instrument concerns
the accounts that hold it. The second operator hears what shard 0 heard, and there an alert about an instrument concerns
its underlying; it also writes the alert down, since no shard is closer to a market than another.
"""

from collections.abc import Iterator
from typing import Any

from seawall.operators.core.frames import News
from seawall.operators.core.ledger import Ledger
from seawall.schemas import events as ev
from seawall.schemas.releases import release_of
from seawall.schemas.slices import Fills

TOLD = (ev.VenueStatus, ev.Notice, ev.Acknowledgement, ev.Release)
ORDER = "order"  # the source of a fill that nobody forced


def news_of(events: list[Any], ledger: Ledger) -> list[News]:
    """Return what the shard's own rules hear."""
    found: list[News] = []
    for event in events:
        if isinstance(event, ev.Signal):
            for at, alert in enumerate(event.alerts):
                evidence = alert_id(event, at)
                found += [News("alert", scope, alert.kind, evidence) for scope in _holders(alert.scope, ledger)]
        elif isinstance(event, TOLD):
            found.append(_plain(event))
    return found


def wide_news_of(events: list[Any], ledger: Ledger) -> list[News]:
    """Return what the second operator's rules hear."""
    found: list[News] = []
    for event in events:
        if isinstance(event, ev.Signal):
            for at, alert in enumerate(event.alerts):
                found.append(News("alert", _underlying(alert.scope, ledger), alert.kind, alert_id(event, at)))
        elif isinstance(event, TOLD):
            found.append(_plain(event))
    return found


def forced_fills(fills: Fills, ledger: Ledger) -> list[News]:
    """Return, per account and source, the first fill of a slice that a venue or a person forced."""
    named = ledger.directory.named
    found: dict[tuple[str, str], News] = {}
    for name, account, source in zip(fills.id, fills.account, fills.source, strict=True):
        if source != ORDER and account in named:
            scope = f"account:{named[account][0]}"
            found.setdefault((scope, source), News("fill", scope, source, f"fill:{name}"))
    return list(found.values())


def wide_forced_fills(fills: Fills, ledger: Ledger) -> list[News]:
    """Return the same by underlying, for our own accounts: a hedge that was taken away leaves one unhedged."""
    directory = ledger.directory
    found: dict[tuple[str, str], News] = {}
    for name, account, instrument, source in zip(fills.id, fills.account, fills.instrument, fills.source, strict=True):
        if source != ORDER and directory.account_records[account].holder == "house":
            record = directory.instrument_records[instrument]
            scope = f"underlying:{record.underlying or record.base}"
            found.setdefault((scope, source), News("fill", scope, source, f"fill:{name}"))
    return list(found.values())


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


def _plain(event: ev.VenueStatus | ev.Notice | ev.Acknowledgement | ev.Release) -> News:
    if isinstance(event, ev.Release):
        command, value = release_of(event.document)
        return News("release", str(command.target), value.decode(), f"release:{command.id}")
    if isinstance(event, ev.Acknowledgement):
        evidence = f"acknowledgement:{event.subscriber}:{event.event_time_us}"
        return News("acknowledgement", event.command_id, event.outcome, evidence)
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
