"""The one stream that a backtest plays: reference, book, what history says beside markets, and the market's signals.

Order is (event time, source, line), sources in the order of the plan, signals last, as the sequencer merges files
before topics. Where the history has no order books, depth is assumed: a share of what was traded in the hour before.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from seawall.ops.lab.backtest.book import Client, clients, openings, reference
from seawall.ops.lab.backtest.history import Line, kind_of, lines, rest_of
from seawall.ops.lab.backtest.plan import Plan, sha256_of
from seawall.ops.lab.cache import Cache
from seawall.ops.lab.growing import Growing
from seawall.schemas.errors import UsageError

Json = dict[str, Any]
HOUR_US = 3_600_000_000
EVER_US = 1 << 62
BANDS = 8  # of depth in a signal
UNITS_PLACES = 6
EPHEMERAL = ("funding", "open_interest", "venue_status", "notice", "order")  # of no account before the period begins


class Market(NamedTuple):
    """What the stream knows of the market beforehand: first prices, and each hour's traded quantity."""

    coins: dict[str, str]  # base -> instrument
    first: dict[str, float]  # instrument -> first price
    from_us: int  # when all of them have one
    traded: dict[tuple[str, int], float]  # instrument, hour -> quantity


def survey(files: list[Path], signals: Sequence[Path | Growing], plan: Plan, cache: Cache) -> Market:
    """Read off what the book and the assumed depth need; what does not depend on the period only once."""
    share = bool(plan.reactions["depth_share"])
    key = sha256_of(["survey", [path.name for path in files], share])
    path, _ = cache.make(key, ".survey.json", lambda part: _describe(files, share, part))
    found = orjson.loads(path.read_bytes())
    traded = {(name, hour): quantity for name, hour, quantity in found["traded"]}
    first, from_us = _first_prices(signals, set(found["coins"].values()), plan)
    return Market(found["coins"], first, from_us, traded)


def _describe(files: list[Path], share: bool, part: Path) -> None:
    """Write which coins the history has, and what was traded of each instrument in each hour."""
    coins: dict[str, str] = {}
    traded: dict[tuple[str, int], float] = {}
    for number, path in enumerate(files):
        for _, _, _, line in lines(path if share else rest_of(path), number, EVER_US):
            kind = kind_of(line)
            if kind == "instrument":
                found = orjson.loads(line)
                coins.setdefault(found["base"], found["instrument"])
            elif kind in ("bar", "trade"):
                found = orjson.loads(line)
                key = found["instrument"], found["event_time_us"] // HOUR_US
                traded[key] = traded.get(key, 0.0) + float(found.get("volume") or found.get("quantity") or 0)
    listed = [[name, hour, quantity] for (name, hour), quantity in sorted(traded.items())]
    part.write_bytes(orjson.dumps({"coins": coins, "traded": listed}))


def _first_prices(signals: Sequence[Path | Growing], instruments: set[str], plan: Plan) -> tuple[dict[str, float], int]:
    first: dict[str, float] = {}
    from_us = 0
    for path in signals:
        for time_us, _, _, line in _within(path, 0, plan):
            for row in orjson.loads(line).get("instruments", ()):
                if row["instrument"] in instruments and row["instrument"] not in first:
                    first[row["instrument"]] = row["price"]
                    from_us = max(from_us, time_us)
            if from_us and time_us > from_us + HOUR_US:
                break
    return first, from_us


def make_book(plan: Plan, market: Market) -> list[Client]:
    """Return the clients of the plan's book; none where it has none."""
    if not plan.book:
        return []
    known = sorted(coin for coin, instrument in market.coins.items() if instrument in market.first)
    if not known:
        raise UsageError(f"{plan.path.name} [book]: the history describes no instrument with a price; add terms")
    return clients(plan.path.parent / plan.book["accounts"], known, plan.book)


def stream(
    plan: Plan, files: list[Path], signals: Sequence[Path | Growing], market: Market, book: list[Client]
) -> Iterator[tuple[int, Json | bytes]]:
    """Yield times and records."""
    head = list(reference(book, plan.reactions["hedged_at"])) if book else []
    sources: list[Iterable[tuple[int, int, int, Json | bytes]]] = [
        [(-1, -1, at, record) for at, record in enumerate(head)]
    ]
    sources += [_others(path, number, plan) for number, path in enumerate(files)]
    prices = {coin: (name, market.first[name]) for coin, name in market.coins.items() if name in market.first}
    place = len(files)
    for group, path in enumerate(signals):
        sources.append(_deepened(path, place + group, plan, market))
    if book:
        opened = openings(book, prices, market.from_us, plan.reactions["hedged_at"], plan.book["hedged"])
        sources.append([(market.from_us, place + len(signals), at, record) for at, record in enumerate(opened)])
    for time_us, _, _, record in heapq.merge(*sources, key=lambda item: item[:3]):
        yield time_us, record


def _others(path: Path, number: int, plan: Plan) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the records that are not for ``market`` alone; what books are made of, also from before the period."""
    for time_us, place, count, line in lines(rest_of(path), number, plan.last_us):
        if time_us >= plan.first_us or kind_of(line) not in EPHEMERAL:
            yield time_us, place, count, line


def _within(path: Path | Growing, number: int, plan: Plan) -> Iterator[Line]:
    """Yield the signals of a period; one is told at the end of its interval."""
    for line in lines(path, number, plan.last_us + 1):
        if line[0] > plan.first_us:
            yield line


def _deepened(
    path: Path | Growing, number: int, plan: Plan, market: Market
) -> Iterator[tuple[int, int, int, Json | bytes]]:
    share = plan.reactions["depth_share"]
    for time_us, place, count, line in _within(path, number, plan):
        if not share:
            yield time_us, place, count, line
            continue
        signal = orjson.loads(line)
        for row in signal.get("instruments", ()):
            if not row.get("depth"):
                units = market.traded.get((row["instrument"], time_us // HOUR_US - 1), 0.0)
                row["depth"] = [round(share * units, UNITS_PLACES)] * BANDS
        yield time_us, place, count, signal
