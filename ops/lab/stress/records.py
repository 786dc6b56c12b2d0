"""What a scenario makes of a book's markets: input records, as venues and people would send them.

Prices of an instrument move with what names it best: itself, its underlying, its base asset, the driver that it
follows, or ``*`` (money, fiat or stable, moves only where it is named). All marks of an instrument, each venue's own
and the one across venues, move by the same fraction, so bases between venues stand; a dislocation is a step that names
one instrument. Where markets came as signals they go on as signals, with depth and volatility changed alike, because a
mark would not replace a robust price. Options are priced anew by Black-76 at the moved forward and volatility.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from seawall.operators.core.valuation.options import black_value
from seawall.ops.lab.stress.scenario import Scenario, Step
from seawall.ops.lab.stress.system import Price, Stand
from seawall.schemas import events as ev

Json = dict[str, Any]
YEAR_US = 365 * 86_400_000_000
FUNDING_INTERVAL_US = 8 * 3_600_000_000
PLACES = 18  # of a decimal on the wire
PRICE_MIN = 1e-18  # a price is above 0: what is worth less than that, as a far option, is marked at it


def records_of(scenario: Scenario, stand: Stand) -> Iterator[Json]:
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


def untouched(scenario: Scenario, stand: Stand) -> list[str]:
    """Return the names in a scenario's prices and venues that nothing in the book has."""
    known = {"*", *stand.instruments, *stand.assets, *stand.venues}
    known |= {name for one in stand.instruments.values() for name in (one.base, one.quote, one.underlying or one.base)}
    named = {name for step in scenario.steps for name in (*step.price, *step.venues)}
    return sorted(named - known)


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


def _markets(scenario: Scenario, step: Step, stand: Stand, at_us: int, seq: int) -> Iterator[Json]:
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


def _volatility(step: Step, stand: Stand, instrument: ev.Instrument) -> Json:
    known = stand.volatilities.get(instrument.instrument)
    return {} if known is None else {"implied_volatility": _decimal(known * _of(step.volatility, instrument, 1.0))}


def _price(scenario: Scenario, step: Step, stand: Stand, price: Price, at_us: int) -> float:
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


def _forward(stand: Stand, instrument: ev.Instrument) -> float | None:
    wanted = instrument.forward
    underlying = instrument.underlying or instrument.base
    for price in stand.prices:
        one = stand.instruments[price.instrument]
        spot = one.kind == "spot" and one.base == underlying and not price.venue
        if price.instrument == wanted if wanted else spot:
            return price.price
    return None


def _signal_row(step: Step, stand: Stand, name: str, value: float, at_us: int) -> Json:
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


def _move(scenario: Scenario, step: Step, stand: Stand, instrument: ev.Instrument) -> float:
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


def _is_money(stand: Stand, asset: str) -> bool:
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


def _told(before: Step, step: Step, stand: Stand, at_us: int) -> Iterator[Json]:
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
