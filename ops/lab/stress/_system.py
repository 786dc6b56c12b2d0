"""The live system at a point in time, to be stressed, and the input records that a scenario makes of its markets.

The journal is replayed once. From then on a `SystemSnapshot` makes as many systems as there are scenarios, each from
the operators' own snapshots, as a restart would: the states that decide live also decide a scenario.

Prices of an instrument move with what names it best: itself, its underlying, its base asset, the driver that it
follows, or ``*`` (money, fiat or stable, moves only where it is named). All marks of an instrument, each venue's own
and the one across venues, move by the same fraction, so bases between venues stay; a dislocation is a step that names
one instrument. Where markets came as signals they go on as signals, with depth and volatility changed alike, because a
mark would not replace a robust price. Options are priced anew by Black-76 at the moved forward and volatility.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from seawall.connectors.bus import Bus
from seawall.operators.core.base import MeasuredSlice, Outputs, pack
from seawall.operators.core.journal import SCHEMA, STREAM_SOURCE, JournalState, SlicingState
from seawall.operators.core.pipeline import Pipeline
from seawall.operators.core.portfolio import ExposureState
from seawall.operators.core.pricing import RUNG, black_value
from seawall.ops.lab.stress._scenario import Scenario, Step
from seawall.ops.verify import slices_in_order
from seawall.schemas import events as ev
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.records import decode_slice

# The live system at a point in time, to be stressed: all states of `sequence` and `risk`, and copies of them.
#
# The journal is replayed once. From then on a :class:`SystemSnapshot` makes as many systems as there are scenarios,
# each from the operators' own snapshots, as a restart would: what a scenario does is decided by the same states that
# decide live.


class System:
    """Risk of all shards and of the firm: ``step(value)``; ``measured`` has the last measures of each shard and all."""

    def __init__(self, shards: int) -> None:
        self._risk = Pipeline(shards)

    @property
    def exposure(self) -> list[ExposureState]:
        """The books of the shards, in order."""
        return [shard.exposure for shard in self._risk.shards]

    @property
    def measured(self) -> dict[str, MeasuredSlice]:
        """The last measures of each shard and of the firm."""
        return self._risk.measured()

    def step(self, value: bytes) -> list[Outputs]:
        """Apply one journal value; return the records of its slice, and of the seconds that it completes."""
        return self._risk.step(value)

    def snapshot(self) -> dict[str, Any]:
        """Return the snapshots of all states; :meth:`restore` makes an equal system of them."""
        *shards, firm = self._risk.snapshots()
        return {"shards": shards, "firm": firm, "measured": self.measured}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "System":
        """Return the system of a snapshot."""
        self = cls(0)
        self._risk = Pipeline.restore([*state["shards"], state["firm"]])
        for one in self._risk.parts():
            one.measured = state["measured"].get(one.decider.key)
        return self


class Price(NamedTuple):
    """The last price of an instrument at a venue, or across venues where that is empty."""

    instrument: str
    venue: str
    price: float
    robust: bool


class SystemSnapshot(NamedTuple):
    """A run as it stood after its last slice.

    Attributes
    ----------
    as_of_us
        The end of that slice.
    digest
        SHA-256 of the journal's values, in order: what results may be kept by.
    signals
        The last row of each instrument that came as a signal.
    volatilities
        The last implied volatility of each option that has one.
    limits
        The ids of those in force.
    """

    configuration: Configuration
    as_of_us: int
    digest: str
    system: dict[str, Any]
    slicing: bytes
    prices: list[Price]
    signals: dict[str, ev.SignalRow]
    instruments: dict[str, ev.Instrument]
    assets: dict[str, ev.Asset]
    counterparties: dict[str, ev.Counterparty]
    venues: frozenset[str]
    volatilities: dict[str, float]
    limits: tuple[str, ...]

    def begin(self) -> tuple[SlicingState, System]:
        """Return a sequencer and a system that go on from here, independent of all others."""
        return SlicingState.restore(self.slicing, self.configuration), System.restore(self.system)


def snapshot_system(configuration: Configuration, bus: Bus, seen: Callable[[], None] = lambda: None) -> SystemSnapshot:
    """Replay a run's journal and return where it stands; ``seen`` is called once per slice.

    Raises
    ------
    UsageError
        There is no journal.
    """
    shards = configuration.shards
    standing, system, digest = JournalState(shards), System(shards), hashlib.sha256()
    signals: dict[str, ev.SignalRow] = {}
    for value in slices_in_order(bus, shards):
        seen()
        piece = decode_slice(value)
        digest.update(value)
        standing.apply(piece.shard, value)
        system.step(value)
        for event in piece.events if piece.shard == 0 else ():
            if isinstance(event, ev.Signal):
                signals |= {row.instrument: row for row in event.instruments}
    if not standing.as_of_us:
        raise UsageError("the run has no journal yet; run it first: seawall run CONFIG.toml")
    standing.positions.pop(STREAM_SOURCE.key, None)
    folded = {"folded": standing.snapshot(), "waiting": [], "number": 0, "rejects": 0}
    ledger = system.exposure[0].ledger
    assert ledger is not None
    book = ledger.directory
    return SystemSnapshot(
        configuration, standing.as_of_us, digest.hexdigest(), system.snapshot(), pack(SCHEMA, folded), _prices(ledger),
        signals, {one.instrument: one for one in book.instrument_records}, dict(book.asset_records),
        dict(book.counterparty_records), frozenset(book.venues), _volatilities(ledger),
        tuple(standing.admission.policy.limits),
    )  # fmt: skip


def _prices(ledger: Any) -> list[Price]:
    rows, names = ledger.marks.rows, list(ledger.directory.instruments)
    venues = {number: name for name, number in ledger.directory.venues.items()}
    found = []
    for at in range(rows.size):
        price = float(rows["price"][at])
        if price > 0:
            venue = int(rows["venue"][at])
            robust = int(rows["standing"][at]) == RUNG["robust"]
            found.append(Price(names[int(rows["instrument"][at])], venues.get(venue, ""), price, robust))
    return found


def _volatilities(ledger: Any) -> dict[str, float]:
    names = list(ledger.directory.instruments)
    known = ledger.sheet.volatility
    places = ledger.sheet.terms.instrument.tolist()
    return {names[number]: float(value) for number, value in zip(places, known, strict=False) if 0 < float(value) < 10}


# What a scenario makes of a book's markets: input records, as venues and people would send them.
#
# Prices of an instrument move with what names it best: itself, its underlying, its base asset, the driver that it
# follows, or ``*`` (money, fiat or stable, moves only where it is named). All marks of an instrument, each venue's own
# and the one across venues, move by the same fraction, so bases between venues stand; a dislocation is a step that
# names one instrument. Where markets came as signals they go on as signals, with depth and volatility changed alike,
# because a mark would not replace a robust price. Options are priced anew by Black-76 at the moved forward and
# volatility.

Json = dict[str, Any]
YEAR_US = 365 * 86_400_000_000
FUNDING_INTERVAL_US = 8 * 3_600_000_000
PLACES = 18  # of a decimal on the wire
PRICE_MIN = 1e-18  # a price is above 0: what is worth less than that, as a far option, is marked at it


def scenario_records(scenario: Scenario, stand: SystemSnapshot) -> Iterator[Json]:
    """Yield the records of a scenario, in order of their time; an interval between steps has marks of its own."""
    before = Step(0, {}, {}, {}, {}, {}, {}, [], [])
    seq = 0
    for step in scenario.steps:
        for part in _moments(scenario, before, step):
            at_us = stand.as_of_us + part.at_us
            yield from _markets(scenario, part, stand, at_us, seq)
            seq += 1
        yield from _told(before, step, stand, stand.as_of_us + step.at_us)
        before = _held(before, step)


def untouched(scenario: Scenario, stand: SystemSnapshot) -> list[str]:
    """Return the names in a scenario's prices and venues that nothing in the book has."""
    known = {"*", *stand.instruments, *stand.assets, *stand.venues}
    known |= {name for one in stand.instruments.values() for name in (one.base, one.quote, one.underlying or one.base)}
    named = {name for step in scenario.steps for name in (*step.price, *step.venues)}
    return sorted(named - known)


