"""Observations beside the measures of a slice: external events, and the states of prices."""

from collections.abc import Iterator, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import ExternalEvent
from seawall.operators.core.portfolio._ledger import Ledger
from seawall.schemas import events as ev
from seawall.schemas.evidence import open_release
from seawall.schemas.records import Fills

F8 = NDArray[np.float64]

# External events of a slice: venue states, notices, answers to commands, alerts of signals, forced fills.
#
# Everything is told once. A shard turns it into what its own playbook may act on: an alert about an instrument concerns
# the accounts that hold it. The second operator hears what shard 0 heard, and there an alert about an instrument
# concerns its underlying; it also writes the alert down, since no shard is closer to a market than another.

EXTERNAL_EVENTS = (ev.VenueStatus, ev.Notice, ev.Acknowledgement, ev.Release)
ORDER = "order"  # the source of a fill that nobody forced


def external_events_of(events: list[Any], ledger: Ledger) -> list[ExternalEvent]:
    """Return what the shard's own rules hear."""
    found: list[ExternalEvent] = []
    for event in events:
        if isinstance(event, ev.Signal):
            for at, alert in enumerate(event.alerts):
                evidence = alert_id(event, at)
                found += [
                    ExternalEvent("alert", scope, alert.kind, evidence) for scope in _holders(alert.scope, ledger)
                ]
        elif isinstance(event, EXTERNAL_EVENTS):
            found.append(_as_external_event(event))
    return found


def firm_external_events(events: list[Any], ledger: Ledger) -> list[ExternalEvent]:
    """Return what the second operator's rules hear."""
    found: list[ExternalEvent] = []
    for event in events:
        if isinstance(event, ev.Signal):
            for at, alert in enumerate(event.alerts):
                found.append(ExternalEvent("alert", _underlying(alert.scope, ledger), alert.kind, alert_id(event, at)))
        elif isinstance(event, EXTERNAL_EVENTS):
            found.append(_as_external_event(event))
    return found


def forced_fills(fills: Fills, ledger: Ledger) -> list[ExternalEvent]:
    """Return, per account and source, the first fill of a slice that a venue or a person forced."""
    named = ledger.directory.named
    found: dict[tuple[str, str], ExternalEvent] = {}
    for name, account, source in zip(fills.id, fills.account, fills.source, strict=True):
        if source != ORDER and account in named:
            scope = f"account:{named[account][0]}"
            found.setdefault((scope, source), ExternalEvent("fill", scope, source, f"fill:{name}"))
    return list(found.values())


def firm_forced_fills(fills: Fills, ledger: Ledger) -> list[ExternalEvent]:
    """Return the same by underlying, for our own accounts: a hedge that was taken away leaves one unhedged."""
    directory = ledger.directory
    found: dict[tuple[str, str], ExternalEvent] = {}
    for name, account, instrument, source in zip(fills.id, fills.account, fills.instrument, fills.source, strict=True):
        if source != ORDER and directory.account_records[account].holder == "house":
            record = directory.instrument_records[instrument]
            scope = f"underlying:{record.underlying or record.base}"
            found.setdefault((scope, source), ExternalEvent("fill", scope, source, f"fill:{name}"))
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


def _as_external_event(event: ev.VenueStatus | ev.Notice | ev.Acknowledgement | ev.Release) -> ExternalEvent:
    if isinstance(event, ev.Release):
        command, value = open_release(event.document)
        return ExternalEvent("release", str(command.target), value.decode(), f"release:{command.id}")
    if isinstance(event, ev.Acknowledgement):
        evidence = f"acknowledgement:{event.subscriber}:{event.event_time_us}"
        return ExternalEvent("acknowledgement", event.command_id, event.outcome, evidence)
    if isinstance(event, ev.VenueStatus):
        return ExternalEvent(
            "venue_status", event.venue, event.status, f"venue_status:{event.venue}:{event.event_time_us}"
        )
    return ExternalEvent("notice", event.subject, event.kind, f"notice:{event.notice_id}")


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


