"""Raw venue records of a small market, as dicts, as records and as what a group is given."""

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

from seawall.operators.core.market import GroupBatcher, GroupState
from seawall.schemas import events as ev
from seawall.schemas.configuration import MarketTerms
from seawall.schemas.decoding import decode_event
from seawall.schemas.records import Record
from seawall_testing.desk import SECOND, T0, Json

VENUES = ("hub", "lake", "port")


def venue_record(at_us: int, kind: str, venue: str = "hub", name: str = "ETH-PERP", **fields: Any) -> Json:
    return {"type": kind, "event_time_us": at_us, "venue": venue, "instrument": name, **fields}


def quote(at_us: int, price: float, venue: str = "hub", name: str = "ETH-PERP", half_bp: float = 1.0) -> Json:
    bid, ask = (f"{price * (1 + side * half_bp / 1e4):.6f}" for side in (-1, 1))
    return venue_record(at_us, "quote", venue, name, bid=bid, ask=ask, bid_size="5", ask_size="6")


def trade(at_us: int, price: float, venue: str = "hub", name: str = "ETH-PERP", **fields: Any) -> Json:
    return venue_record(at_us, "trade", venue, name, price=f"{price:.6f}", **{"quantity": "2", "side": "buy", **fields})


def depth(at_us: int, price: float, size: float, venue: str = "hub", name: str = "ETH-PERP") -> Json:
    steps = [0.0005, 0.004, 0.008, 0.03]
    bids, asks = ([[f"{price * (1 + side * s):.6f}", f"{size:.4f}"] for s in steps] for side in (-1, 1))
    return venue_record(at_us, "depth", venue, name, bids=bids, asks=asks)


def market(seconds: int, seed: int = 1, names: Iterable[str] = ("ETH-PERP",), crash_at: int = -1) -> list[Json]:
    """Return quotes, trades and books at three venues, each second; from ``crash_at`` on the price is a tenth lower."""
    rng = random.Random(seed)
    found: list[Json] = []
    levels = dict.fromkeys(names, 100.0)
    for second in range(seconds):
        for name in levels:
            levels[name] *= 1 + (rng.random() - 0.5) * 1e-3 - (0.1 if second == crash_at else 0.0)
            for place, venue in enumerate(VENUES):
                now = T0 + second * SECOND + place * 150_000 + rng.randrange(50_000)
                price = levels[name] * (1 + (rng.random() - 0.5) * 1e-4)
                found.append(quote(now, price, venue, name))
                found.append(trade(now + 1, price, venue, name, side=rng.choice(["buy", "sell"])))
                if second % 5 == place:
                    found.append(depth(now + 2, price, 3 + rng.random(), venue, name))
    return sorted(found, key=lambda record: record["event_time_us"])


def decoded(records: Iterable[Json]) -> list[Any]:
    return [decode_event(json.dumps(record).encode()) for record in records]


def group_items(records: Iterable[Json], terms: MarketTerms, every_second: bool = False) -> Iterator[tuple[int, Any]]:
    """Yield what the groups are given of records in order."""
    cutter = GroupBatcher(terms.groups, terms.interval_us, every_second)
    high = 0
    for event in decoded(records):
        high = max(high, event.event_time_us)
        cutter.add(high, event)
        yield from cutter.take()
    cutter.finish()
    yield from cutter.take()


def watch_group(records: Iterable[Json], terms: MarketTerms | None = None, **options: Any) -> list[Record]:
    """Run records through one group; return its records."""
    terms = terms or MarketTerms(groups=1)
    group = GroupState(0, terms)
    return [record for _, item in group_items(records, terms, **options) for record in group.step(item)]


def signals(records: Iterable[Record]) -> list[ev.Signal]:
    found = [decode_event(record.value) for record in records]
    assert all(isinstance(signal, ev.Signal) for signal in found)
    return found  # type: ignore[return-value]


def alerts(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Return kind and scope of each alert, in order."""
    return [(alert.kind, alert.scope) for signal in signals(records) for alert in signal.alerts]