def scenario_moves(
    scenario: Scenario, stand: SystemSnapshot
) -> Iterator[tuple[int, dict[str, float], dict[str, float], dict[str, float]]]:
    """Yield each step's time, the moves of instruments since the start, what is left of their depth, and haircuts.

    An option's is the move of its underlying: what it is worth then is not part of it.
    """
    before = Step(0, {}, {}, {}, {}, {}, {}, [], [])
    for step in scenario.steps:
        before = _held(before, step)
        depth = {name: _of(before.depth, one, 1.0) for name, one in stand.instruments.items()}
        price = {name: _move(scenario, before, stand, one) for name, one in stand.instruments.items()}
        yield step.at_us, price, depth, dict(before.haircut)


def _held(before: Step, step: Step) -> Step:
    """Return a step with what held before it and what it does not name anew."""
    merged: dict[str, Any] = {name: {**getattr(before, name), **getattr(step, name)} for name in Step._fields[1:7]}
    return Step(step.at_us, **merged, failed=[*before.failed, *step.failed], stale=[*before.stale, *step.stale])


def _moments(scenario: Scenario, before: Step, step: Step) -> Iterator[Step]:
    """Yield the moments on the way to a step, and the step: prices go there in a straight line."""
    full = _held(before, step)
    at_us = before.at_us + scenario.every_us
    while scenario.every_us and at_us < step.at_us:
        part = (at_us - before.at_us) / (step.at_us - before.at_us)
        price = {name: _between(before.price.get(name, 0.0), move, part) for name, move in full.price.items()}
        yield full._replace(at_us=at_us, price=price, stale=before.stale)
        at_us += scenario.every_us
    yield full