# Price states: what is wrong with the prices that a book was valued at, reported, never an old price in silence.
#
# ``stale``
#     Instruments held here whose mark is older than ``mark_max_age_s``; their last mark is used.
# ``missing``
#     Instruments held here whose price is not known: without a mark, or with one older than ``price_max_age_s``.
# ``unvalued``
#     Options held here without a volatility or a forward (`OptionSheet`).
# ``expiring``
#     Instruments held here past their expiry, without a settlement mark; valued at their last mark.
# ``unpriced``
#     Assets with balances here and no way to the reporting currency; as collateral they count 0.
# ``depegged``
#     Assets with balances here whose peg is broken: the price of their market alone counts.
# ``pegged``
#     Assets held here that stand at their peg, because they never had a market.
# ``outage``
#     What has no price and leaves very many accounts here unvalued.
#
# Each comes with an alert of its kind when it begins; a peg that is back has one too, the others end without.

KINDS = ("stale", "missing", "unvalued", "expiring", "unpriced", "depegged", "pegged", "outage")
ALERTS = {
    "stale": ("stale_mark", "instrument", 1, "its last mark is older than mark_max_age_s"),
    "missing": (
        "missing_mark",
        "instrument",
        2,
        "it is held and its price is not known: it counts at the worse end of an interval",
    ),
    "unvalued": ("unvalued_option", "instrument", 1, "it is held and has no implied volatility or no forward"),
    "expiring": ("unsettled_expiry", "instrument", 2, "it is past its expiry and has no settlement mark"),
    "unpriced": ("unpriced_asset", "asset", 2, "balances, terms or debts are in it and it has no rate: it counts 0"),
    "pegged": (
        "asset_at_peg",
        "asset",
        1,
        "it never had a market and stands at its peg, at worst peg_haircut below it",
    ),
    "outage": ("unvalued_feed", "", 2, "its price is not known, which leaves very many accounts unvalued"),
    "depegged": ("peg_broken", "asset", 2, "its market stays more than peg_tolerance below its peg and counts alone"),
}
PEG_RETURNED = "its market has been back for peg_return_s, or a new asset record lifted it: its peg is a cap again"
States = dict[str, list[str]]
NEVER_US = 1 << 62


class OldMarkSearch:
    """The instruments held whose mark is old or missing, looked for again only where that may have changed.

    It changes when positions open or close, when one of these instruments is marked, when an older mark comes to stand
    again, when marks are to be younger than before, and when the oldest mark that is still good enough is so no more.
    All of it can be found again from the ledger, so it is no state.
    """

    def __init__(self) -> None:
        self._found: States = {}
        self._numbers: frozenset[int] = frozenset()
        self.until_us = -1
        self._seen = (-1, -1, -1)

    def hear(self, instruments: list[int]) -> None:
        """Take note of instruments that were marked."""
        if not self._numbers.isdisjoint(instruments):
            self.until_us = -1

    def at(self, ledger: Ledger, as_of_us: int) -> States:
        """Return the names of the instruments ``stale`` and ``missing``."""
        seen = (ledger.open.changes, ledger.mark_age_us_max, ledger.marks.set_back)
        if as_of_us > self.until_us or seen != self._seen:
            self._seen = seen
            self._look(ledger, as_of_us)
        return self._found

    def _look(self, ledger: Ledger, as_of_us: int) -> None:
        size = min(ledger.marks.rows.size, len(ledger.open.at_mark))
        held = ledger.open.at_mark[:size].nonzero()[0]
        since, numbers = _since(ledger, held), ledger.marks.rows["instrument"][held]
        old = since < as_of_us - ledger.mark_age_us_max
        unknown = since < as_of_us - ledger.doubts.end_us
        until_us = since[old & ~unknown].min(initial=NEVER_US).item() + ledger.doubts.end_us
        self.until_us = min(int(since[~old].min(initial=NEVER_US)) + ledger.mark_age_us_max, until_us)
        self._numbers, self._found = frozenset(numbers[old].tolist()), {}
        if self._numbers:
            unmarked = (since == 0) | unknown
            self._found = {
                "stale": _named(ledger, numbers[old & ~unmarked]),
                "missing": _named(ledger, numbers[old & unmarked]),
            }


