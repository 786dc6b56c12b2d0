"""One variant, played: the stream through the sequencer's step and all of risk, and back what commands bring about.

``Rehearsal`` closes the loop. Here it runs over months, so between two records nothing is computed that nobody waits
for: a slice is ended at the next full second, what it asks for happens at its own times, and time then jumps to the
next record. What is kept is bounded: a sample per ``SAMPLE_US`` of the firm and of the worst of each account's hours.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import fsum
from typing import Any

import orjson

from seawall.ops.lab.backtest.book import Client
from seawall.ops.lab.backtest.observed import Hourly
from seawall.ops.lab.backtest.plan import Plan, Variant
from seawall.ops.published import Exposures
from seawall.ops.rehearsal import SECOND_US, Rehearsal, World

Json = dict[str, Any]
SAMPLE_US = 300_000_000
HOUR_US = 3_600_000_000
TOLD_EVERY = 256
HEARD = ("breaches", "commands", "exposures", "audit")
FIRM = ("pnl", "gross_notional", "current_exposure")


@dataclass
class Trace:
    """What a variant's time line looks like: lists of equal length, one entry per sample."""

    times_us: list[int] = field(default_factory=list)
    firm: dict[str, list[float]] = field(default_factory=dict)
    shortfall: list[float] = field(default_factory=list)
    hours: dict[str, dict[int, float]] = field(default_factory=dict)  # account -> hour -> highest margin_ratio
    worst_us: int = 0  # when clients owed most


def world_of(plan: Plan, book: list[Client], obeys: bool) -> World:
    """Return how the world reacts by the plan; every so many clients can pay a part of what they first had."""
    terms = plan.reactions
    every = terms["payers_one_in"]
    payers = [client for number, client in enumerate(book) if every and number % every == 0]
    return World(
        latency_us=terms["latency_ms"] * 1000,
        slippage=terms["slippage"],
        means={client.account: client.equity * terms["means"] for client in payers},
        pays_after_us=int(terms["pays_after_s"] * SECOND_US),
        hedged_at=terms["hedged_at"],
        hedged=plan.book.get("hedged", 1.0),
        obeys=obeys,
    )


class Backtest(Rehearsal):
    """Plays a stream: ``run(records) -> Result``; then ``trace``, ``slices`` and ``sha256`` of the journal are there.

    Parameters
    ----------
    tell
        Is given the event time that was reached, for a progress bar.
    """

    def __init__(self, variant: Variant, world: World, tell: Callable[[int], None] = lambda time_us: None) -> None:
        super().__init__(variant.configuration, world)
        self.trace = Trace()
        self.slices = self.records = self.rejected = 0
        self.closed_out = 0.0
        self._journal = hashlib.sha256()
        self._tell = tell
        self._sampled_us = 0
        self._hour = -1
        self._worst: dict[str, float] = {}  # account -> highest margin_ratio of this hour
        self.hourly = Hourly()

    @property
    def sha256(self) -> str:
        """The SHA-256 over the journal's slices, each with a line feed."""
        return self._journal.hexdigest()

    def run(self, records: Iterable[tuple[int, Json | bytes]]) -> None:
        """Play records, given with their times in order, and what follows from them."""
        now_us = 0
        for at_us, record in records:
            if now_us and at_us >= now_us + SECOND_US:
                self._settle(at_us)
            now_us = max(now_us, at_us)
            self._react(at_us)
            self._take(record)
            self.records += 1
            if self.records % TOLD_EVERY == 0:
                self._tell(now_us)
        self._settle(1 << 62)
        self._sample(now_us)
        self._end_hour()

    def _settle(self, until_us: int) -> None:
        """Decide on what is there, and let happen what is asked for until ``until_us``, second by second."""
        self._decide_now()
        while self._queue and self._queue[0][0] <= until_us:
            second_us = self._queue[0][0] + SECOND_US
            while self._queue and self._queue[0][0] <= min(second_us, until_us):
                self._take(heapq.heappop(self._queue)[2])
            self._decide_now()

    def _decide_now(self) -> None:
        cut = self._slicing.finish()
        self.rejected += len(cut.rejects)
        self._decide(cut.slices)

    def _take(self, record: Any) -> None:
        if isinstance(record, dict) and record.get("forced") and record["account"] != self.world.hedged_at:
            self.closed_out += float(record["quantity"]) * float(record["price"])
        super()._take(record)

    def _decide(self, slices: list[tuple[int, bytes]]) -> None:
        self.slices += len(slices)
        for _, value in slices:
            self._journal.update(value + b"\n")
            for audited in self._risk.step(value):
                for topic, records in audited.records.items():
                    for stored in records if topic in HEARD else ():
                        self._hear(topic, stored)
                    if topic == "forecasts":
                        for stored in records:
                            self.hourly.take_forecasts(orjson.loads(stored.value))

    def _note(self, changed: Any) -> None:
        if isinstance(changed, bytes):
            if b'"signal"' not in changed[:40]:
                changed = orjson.loads(changed)
            else:
                self._note_signal(orjson.loads(changed))
        if isinstance(changed, dict):
            if changed["type"] == "signal":
                self._note_signal(changed)
            else:
                super()._note(changed)

    def _note_signal(self, signal: Json) -> None:
        for row in signal.get("instruments", ()):
            self._marks[row["instrument"]] = row["price"]

    def _measure(self, told: Exposures) -> None:
        self.hourly.take_exposures(told)
        worst = self.result.shortfall_max
        super()._measure(told)
        if self.result.shortfall_max > worst:
            self.trace.worst_us = told.as_of_us
        self._watch(told)

    def _watch(self, told: Exposures) -> None:
        if self._hour < told.as_of_us // HOUR_US:
            self._end_hour()
            self._hour = told.as_of_us // HOUR_US
        worst = self._worst
        for row in told.accounts:
            if row.margin_ratio is not None and row.margin_ratio > worst.get(row.account, -1.0):
                worst[row.account] = row.margin_ratio
        if told.firm and told.as_of_us >= self._sampled_us + SAMPLE_US:
            self._sample(told.as_of_us)

    def _end_hour(self) -> None:
        for account, ratio in self._worst.items():
            self.trace.hours.setdefault(account, {})[self._hour] = ratio
        self._worst.clear()

    def _sample(self, as_of_us: int) -> None:
        self._sampled_us = as_of_us // SAMPLE_US * SAMPLE_US
        self.trace.times_us.append(as_of_us)
        for name in FIRM:
            if name in self.result.firm:
                known = self.trace.firm.setdefault(name, [])
                known += [0.0] * (len(self.trace.times_us) - 1 - len(known)) + [self.result.firm[name]]
        self.trace.shortfall.append(fsum(self._owed.values()))