def _between(start: float, end: float, part: float) -> float:
    return start + (end - start) * part


# --- markets ----------------------------------------------------------------------------------------------------------


def _markets(scenario: Scenario, step: Step, stand: SystemSnapshot, at_us: int, seq: int) -> Iterator[Json]:
    moved: dict[str, float] = {}
    robust: dict[str, float] = {}
    for price in stand.prices:
        instrument = stand.instruments[price.instrument]
        if _is_stale(instrument, step):
            continue
        value = max(_price(scenario, step, stand, price, at_us), PRICE_MIN)
        if price.robust:
            robust[price.instrument] = value
        elif instrument.kind != "option":
            yield _mark(price, value, at_us)
        elif not price.venue or price.instrument not in moved:
            yield _mark(price, value, at_us) | _volatility(step, stand, instrument)
        moved[price.instrument] = value
    if robust:
        rows = [_signal_row(step, stand, name, value, at_us) for name, value in robust.items()]
        head = {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": seq, "events": len(rows)}
        yield {**head, "instruments": rows}


def _mark(price: Price, value: float, at_us: int) -> Json:
    body = {"type": "mark", "event_time_us": at_us, "instrument": price.instrument, "price": _decimal(value)}
    return body | ({"venue": price.venue} if price.venue else {})


def _volatility(step: Step, stand: SystemSnapshot, instrument: ev.Instrument) -> Json:
    known = stand.volatilities.get(instrument.instrument)
    return {} if known is None else {"implied_volatility": _decimal(known * _of(step.volatility, instrument, 1.0))}


def _price(scenario: Scenario, step: Step, stand: SystemSnapshot, price: Price, at_us: int) -> float:
    instrument = stand.instruments[price.instrument]
    move = _move(scenario, step, stand, instrument)
    if instrument.kind != "option":
        return price.price * (1 + move)
    volatility = stand.volatilities.get(instrument.instrument)
    forward = _forward(stand, instrument)
    if volatility is None or forward is None:
        return price.price
    years = max(instrument.expiry_us - at_us, 1) / YEAR_US
    grown = volatility * _of(step.volatility, instrument, 1.0)
    then = forward * (1 + move)
    call, rate = instrument.option_type == "call", float(instrument.discount_rate)
    found = black_value(then, float(instrument.strike), years, grown, call, rate)
    return float(found) / (then if instrument.inverse else 1.0)


def _forward(stand: SystemSnapshot, instrument: ev.Instrument) -> float | None:
    wanted = instrument.forward
    underlying = instrument.underlying or instrument.base
    for price in stand.prices:
        one = stand.instruments[price.instrument]
        spot = one.kind == "spot" and one.base == underlying and not price.venue
        if price.instrument == wanted if wanted else spot:
            return price.price
    return None


def _signal_row(step: Step, stand: SystemSnapshot, name: str, value: float, at_us: int) -> Json:
    """Return the last signal of an instrument, moved: prices, depth and volatility."""
    instrument, row = stand.instruments[name], stand.signals.get(name)
    body: Json = {"instrument": name, "price": value, "source": "robust", "time_us": at_us}
    if row is None:
        return body
    thin, wild = _of(step.depth, instrument, 1.0), _of(step.volatility, instrument, 1.0)
    factor = value / row.price
    venues = [
        {"venue": one.venue, "price": one.price * factor, "kind": one.kind, "time_us": at_us}
        | {"depth": [size * thin for size in one.depth], "stale": one.stale}
        for one in row.venues
    ]
    body |= {"venues": venues, "depth": [size * thin for size in row.depth]}
    body |= {"realised_volatility": row.realised_volatility * wild, "ew_volatility": row.ew_volatility * wild}
    return body | {"state": row.state, "score": row.score}  # a row without a state is no more than marks


def _move(scenario: Scenario, step: Step, stand: SystemSnapshot, instrument: ev.Instrument) -> float:
    """Return the change of an instrument's price since the start; one in a coin moves against that coin."""
    named = _named(step.price, instrument)
    if instrument.instrument in step.price:
        return step.price[instrument.instrument]
    if named is None:
        named = 0.0 if _is_money(stand, instrument.base) else _followed(scenario, step, instrument)
    return (1 + named) / (1 + step.price.get(instrument.quote, 0.0)) - 1


def _followed(scenario: Scenario, step: Step, instrument: ev.Instrument) -> float:
    follow = scenario.follow
    if follow and follow["driver"] in step.price:
        ratio = _of(follow["ratio"], instrument, 1.0)
        return float(max(step.price[follow["driver"]] * follow["correlation"] * ratio, -0.999999))
    return step.price.get("*", 0.0)


def _is_money(stand: SystemSnapshot, asset: str) -> bool:
    record = stand.assets.get(asset)
    return record is not None and record.asset_class in ("fiat", "stablecoin")


def _named(table: dict[str, float], instrument: ev.Instrument) -> float | None:
    for name in (instrument.instrument, instrument.underlying or instrument.base, instrument.base):
        if name in table:
            return table[name]
    return None


def _of(table: dict[str, float], instrument: ev.Instrument, default: float) -> float:
    named = _named(table, instrument)
    return table.get("*", default) if named is None else named


def _is_stale(instrument: ev.Instrument, step: Step) -> bool:
    return not {instrument.instrument, instrument.underlying or instrument.base, instrument.base}.isdisjoint(step.stale)


# --- what is told -----------------------------------------------------------------------------------------------------


def _told(before: Step, step: Step, stand: SystemSnapshot, at_us: int) -> Iterator[Json]:
    """Yield what a step says of venues, funding, haircuts and counterparties."""
    for venue in sorted(stand.venues | step.venues.keys() - {"*"}):
        status = step.venues.get(venue, step.venues.get("*"))
        if status is not None and before.venues.get(venue) != status:
            yield {"type": "venue_status", "event_time_us": at_us, "venue": venue, "status": status}
    for price in stand.prices:
        instrument = stand.instruments[price.instrument]
        rate = _named(step.funding, instrument)
        rate = step.funding.get("*") if rate is None else rate
        if instrument.kind == "perpetual" and price.venue and rate is not None:
            body = {"venue": price.venue, "instrument": price.instrument, "rate": _decimal(rate)}
            terms = {"interval_us": FUNDING_INTERVAL_US, "kind": "predicted"}
            yield {"type": "funding", "event_time_us": at_us, **body, **terms}
    for name, haircut in step.haircut.items():
        asset = stand.assets.get(name)
        body = {"peg": asset.peg, "issuer": asset.issuer} if asset is not None else {}
        body = {key: value for key, value in body.items() if value}
        kind = asset.asset_class if asset is not None else "coin"
        terms = {"asset": name, "class": kind, "haircut": _decimal(haircut)}
        yield {"type": "asset", "event_time_us": at_us, **terms, **body}
    for name in step.failed:
        notice = {"notice_id": f"stress-{name}", "subject": name, "kind": "insolvency", "severity": 3}
        yield {"type": "notice", "event_time_us": at_us, **notice}


def _decimal(value: float) -> str:
    return np.format_float_positional(value, precision=PLACES, trim="-") if value else "0"