def _since(ledger: Ledger, held: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the time of mark rows; a venue's without a price of its own is as old as the one across."""
    rows = ledger.marks.rows
    since: NDArray[np.int64] = rows["time_us"][held]
    if ledger.marks.venue_accounts:
        across = rows["time_us"][ledger.marks.across()[rows["instrument"][held]]]
        since = np.where(np.isnan(rows["price"][held]), across, since)
    return since


def _expiring(ledger: Ledger, as_of_us: int) -> list[str]:
    if min(ledger.expiring.values()) > as_of_us:
        return []
    numbers = [number for number, expiry_us in ledger.expiring.items() if expiry_us <= as_of_us]
    held = [n for n in numbers if any(map(ledger.open.is_held_at, ledger.marks.rows_of(n)))]
    return _named(ledger, np.array(held, dtype=np.int64))


def _unpriced(ledger: Ledger, agreed: Set[int]) -> list[str]:
    prices, rows = ledger.marks.asset_prices, ledger.balances.rows
    bad = np.isnan(prices[rows["asset"]]) & (rows["amount"] != 0)
    names, owed = list(ledger.directory.assets), {asset for asset in agreed if np.isnan(prices[asset])}
    return [names[number] for number in sorted(owed | set(rows["asset"][bad].tolist()))]


def _named(ledger: Ledger, numbers: Any) -> list[str]:
    return [ledger.directory.instrument_records[number].instrument for number in sorted(set(numbers.tolist()))]


class PriceStateMonitor:
    """Alerts for states that begin; its state is what was in each when it was last looked at.

    Attributes
    ----------
    until_us
        Until when no price is in any state unless a mark comes or what is held changes; -1 where that is not known.
    """

    def __init__(self) -> None:
        self._known: States = {}
        self._old = OldMarkSearch()
        self.until_us = -1

    def hear(self, instruments: list[int]) -> None:
        """Take note of instruments that were marked."""
        self.until_us = -1
        self._old.hear(instruments)

    def states(self, ledger: Ledger, as_of_us: int) -> States:
        """Return the names in each state, in order of number; states without any are left out."""
        states = dict(self._old.at(ledger, as_of_us))
        if ledger.directory.has_option:
            states["unvalued"] = ledger.sheet.unvalued(ledger.options_held())
        if ledger.expiring:
            states["expiring"] = _expiring(ledger, as_of_us)
        prices, agreed = ledger.marks.asset_prices, ledger.credit.assets()
        priced = not np.isnan(prices[list(agreed | ledger.balances.assets)]).any()
        if not priced:
            states["unpriced"] = _unpriced(ledger, agreed)
        if depegged := ledger.marks.depegged & (agreed | ledger.balances.assets):
            known = list(ledger.directory.assets)
            states["depegged"] = [known[number] for number in sorted(depegged)]
        if (doubt := ledger.doubts.found) is not None:
            states |= {"pegged": ledger.doubts.pegged(), "outage": doubt.feeds}
        self.until_us = -1
        if not any(states.values()):
            if priced and not ledger.directory.has_option:
                self.until_us = min([self._old.until_us, *(expiry_us - 1 for expiry_us in ledger.expiring.values())])
            return {}
        return {kind: names for kind in KINDS if (names := states.get(kind))}

    def look(self, states: States, out: Any) -> bool:
        """Write an alert for every name that is new in its state; return whether anything began or ended."""
        if states == self._known:
            return False
        for kind, names in states.items():
            alert, scope, severity, text = ALERTS[kind]
            before = set(self._known.get(kind, ()))
            for name in names:
                if name not in before:
                    out.alert(alert, f"{scope}:{name}" if scope else name, severity, f"{name}: {text}")
        for name in self._known.get("depegged", ()):
            if name not in states.get("depegged", ()):
                out.alert("peg_returned", f"asset:{name}", 1, f"{name}: {PEG_RETURNED}")
        self._known = states
        return True

    def snapshot(self) -> States:
        """Return the state."""
        return self._known

    def restore(self, state: States) -> None:
        """Take the state of a snapshot."""
        self._known = state
