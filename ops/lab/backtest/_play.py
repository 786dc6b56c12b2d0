"""One variant of a backtest: its stream goes through the sequencer and risk, and commands act on the world.

``Rehearsal`` closes the loop. Here it runs over months, so between two records only what somebody waits for is
computed: a slice is ended at the next full second, what it asks for happens at its own times, and time then jumps to
the next record. The memory is bounded: a sample per ``SAMPLE_US`` of the firm and of the worst of each account's hours.

At each full hour the forecasts of that time and the profit and loss until the next make an observation: ``var_99_1h``
and ``es_975_1h`` for hours, ``var_99`` and ``es_975`` for days, of the firm and of counterparties, on the topic
``forecasts``. Trades and close-outs within the hour count, so figures are tested best on the variant in which nobody
acts. Where the value at risk at 97.5 % is not published it follows from the expected shortfall by the tail that is
assumed (t with four degrees of freedom, the tail of the forecasts themselves).

Detection is judged by episodes: moves of ``move`` or more within ``within_s``. An alert within that time of a move
finds it; one without a move is false. Labels come from prices alone, so nobody chose them.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, NamedTuple

import numpy as np
import orjson

from seawall.ops.lab.backtest._plan import BacktestPlan, Variant
from seawall.ops.lab.backtest._rehearsal import SECOND_US, Exposures, Rehearsal, WorldReactions
from seawall.ops.lab.backtest._stream import Client
from seawall.ops.lab.backtest._var_tests import LENGTHS, Observation

# From what a run published to observations: at each full hour the forecast of then, and P&L until the next.
#
# The figures are those that ran live: ``var_99_1h`` and ``es_975_1h`` for hours, ``var_99`` and ``es_975`` for days, of
# the firm and of counterparties, on the topic ``forecasts``. P&L is the change of ``pnl`` of the same scope on
# ``exposures``. What is traded or closed out within the hour counts, so figures are tested best on the variant in which
# nobody acts. Acerbi and Szekely's test also needs the value at risk at 97.5 %; where it is not published it follows
# from the expected shortfall by the tail that is assumed (t with four degrees of freedom, the tail of the forecasts
# themselves).

Json = dict[str, Any]
FIGURES = {"hour": ("var_99_1h", "es_975_1h", "var_975_1h"), "day": ("var_99", "es_975", "var_975")}
PUBLISHED = frozenset(name for names in FIGURES.values() for name in names)
VAR_OF_ES = 0.695  # value at risk over expected shortfall at 97.5 %, t with four degrees of freedom: 2.776 / 3.994
HOUR_US = LENGTHS["hour"]


class HourlyObservations:
    """Keeps, per scope and full hour, P&L and the figures that stood; bounded by hours times scopes."""

    def __init__(self) -> None:
        self._pnl: dict[str, float] = {}
        self._figures: dict[str, dict[str, float]] = {}
        self._hour = -1
        self.rows: dict[str, list[tuple[int, float, dict[str, float]]]] = {}

    def reach(self, as_of_us: int) -> None:
        """Note what stands when the first record of a new hour comes, before it counts."""
        hour = as_of_us // HOUR_US
        if self._hour < hour:
            # After a silence of more than the hour before, what stands is of long ago and no hour begins with it.
            for scope, pnl in self._pnl.items() if self._hour == hour - 1 else ():
                known = dict(self._figures.get(scope, {}))
                self.rows.setdefault(scope, []).append((hour * HOUR_US, pnl, known))
            self._hour = hour

    def take_exposures(self, told: Exposures) -> None:
        """Take P&L of a record of ``exposures``."""
        self.reach(told.as_of_us)
        if "pnl" in told.firm:
            self._pnl["firm"] = told.firm["pnl"]
        for row in told.counterparties:
            if row.pnl is not None:
                self._pnl[f"counterparty:{row.counterparty}"] = row.pnl

    def take_forecasts(self, record: Mapping[str, Any]) -> None:
        """Take figures of a record of ``forecasts``."""
        self.reach(record["as_of_us"])
        for row in record.get("losses", ()):
            known = {name: float(row[name]) for name in PUBLISHED if name in row}
            self._figures[row["scope"]] = known if row["state"] == "ready" else {}

    def observations(self, scope: str, every: str) -> list[Observation]:
        """Return the observations of one scope that do not overlap; none before its figures are known."""
        var, es, narrow = FIGURES[every]
        length = LENGTHS[every] // HOUR_US
        rows = {time_us // HOUR_US: (pnl, known) for time_us, pnl, known in self.rows.get(scope, [])}
        found: list[Observation] = []
        for hour, (pnl, known) in sorted(rows.items()):
            if hour % length or hour + length not in rows or known.get(es, 0.0) <= 0 or var not in known:
                continue
            change = rows[hour + length][0] - pnl
            narrowed = known.get(narrow, VAR_OF_ES * known[es])
            found.append(Observation(hour * HOUR_US, change, known[var], known[es], narrowed))
        return found


# One variant, played: the stream through the sequencer's step and all of risk, and back what commands bring about.

SAMPLE_US = 300_000_000
PLAY_HOUR_US = 3_600_000_000
REPORTED_EVERY = 256
FOLLOWED_TOPICS = ("breaches", "commands", "exposures", "audit")
FIRM_MEASURES = ("pnl", "gross_notional", "current_exposure")


@dataclass
class Trace:
    """Time line of a variant: lists of equal length, one entry per sample."""

    times_us: list[int] = field(default_factory=list)
    firm: dict[str, list[float]] = field(default_factory=dict)
    shortfall: list[float] = field(default_factory=list)
    hours: dict[str, dict[int, float]] = field(default_factory=dict)  # account -> hour -> highest margin_ratio
    worst_us: int = 0  # when clients owed most


def reactions_of_plan(plan: BacktestPlan, book: list[Client], obeys: bool) -> WorldReactions:
    """Return how the world reacts by the plan; every so many clients can pay a part of what they first had."""
    terms = plan.reactions
    every = terms["payers_one_in"]
    payers = [client for number, client in enumerate(book) if every and number % every == 0]
    return WorldReactions(
        latency_us=terms["latency_ms"] * 1000,
        slippage=terms["slippage"],
        means={client.account: client.equity * terms["means"] for client in payers},
        pays_after_us=int(terms["pays_after_s"] * SECOND_US),
        hedged_at=terms["hedged_at"],
        hedged=plan.book.get("hedged", 1.0),
        obeys=obeys,
    )


class VariantPlay(Rehearsal):
    """Plays a stream: ``run(records) -> Result``; then ``trace``, ``slices`` and ``sha256`` of the journal are there.

    Parameters
    ----------
    tell
        Is given the event time that was reached, for a progress bar.
    """

    def __init__(
        self, variant: Variant, world: WorldReactions, tell: Callable[[int], None] = lambda time_us: None
    ) -> None:
        super().__init__(variant.configuration, world)
        self.trace = Trace()
        self.slices = self.records = self.rejected = 0
        self.closed_out = 0.0
        self._journal = hashlib.sha256()
        self._tell = tell
        self._sampled_us = 0
        self._hour = -1
        self._worst: dict[str, float] = {}  # account -> highest margin_ratio of this hour
        self.hourly = HourlyObservations()

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
            if self.records % REPORTED_EVERY == 0:
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
                    for stored in records if topic in FOLLOWED_TOPICS else ():
                        self._take_record(topic, stored)
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
        if self._hour < told.as_of_us // PLAY_HOUR_US:
            self._end_hour()
            self._hour = told.as_of_us // PLAY_HOUR_US
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
        for name in FIRM_MEASURES:
            if name in self.result.firm:
                known = self.trace.firm.setdefault(name, [])
                known += [0.0] * (len(self.trace.times_us) - 1 - len(known)) + [self.result.firm[name]]
        self.trace.shortfall.append(fsum(self._owed.values()))


# How good detection was: which sharp moves were told of, how early, and how many alerts came for nothing.
#
# An *episode* of an instrument is a move of ``move`` or more, up or down, within ``within_s``; it begins at the extreme
# that the price came from and *breaks out* when the move is complete. Moves less than ``quiet_s`` apart are one.
# An episode is told of by an alert on the instrument from its beginning until ``within_s`` after it broke out; an alert
# with no break-out within ``within_s`` before or after it is false. Labels come from prices alone, so nobody chose
# them.

EPISODE_SECOND_US = 1_000_000
DAY_US = 86_400_000_000


class PriceEpisode(NamedTuple):
    """A sharp move of one instrument."""

    instrument: str
    began_us: int
    broke_out_us: int
    move: float


class DetectionQuality(NamedTuple):
    """Quality of detection; ``lead_s``: how long before the break-out the first alert of each detected episode came."""

    episodes: int
    told: int
    alerts: int
    false: int
    instrument_days: float
    lead_s: list[float]

    def as_dict(self) -> Json:
        """Return the quality as JSON values, with recall, precision and alerts per instrument and day."""
        recall = self.told / self.episodes if self.episodes else None
        precision = 1 - self.false / self.alerts if self.alerts else None
        median = float(np.median(self.lead_s)) if self.lead_s else None
        days = self.instrument_days
        per_day = self.alerts / days if days else None
        return self._asdict() | {
            "recall": recall, "precision": precision, "median_lead_s": median, "alerts_per_instrument_day": per_day
        }  # fmt: skip


def episodes(
    instrument: str, times_us: Sequence[int], prices: Sequence[float], terms: Mapping[str, Any]
) -> list[PriceEpisode]:
    """Return the sharp moves of one instrument, in order.

    Parameters
    ----------
    times_us, prices
        Of equal length, in order of time.
    terms
        The plan's ``[detection]``.
    """
    window, quiet = terms["within_s"] * EPISODE_SECOND_US, terms["quiet_s"] * EPISODE_SECOND_US
    found: list[PriceEpisode] = []
    lows: list[int] = []
    highs: list[int] = []
    for at, (now, price) in enumerate(zip(times_us, prices, strict=True)):
        for kept, above in ((lows, False), (highs, True)):
            while kept and times_us[kept[0]] < now - window:
                kept.pop(0)
            while kept and (prices[kept[-1]] <= price if above else prices[kept[-1]] >= price):
                kept.pop()
            kept.append(at)
        rise, fall = price / prices[lows[0]] - 1, price / prices[highs[0]] - 1
        move, origin = (rise, lows[0]) if rise >= -fall else (fall, highs[0])
        if abs(move) < terms["move"]:
            continue
        if found and now - found[-1].broke_out_us < quiet:
            continue
        found.append(PriceEpisode(instrument, times_us[origin], now, move))
    return found


def detection_quality(
    series: Mapping[str, tuple[Sequence[int], Sequence[float]]], alerts: Sequence[Json], terms: Mapping[str, Any]
) -> DetectionQuality:
    """Compare alerts with what prices did.

    Parameters
    ----------
    series
        Instrument -> times and prices.
    alerts
        ``as_of_us`` and ``scope`` of each; those on other scopes than instruments are left out.
    """
    window = terms["within_s"] * EPISODE_SECOND_US
    moves = [found for name in sorted(series) for found in episodes(name, *series[name], terms)]
    told: dict[str, list[int]] = {}
    for alert in alerts:
        kind, _, name = alert["scope"].partition(":")
        if kind == "instrument":
            told.setdefault(name, []).append(alert["as_of_us"])
    leads, false = [], 0
    for move in moves:
        first = [at for at in told.get(move.instrument, ()) if move.began_us <= at <= move.broke_out_us + window]
        if first:
            leads.append((move.broke_out_us - min(first)) / EPISODE_SECOND_US)
    for name, times in told.items():
        mine = [move.broke_out_us for move in moves if move.instrument == name]
        false += sum(all(abs(at - out) > window for out in mine) for at in times)
    days = sum((times[-1] - times[0]) / DAY_US for times, _ in series.values() if len(times) > 1)
    return DetectionQuality(len(moves), len(leads), sum(map(len, told.values())), false, days, leads)
