"""One instrument group: raw records and the ends of intervals in, signals out.

Procedure, at the end of an interval
------------------------------------
1. Of each instrument that was touched: the venues' marks, the robust mark, the circuit breakers, the gap.
2. At the end of every ``score_s``: all that were touched since the last time get a row of features, and the detectors
   of each family score and learn these rows at once (in batches they cost a fraction).
3. At the end of a second: feeds that have been silent for too long.
4. Notices on an instrument, on what it is made of, or on a venue that is heard.
5. One record, where anything was touched or is to be told; several where it would be too large for the bus.

The state is a fold of what the step was given: same items, same bytes, wherever it was snapshotted in between.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from seawall.operators.core.base import pack, unpack
from seawall.operators.core.detection import Judgement, LifecycleModels, ModelReport, ModelsFactory
from seawall.operators.core.market import _alerts
from seawall.operators.core.market._instrument import FAMILIES, Instrument, robust_mark, total_depth
from seawall.operators.core.market._instrument_cache import CachedInstrument, InstrumentCache
from seawall.operators.core.market._venues import GAPS_MIN, VenueState
from seawall.schemas import events as ev
from seawall.schemas.configuration import MarketTerms
from seawall.schemas.records import Record

SCHEMA = "market/3"
ROWS_MAX = 40  # instruments of a record: with 24 venues each, below the 256 KiB of an input record
MODELS_MAX = 100  # events in models' lives of a record
NOTICES_MAX = 100  # of an interval; of more, the first
SECOND_US = 1_000_000
VENUES_MAX = 1_000  # remembered as feeds of the group
_encode = msgspec.json.Encoder().encode


class GroupRecords(NamedTuple):
    """Raw records of one interval, in order; an interval may come in several."""

    events: list[Any]


class IntervalEnd(NamedTuple):
    """The end of an interval.

    ``second``: a second of event time ends with it. ``end``: nothing follows. ``sources``: see ``Signal``. ``heard``:
    when each venue that any group heard in that second spoke last.
    """

    as_of_us: int
    second: bool = False
    end: bool = False
    sources: dict[str, int] | None = None
    heard: dict[str, int] | None = None


class _Due(NamedTuple):
    entry: CachedInstrument
    features: dict[str, float]
    tripped: bool


def instrument_group(instrument: str, groups: int) -> int:
    """Return the group of an instrument: a fixed hash bucket, as a shard is one of counterparties.

    Examples
    --------
    >>> instrument_group("BTC-PERP", 4), instrument_group("ETH-PERP", 4)
    (1, 3)
    """
    return crc32(instrument.encode()) % groups


class GroupState:
    """The state of one group: ``step(item) -> records``.

    Parameters
    ----------
    group
        Its number, also the partition of its records on ``signals``.
    terms
        How to cut, score and judge.
    make_models
        Makes the models of a family of features; ``LifecycleModels`` where it is None.
    """

    def __init__(self, group: int, terms: MarketTerms, make_models: ModelsFactory | None = None) -> None:
        self.group = group
        self._terms = terms
        self.registry = InstrumentCache(
            terms, make_models or (lambda columns: LifecycleModels(columns, terms.challenger))
        )
        self._seq = self._count = self._high_us = self._events = self._look_us = 0
        self._scored_us = 0
        self._touched: dict[str, None] = {}
        self._unscored: dict[str, None] = {}
        self._down: set[str] = set()
        self._newest_us: dict[str, int] = {}  # venue -> newest event time
        self._dead: set[str] = set()  # venues whose silence was told, and not yet that they are back
        self._returning: dict[str, int] = {}  # those of them that speak again -> since when
        self._notices: list[ev.Notice] = []
        self._lived: list[ev.SignalModel] = []

    def step(self, item: GroupRecords | IntervalEnd) -> list[Record]:
        """Take records, or end an interval and return its signal."""
        if isinstance(item, GroupRecords):
            for event in item.events:
                self._take(event)
            return []
        return self._close(item)

    # --- events -----------------------------------------------------------------------------------------------------

    def _take(self, event: Any) -> None:
        if isinstance(event, ev.Instrument):
            self.registry.describe(event)
            return
        if isinstance(event, ev.Notice):
            self._events += 1
            self._notices = [*self._notices, event][:NOTICES_MAX]
            return
        if isinstance(event, ev.VenueStatus):
            self._events += 1
            if event.status == "down":
                self._down.add(event.venue)
            elif event.venue in self._down:
                self._down.discard(event.venue)
                if event.venue not in self._dead:
                    self._listen_again(event.venue)
            return
        self._high_us = max(self._high_us, event.event_time_us)
        self._events += 1
        self._newest_us[event.venue] = max(self._newest_us.pop(event.venue, 0), event.event_time_us)
        if event.venue in self._dead:
            self._returning.setdefault(event.venue, event.event_time_us)
        if len(self._newest_us) > VENUES_MAX:
            del self._newest_us[next(iter(self._newest_us))]
        entry = self.registry.get(event.instrument)
        if entry is None:
            return
        entry.instrument.apply(event, self._high_us)
        if len(self._unscored) > 2 * self._terms.instruments_max:
            self._touched = self._remembered(self._touched)
            self._unscored = self._remembered(self._unscored)
        self._touched[event.instrument] = self._unscored[event.instrument] = None

    def _remembered(self, names: dict[str, None]) -> dict[str, None]:
        """Return those names that are not forgotten yet: a flood of new ones must not grow memory."""
        return {name: None for name in names if self.registry.find(name) is not None}

    # --- the end of an interval -------------------------------------------------------------------------------------

    def _close(self, close: IntervalEnd) -> list[Record]:
        rows: dict[str, dict[str, Any]] = {}
        alerts: list[ev.SignalAlert] = []
        due: list[_Due] = []
        if self._high_us > close.as_of_us + self._terms.stale_us:
            self._set_back(close.as_of_us)
        scores = close.second and close.as_of_us - self._scored_us >= self._terms.score_s * SECOND_US
        for name in sorted(self._touched.keys() | self._unscored.keys() if scores else self._touched):
            entry = self.registry.find(name)
            if entry is not None:
                self._look(entry, close.as_of_us, rows, alerts, due if scores else None)
        if scores:
            self._score(due, close.as_of_us, rows, alerts)
            self._scored_us = close.as_of_us
            self._unscored.clear()
        self._touched.clear()
        if close.second:
            self._take_other_notices(close.heard or {})
            alerts += self._silent(close.as_of_us)
            alerts += self._back(close.as_of_us) if self._returning else []
        alerts += self._noticed()
        if not (rows or alerts or self._events) and not (close.end and self._seq):
            return []
        return self._records(close, [ev.SignalRow(**row) for row in rows.values()], alerts)

    def _set_back(self, as_of_us: int) -> None:
        """Take what is stamped far after the interval as of its end; never with bounded inputs, whose times it ends by.

        A venue may stamp a record up to a day ahead. Whatever its feed says until then would be older than that record:
        its mark would stand still, and its silence would not be told.
        """
        self._high_us = as_of_us
        self._newest_us = {venue: min(heard_us, as_of_us) for venue, heard_us in self._newest_us.items()}
        self._returning = {venue: min(since_us, as_of_us) for venue, since_us in self._returning.items()}
        for name in self._touched:
            entry = self.registry.find(name)
            for venue in entry.instrument.venues.values() if entry is not None else ():
                venue.keep_to(as_of_us)

    def _look(
        self,
        entry: CachedInstrument,
        as_of_us: int,
        rows: dict[str, dict[str, Any]],
        alerts: list[ev.SignalAlert],
        due: list[_Due] | None,
    ) -> None:
        """Mark one instrument, check its rules, and add its row of features to ``due``."""
        instrument, terms = entry.instrument, self._terms
        marks = instrument.marks(as_of_us, terms.stale_us, self._down)
        if not marks:
            return
        price, time_us, fresh = robust_mark(marks)
        source = "robust" if instrument.several else marks[0].kind
        row: dict[str, Any] = {"instrument": instrument.name, "price": price, "source": source, "time_us": time_us}
        rows[instrument.name] = row
        row |= {"venues": marks, "depth": total_depth(fresh)}
        reported = entry.bands.check(time_us, price, instrument.index.value)
        instrument.tripped = instrument.tripped or bool(reported)
        gap = _alerts.venue_gap_text(instrument, fresh, price, as_of_us, terms)
        backwards = _alerts.time_backwards_text(instrument)
        reported += [("venue_gap", gap)] if gap else []
        reported += [("time_backwards", backwards)] if backwards else []
        for kind, text in reported:
            self._report(instrument, kind, text, as_of_us, alerts)
        if due is not None:
            features = instrument.features(price, time_us, fresh)
            row |= {"features": features, "state": "warming"}
            row["realised_volatility"] = instrument.volatility.realised()
            row["ew_volatility"] = instrument.volatility.ew()
            due.append(_Due(entry, features, instrument.tripped))
            instrument.tripped = False

    def _score(
        self, due: list[_Due], as_of_us: int, rows: dict[str, dict[str, Any]], alerts: list[ev.SignalAlert]
    ) -> None:
        """Score and learn all rows, family by family; an instrument's score is the highest of its families."""
        highest: dict[str, tuple[str, Judgement]] = {}
        for family, columns in FAMILIES.items():
            known = [item for item in due if all(column in item.features for column in columns)]
            if not known:
                continue
            slots = [self.registry.slot(item.entry, family) for item in known]
            values = [tuple(item.features[column] for column in columns) for item in known]
            models = self.registry.models[family]
            found = models.observe(slots, as_of_us, values, [item.tripped for item in known])
            names = {slot: item.entry.instrument.name for slot, item in zip(slots, known, strict=True)}
            self._lived += [
                _model_changes(names[reported.slot], family, reported)
                for reported in models.drain()
                if reported.slot in names
            ]
            for item, judgement in zip(known, found, strict=True):
                name = item.entry.instrument.name
                if judgement.ready and (name not in highest or judgement.value > highest[name][1].value):
                    highest[name] = family, judgement
        for item in due:
            instrument = item.entry.instrument
            drifted = _alerts.model_drift_text(instrument, self._lived) if self._lived else None
            if drifted is not None:
                self._report(instrument, "model_drift", drifted, as_of_us, alerts)
            if instrument.name not in highest:
                continue
            family, judgement = highest[instrument.name]
            rows[instrument.name] |= {"state": "ready", "score": judgement.value}
            if judgement.value >= self._terms.alert_score:
                text = _alerts.anomaly_text(instrument.name, family, judgement, item.features)
                self._report(instrument, "anomaly", text, as_of_us, alerts, judgement)

    def _report(
        self,
        instrument: Instrument,
        kind: str,
        text: str,
        as_of_us: int,
        alerts: list[ev.SignalAlert],
        judgement: Judgement | None = None,
    ) -> None:
        if _alerts.admit_alert(instrument.said, kind, as_of_us, int(self._terms.refractory_s * 1_000_000)):
            score, why = (1.0, None) if judgement is None else (judgement.value, judgement.contributions)
            alerts.append(_alerts.signal_alert(kind, f"instrument:{instrument.name}", text, score, why))

    def _take_other_notices(self, heard: dict[str, int]) -> None:
        """Take note of venues that spoke to any group: one is not dead because an instrument of ours is gone."""
        for venue, time_us in heard.items():  # in their order, which decides that of alerts
            if venue in self._newest_us:
                self._newest_us[venue] = max(self._newest_us[venue], time_us)
                if venue in self._dead:
                    self._returning.setdefault(venue, time_us)

    def _silent(self, as_of_us: int) -> list[ev.SignalAlert]:
        """Return an alert for each feed, or whole venue, that has been silent for too long; each is told once.

        Looks only when a feed may have become stale: silence is patient, a second of a thousand feeds is not free.
        """
        if as_of_us <= self._look_us:
            return []
        stale: dict[str, list[tuple[str, VenueState]]] = {}
        self._look_us = as_of_us + self._terms.stale_us
        for entry in self.registry:
            for name, venue in entry.instrument.venues.items():
                if venue.silent or venue.gaps < GAPS_MIN:
                    continue
                if venue.is_stale(as_of_us, self._terms.stale_us):
                    venue.silent = True
                    stale.setdefault(name, []).append((entry.instrument.name, venue))
                else:
                    self._look_us = min(self._look_us, venue.heard_us + int(venue.patience_us(self._terms.stale_us)))
        return [found for name in sorted(stale) for found in self._silent_venue(name, stale[name], as_of_us)]

    def _silent_venue(self, name: str, stale: list[tuple[str, VenueState]], as_of_us: int) -> Iterator[ev.SignalAlert]:
        silence_us = as_of_us - self._newest_us.get(name, 0)
        if name not in self._dead and silence_us > min(venue.patience_us(self._terms.stale_us) for _, venue in stale):
            self._dead.add(name)
            yield _alerts.signal_alert(
                "dead_feed", f"venue:{name}", f"{name} has sent nothing for {silence_us // SECOND_US} s"
            )
        if name in self._dead or name in self._down:
            return
        for instrument, venue in sorted(stale, key=lambda pair: pair[0]):
            text = f"{name} has sent nothing of {instrument} for {(as_of_us - venue.heard_us) // SECOND_US} s"
            yield _alerts.signal_alert("stale_feed", f"instrument:{instrument}", text)

    def _back(self, as_of_us: int) -> Iterator[ev.SignalAlert]:
        """Yield an alert for each dead feed that has spoken for ``stale_s`` without a break: none of a flapping one."""
        for name, since_us in list(self._returning.items()):
            heard_us = self._newest_us.get(name, 0)
            if as_of_us - heard_us > self._terms.stale_us:
                del self._returning[name]
            elif heard_us - since_us >= self._terms.stale_us:
                del self._returning[name]
                self._dead.discard(name)
                self._listen_again(name)
                yield _alerts.signal_alert(
                    "feed_back", f"venue:{name}", f"{name} has sent for {self._terms.stale_s:g} s again"
                )

    def _listen_again(self, name: str) -> None:
        """Look anew at the feeds of a venue that is back: those that stayed away were not told apart while it was."""
        for entry in self.registry:
            venue = entry.instrument.venues.get(name)
            if venue is not None:
                venue.silent = False
        self._look_us = 0

    def _noticed(self) -> Iterator[ev.SignalAlert]:
        """Yield an alert for each instrument and venue that a notice of severity 1 or more concerns."""
        notices, self._notices = self._notices, []
        for record in notices:
            if record.severity < 1:
                continue
            if record.subject in self._newest_us:
                yield _alerts.notice_alert(record, f"venue:{record.subject}")
            for name in self.registry.names_on(record.subject)[:ROWS_MAX]:
                yield _alerts.notice_alert(record, f"instrument:{name}")

    # --- records ----------------------------------------------------------------------------------------------------

    def _records(self, close: IntervalEnd, rows: list[ev.SignalRow], alerts: list[ev.SignalAlert]) -> list[Record]:
        """Return the signal of an interval, in as many records as it takes."""
        found = []
        lived, self._lived = self._lived, []
        count = max(-(-len(rows) // ROWS_MAX), -(-len(lived) // MODELS_MAX), 1)
        for at in range(count):
            last = at == count - 1
            signal = ev.Signal(
                event_time_us=close.as_of_us,
                group=self.group,
                groups=self._terms.groups,
                seq=self._seq,
                events=self._events if last else 0,
                instruments=rows[at * ROWS_MAX : (at + 1) * ROWS_MAX],
                alerts=alerts if last else [],
                models=lived[at * MODELS_MAX : (at + 1) * MODELS_MAX],
                more=not last,
                sources=close.sources or {} if last else {},
                end=close.end and last,
            )
            found.append(Record(str(self.group), _encode(signal), f"{self.group}-{self._seq}-{at}", self._count))
            self._count += 1
        self._seq += 1
        self._events = 0
        return found

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = {
            "group": self.group,
            "numbers": [self._seq, self._count, self._high_us, self._events, self._look_us, self._scored_us],
            "touched": list(self._touched),
            "unscored": list(self._unscored),
            "down": sorted(self._down),
            "dead": sorted(self._dead),
            "returning": list(self._returning.items()),
            "heard": list(self._newest_us.items()),
            "notices": self._notices,
            "registry": self.registry.snapshot(),
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes, terms: MarketTerms, make_models: ModelsFactory | None = None) -> "GroupState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["group"], terms, make_models)
        self._seq, self._count, self._high_us, self._events, self._look_us, self._scored_us = state["numbers"]
        self._touched, self._unscored = dict.fromkeys(state["touched"]), dict.fromkeys(state["unscored"])
        self._down, self._dead = set(state["down"]), set(state["dead"])
        self._newest_us, self._returning = dict(state["heard"]), dict(state["returning"])
        self._notices = msgspec.convert(state["notices"], list[ev.Notice])
        self.registry.restore(state["registry"], lambda plain: msgspec.convert(plain, Instrument))
        return self


def _model_changes(instrument: str, family: str, reported: ModelReport) -> ev.SignalModel:
    plain = {"instrument": instrument, "family": family, "event": reported.event.value}
    return msgspec.convert(plain | {"version": reported.version, "text": reported.text}, ev.SignalModel)
