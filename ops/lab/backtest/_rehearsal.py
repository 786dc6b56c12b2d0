"""Rehearsals: a world of records that reacts to commands, played through risk in one closed loop.

The same world is played twice, with people and systems that obey commands and with the same that get none, so the
effect of a playbook can be measured. Records go one by one through the sequencer's rules and the core of risk; a
command changes what the world does from then on:

- an account that may only reduce, or not trade, no longer makes the fills that would;
- a position that is to be cut is cut after ``latency_us``, at the mark less ``slippage``, and our hedge of it with it;
- a client that is called pays after ``pays_after_us`` what it can;
- money is withdrawn from a venue that still lets it out; orders go to the venues that a reroute names.

Every command is accepted and completed, so the loop closes. Nothing here is a forecast: the reactions are the
assumptions above, the same in every rehearsal. Of each record of ``exposures`` only two numbers per row are decoded,
which takes a fifth of the time of plain values.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from math import fsum
from typing import Any

import msgspec
import orjson

from seawall.operators.core.journal import SlicingState
from seawall.operators.core.mitigation import MODE_RANKS, STRICTNESS
from seawall.operators.core.pipeline import Pipeline
from seawall.schemas.configuration import Configuration
from seawall.schemas.records import Record

# What a record of ``exposures`` says, as far as rehearsals and backtests hear it.
#
# A play hears a row of every account and counterparty per slice and needs two numbers of each. Decoded into these types
# the rest is skipped, which takes a fifth of the time of plain values.


class AccountRow(msgspec.Struct, gc=False):
    """An account; amounts in the reporting currency, the ratio None where it has none."""

    account: str
    equity: float
    margin_ratio: float | None = None


class CounterpartyRow(msgspec.Struct, gc=False):
    """A counterparty; amounts in the reporting currency, None where they are not measured."""

    counterparty: str
    current_exposure: float = 0.0
    pnl: float | None = None


class Exposures(msgspec.Struct):
    """One record: rows that moved, and the firm once a second."""

    as_of_us: int
    accounts: list[AccountRow]
    counterparties: list[CounterpartyRow]
    firm: dict[str, Any] = {}


decode_exposures = msgspec.json.Decoder(Exposures).decode


# Rehearsals: a world of records that reacts to commands, played through risk in one closed loop.

Json = dict[str, Any]
SECOND_US = 1_000_000
WITHHELD = b'"kind":"withheld"'  # of audit records, the only ones that are heard
CLOCK: Json = {
    "type": "instrument", "instrument": "CLOCK", "kind": "perpetual", "base": "CLOCK", "quote": "USD",
    "settlement": "USD", "quantity_increment": "1",
}  # fmt: skip


@dataclass
class WorldReactions:
    """Reactions of a world.

    Attributes
    ----------
    latency_us
        From a command to its effect.
    slippage
        What a forced trade gives up of the mark, a fraction.
    means
        Account -> what it can still pay when it is called.
    pays_after_us
        From a call to the payment.
    hedged_at
        The house account that holds what clients hold, because we are short what a client is long with us (contract.md,
        "Signs"); empty where nobody does.
    hedged
        The share of it that the house account holds, and of a forced trade that it follows.
    replies
        Records of the world that only happen after a command: id of the fill or transfer -> any of (kind, target).
    obeys
        Whether anyone listens.
    """

    latency_us: int = 500_000
    slippage: float = 0.002
    means: dict[str, float] = field(default_factory=dict)
    pays_after_us: int = 60_000_000
    hedged_at: str = ""
    hedged: float = 1.0
    replies: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    obeys: bool = True


@dataclass
class RehearsalResult:
    """Result of a rehearsal; amounts in the reporting currency."""

    commands: list[Json] = field(default_factory=list)
    breaches: list[Json] = field(default_factory=list)
    withheld: list[Json] = field(default_factory=list)
    firm: dict[str, float] = field(default_factory=dict)
    equity: dict[str, float] = field(default_factory=dict)
    caused_us: dict[str, int] = field(default_factory=dict)  # id of a breach or command -> when it stood
    peaks: dict[str, float] = field(default_factory=dict)  # highest current_exposure of each counterparty and the firm
    shortfall_max: float = 0.0
    dropped: int = 0

    def shortfall(self, accounts: Iterable[str]) -> float:
        """Return what accounts owe beyond all that they have."""
        return fsum(max(-self.equity.get(name, 0.0), 0.0) for name in accounts)

    def loss(self, clients: Iterable[str]) -> float:
        """Return what the firm lost: what it earned on paper less what clients cannot pay, turned."""
        return self.shortfall(clients) - self.firm.get("pnl", 0.0)

    def delays_s(self) -> list[float]:
        """Return, of each command, the event time from the end of the slice of its cause to the command, in seconds."""
        return [(command["iat_us"] - self._caused_us(command["evidence"])) / 1e6 for command in self.commands]

    def _caused_us(self, evidence: Json) -> int:
        id, last = evidence["id"], evidence["id"].rpartition(":")[2]
        reported_us = int(last) if id.startswith("venue_status:") else int(evidence["as_of_us"])
        return self.caused_us.get(id, reported_us)

    def most_per(self, window_us: int) -> int:
        """Return the most commands in any window, without cancels and halts, which no budget holds up."""
        times = sorted(
            c["evidence"]["as_of_us"] for c in self.commands if c["type"] not in ("CANCEL_ORDERS", "HALT_TRADING")
        )
        return max((sum(1 for other in times if at <= other < at + window_us) for at in times), default=0)

    def transitions(self) -> dict[str, int]:
        """Return how often each target went from one rung of its ladder to another."""
        found: dict[str, int] = {}
        for command in self.commands:
            if command["type"] in MODE_RANKS:
                target = f"{command['target']['scope']}:{command['target']['id']}"
                found[target] = found.get(target, 0) + 1
        return found


class Rehearsal:
    """One play of a world: ``play(records) -> RehearsalResult``."""

    def __init__(self, configuration: Configuration, world: WorldReactions) -> None:
        self.world, self.result = world, RehearsalResult()
        self._slicing, self._risk = SlicingState(configuration), Pipeline(configuration.shards)
        self._queue: list[tuple[int, int, Json]] = []
        self._numbers = count()
        self._mode: dict[str, int] = {}
        self._venue_of: dict[str, str] = {}
        self._held: dict[tuple[str, str], float] = {}
        self._marks: dict[str, float] = {}
        self._blocked: set[str] = set()
        self._commanded: set[tuple[str, str]] = set()
        self._routes: dict[str, str] = {}
        self._owed: dict[str, float] = {}  # what clients below nothing owe

    def play(self, records: Iterable[tuple[int, Json]]) -> RehearsalResult:
        """Play records, given with their times in order, and what follows from them."""
        self._take(CLOCK)
        now_us = 0
        for at_us, record in records:
            now_us = now_us or at_us
            while now_us + SECOND_US < at_us:  # time goes on though nothing happens, or reactions would come too late
                now_us += SECOND_US
                self._react(now_us)
                self._take({"type": "mark", "event_time_us": now_us, "instrument": CLOCK["instrument"], "price": "1"})
            now_us = max(now_us, at_us)
            self._react(at_us)
            self._take(record)
        self._react(1 << 62)
        self._decide(self._slicing.finish().slices)
        return self.result

    def _react(self, until_us: int) -> None:
        while self._queue and self._queue[0][0] <= until_us:
            self._take(heapq.heappop(self._queue)[2])

    def _take(self, record: Json) -> None:
        changed = self._happens(record)
        if changed is None:
            self.result.dropped += 1
            return
        self._note(changed)
        self._decide(self._slicing.step(changed).slices)

    def _decide(self, slices: list[tuple[int, bytes]]) -> None:
        for _, value in slices:
            for audited in self._risk.step(value):
                for topic, records in audited.records.items():
                    for stored in records if topic in ("breaches", "commands", "exposures", "audit") else ():
                        self._take_record(topic, stored)

    # --- what the world does ----------------------------------------------------------------------------------------

    def _happens(self, record: Json) -> Json | None:
        """Return what becomes of a record of the world; None where a command keeps it from happening."""
        if not isinstance(record, dict):
            return record
        needs = self.world.replies.get(record.get("transfer_id") or record.get("fill_id") or "")
        if needs is not None and self._commanded.isdisjoint(needs):
            return None
        if record["type"] != "fill" or record.get("source", "order") != "order" or record.get("forced"):
            return {name: value for name, value in record.items() if name != "forced"}
        record = self._rerouted(record)
        mode = self._mode.get(record["account"], 0)
        if not mode:
            return record
        held = self._held.get((record["account"], record["instrument"]), 0.0)
        reduces = held * _signed(record) < 0 and abs(_signed(record)) <= abs(held)
        return record if mode == 1 and reduces else None

    def _rerouted(self, record: Json) -> Json:
        venue = self._venue_of.get(record["account"], "")
        to = self._routes.get(venue)
        return record if to is None or not record["account"].startswith("house/") else {
            **record, "account": f"house/{to}", "venue": to
        }  # fmt: skip

    def _note(self, record: Any) -> None:
        if not isinstance(record, dict):
            return
        match record["type"]:
            case "account":
                self._venue_of[record["account"]] = record.get("venue", "")
            case "mark":
                self._marks[record["instrument"]] = float(record["price"])
            case "fill":
                key = (record["account"], record["instrument"])
                self._held[key] = self._held.get(key, 0.0) + _signed(record)
            case "position_report" if record.get("kind") == "opening":
                self._held[record["account"], record["instrument"]] = float(record["quantity"])
            case "venue_status":
                change = self._blocked.add if record["status"] == "withdrawals_blocked" else self._blocked.discard
                change(record["venue"])

    # --- what commands do -------------------------------------------------------------------------------------------

    def _take_record(self, topic: str, stored: Record) -> None:
        if topic == "exposures":
            self._measure(decode_exposures(stored.value))
        elif topic == "audit" and WITHHELD not in stored.value:
            return
        else:
            self._take_decision(topic, stored, orjson.loads(stored.value))

    def _take_decision(self, topic: str, stored: Record, record: Json) -> None:
        if topic == "commands":
            self.result.commands.append(record)
            self.result.caused_us[record["id"]] = record["iat_us"]
            if self.world.obeys:
                self._obey(record)
        elif topic == "breaches":
            self.result.breaches.append(record)
            self.result.caused_us[stored.id] = record["as_of_us"]
        elif topic == "audit" and record["kind"] == "withheld":
            self.result.withheld.append(record["body"])

    def _measure(self, exposures: Exposures) -> None:
        self.result.firm |= exposures.firm
        peaks = self.result.peaks
        if exposures.firm:
            peaks["firm"] = max(peaks.get("firm", 0.0), exposures.firm.get("current_exposure", 0.0))
        for party in exposures.counterparties:
            if party.current_exposure > peaks.get(party.counterparty, -1.0):
                peaks[party.counterparty] = party.current_exposure
        for row in exposures.accounts:
            self.result.equity[row.account] = row.equity
            if row.equity < 0 and not row.account.startswith("house/"):
                self._owed[row.account] = -row.equity
            elif self._owed:
                self._owed.pop(row.account, None)
        if exposures.accounts:
            self.result.shortfall_max = max(self.result.shortfall_max, fsum(self._owed.values()))

    def _obey(self, command: Json) -> None:
        kind, name, at_us = command["type"], command["target"]["id"], command["iat_us"] + self.world.latency_us
        self._commanded.add((kind, name))
        if kind in MODE_RANKS and command["target"]["scope"] == "account":
            self._mode[name] = max(self._mode.get(name, 0), min(STRICTNESS[kind], 2))
        elif kind == "REDUCE_POSITION":
            self._cut(name, command["action"].get("targets", ""), at_us, command["id"])
        elif kind == "CALL_MARGIN":
            self._pay(name, command["action"], at_us, command["id"])
        elif kind == "WITHDRAW_FUNDS" and name not in self._blocked and "amount" in command["action"]:
            self._move(f"house/{name}", -float(command["action"]["amount"]), "withdrawal", at_us, command["id"])
        elif kind == "REROUTE" and command["action"].get("weights"):
            parts = dict(part.split("=") for part in command["action"]["weights"].split(","))
            self._routes[name] = max(sorted(parts), key=lambda venue: int(parts[venue]))
        for step, outcome in enumerate(("accepted", "completed")):
            body = {"command_id": command["id"], "subscriber": "rehearsal", "outcome": outcome}
            self._later(at_us + step, {"type": "acknowledgement", **body})

    def _cut(self, account: str, targets: str, at_us: int, id: str) -> None:
        for number, target in enumerate(targets.split(",") if targets else ()):
            instrument, _, quantity = target.partition("=")
            held = self._held.get((account, instrument), 0.0)
            change = float(quantity) - held
            if change * held >= 0:
                continue
            price = self._marks[instrument] * (1 + self.world.slippage * (1 if change > 0 else -1))
            for side, name, size in (("c", account, change), ("h", self.world.hedged_at, change * self.world.hedged)):
                if name and size:
                    self._later(at_us, _fill(f"{id[:20]}-{number}{side}", name, instrument, size, price))

    def _pay(self, account: str, action: Json, at_us: int, id: str) -> None:
        means = self.world.means.get(account, 0.0)
        paid = min(float(action.get("amount", "0")), means)
        if paid > 0:
            self.world.means[account] = means - paid
            self._move(account, paid, "variation_margin", at_us + self.world.pays_after_us, id)

    def _move(self, account: str, amount: float, purpose: str, at_us: int, id: str) -> None:
        body = {"transfer_id": f"r-{id[:20]}", "account": account, "asset": "USD", "amount": f"{amount:.2f}"}
        self._later(at_us, {"type": "collateral", **body, "purpose": purpose})

    def _later(self, at_us: int, record: Json) -> None:
        heapq.heappush(self._queue, (at_us, next(self._numbers), {**record, "event_time_us": at_us}))


def _signed(record: Json) -> float:
    return float(record["quantity"]) * (1 if record["side"] == "buy" else -1)


def _fill(id: str, account: str, instrument: str, change: float, price: float) -> Json:
    body = {"fill_id": id, "account": account, "instrument": instrument, "side": "buy" if change > 0 else "sell"}
    return {"type": "fill", **body, "quantity": f"{abs(change):.6f}", "price": f"{price:.8f}", "forced": True}
