"""March 2020 and May 2021 with and without each ready playbook, on a book of real clients scaled to those markets.

python ops/benchmarks/mitigation_crashes.py [--data ../shared/data] [--only may_2021] [--playbook NAME …] [--worst]

The clients are accounts of Hyperliquid's export of 2023: of each its net position per coin when it was largest, long
or short as it was, and what it had paid in; leverage is kept (at most ``LEVERAGE_MAX``), sizes are scaled so that the
book is ``BOOK`` in gross notional. BTC and ETH keep their market, other coins take turns with the rest of the
recording. Prices are the bars' open, low and high in the order that their direction suggests, and close, joined by
straight lines, every 20 seconds where bars are minutes and every minute where they are hours. Circuit breakers are
those of ``market``, on these prices; what venues did is in ``STORY``. Put on top, so that every playbook has its
incident: at the low of bitcoin the venue takes a tenth of our hedge in it away (auto-deleveraging), a minute before it
a client sends an order for ten times its largest position, which is filled after two seconds; a coin's model drifts
when its first breaker trips; and the reserves of USDT are doubted at the first breaker of bitcoin.

Visible depth is a hundredth of the hour's traded value. The house is short what clients are long with it, and holds the
same at one venue. A client that is called pays within an hour what it has aside: half of what it paid in at first for
one in three, nothing for the others.

Playbooks are as they ship, the limits stand below; all runs have the same prices, clients and story. ``--worst`` plays
the worst hours only.
"""

import argparse
import csv
import gzip
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from seawall.operators.core.market.rules import Bands, once
from seawall.ops.lab.backtest.book import holders
from seawall.ops.rehearsal import Rehearsal, Result, World
from seawall.schemas.configuration import load_configuration
from seawall.schemas.markets import MarketTerms

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PLAYBOOKS = Path(__file__).resolve().parents[1] / "playbooks"
READY = ("client_default", "collateral_spiral", "fat_finger", "feed_failure", "flash_crash", "model_drift",
         "stablecoin_depeg", "venue_outage")  # fmt: skip
BOOK = 100_000_000.0
CLIENTS = 60
LEVERAGE_MAX, LEVERAGE_MIN = 10.0, 1.0
Json = dict[str, Any]
Bars = list[tuple[int, float, float, float, float, float, int]]  # time, open, high, low, close, value, length in us


class Crash(NamedTuple):
    """A recording: its folder, the part of file names, from when to when it is played, its worst hours, its steps."""

    folder: str
    pattern: str
    start: str
    end: str
    worst: tuple[str, str]
    step_s: int


CRASHES = {
    "march_2020": Crash(
        "crash_mar_2020",
        "BINANCE-*USDT-SPOT-1h-2020-03.csv.gz",
        "2020-03-12T06:00",
        "2020-03-13T06:00",
        ("2020-03-12T22:00", "2020-03-13T04:00"),
        60,
    ),
    "may_2021": Crash(
        "crash_may_2021",
        "*.csv.gz",
        "2021-05-19T09:00",
        "2021-05-19T18:00",
        ("2021-05-19T12:30", "2021-05-19T14:00"),
        20,
    ),
}
# What the one venue says of itself, and whether its feed is silent. Days and order are the sources' (BitMEX was down in
# the second leg of March 2020, exchanges were slow in May 2021), the minutes are ours.
STORY = {
    "march_2020": [("2020-03-13T02:00", "degraded"), ("2020-03-13T02:16", "down"), ("2020-03-13T02:41", "up")],
    "may_2021": [("2021-05-19T12:55", "degraded"), ("2021-05-19T13:40", "up")],
}
LIMITS = """
[[limit]]
id = "client-margin"
scope = "account:*"
measure = "margin_ratio"
warning = 0.5
soft = 0.6
hard = 0.75
exit_ratio = 0.9
dwell_s = 30

[[limit]]
id = "client-exposure"
scope = "counterparty:*"
measure = "current_exposure"
hard = 250_000_000

[[limit]]
id = "venue-exposure"
scope = "counterparty:venue"
measure = "current_exposure"
soft = 120_000_000
hard = 250_000_000

[[limit]]
id = "firm-exposure"
scope = "firm"
measure = "current_exposure"
soft = 110_000_000

[[limit]]
id = "dealer-exposure"
scope = "netting_set:*"
measure = "current_exposure"
soft = 2_000_000

[[limit]]
id = "liquidation-distance"
scope = "account:*"
measure = "distance_to_liquidation"
direction = "below"
soft = 0.05
hard = 0.01

[[limit]]
id = "strategy-leverage"
scope = "account:*"
measure = "leverage"
soft = 15
hard = 25

[[limit]]
id = "working-orders"
scope = "account:client-03/main"
measure = "worst_case_notional"
warning = 15_000_000
soft = 20_000_000
hard = 30_000_000

[[limit]]
id = "traded-per-minute"
scope = "account:client-03/main"
measure = "gross_notional"
window_s = 60
hard = 20_000_000
"""
# The account with the largest position in bitcoin has limits of its own: it is the one that errs.


def bars(data: Path, crash: Crash) -> dict[str, Bars]:
    """Return the bars of each coin between start and end."""
    first, last = (
        int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) for day in (crash.start, crash.end)
    )
    found = {}
    for file in sorted((data / crash.folder).glob(crash.pattern)):
        with gzip.open(file, "rt") as lines:
            rows = [row for row in csv.DictReader(lines) if first <= int(row["open_time_ms"]) < last]
        length_us = 3_600_000_000 if "-1h-" in file.name else 60_000_000
        coin = file.name.split("-")[1].removesuffix("USDT")
        if rows:
            found[coin] = [_bar(row, length_us) for row in rows]
    return found


def _bar(row: Json, length_us: int) -> tuple[int, float, float, float, float, float, int]:
    start, high, low, end = (float(row[name]) for name in ("open", "high", "low", "close"))
    return int(row["open_time_ms"]) * 1000, start, high, low, end, float(row["volume"]) * end, length_us


def path(found: Bars, step_s: int) -> Iterator[tuple[int, float]]:
    """Yield (time, price) every ``step_s`` seconds along the bars."""
    for at_us, start, high, low, end, _, length_us in found:
        knots = [start, high, low, end] if end < start else [start, low, high, end]
        steps = max(length_us // (step_s * 1_000_000), 3)
        for step in range(steps):
            place = 3 * step / steps
            left = int(place)
            yield at_us + step * length_us // steps, knots[left] + (knots[left + 1] - knots[left]) * (place - left)


def clients(data: Path, coins: list[str]) -> dict[str, tuple[float, dict[str, float]]]:
    """Return, by account, what it paid in and its positions' notionals by coin, scaled to the book."""
    largest = holders(data / "hyperliquid_accounts_2023")[:CLIENTS]
    scale = BOOK / sum(one.gross for one in largest)
    others = [coin for coin in coins if coin not in ("BTC", "ETH")] or coins
    found = {}
    for number, one in enumerate(largest):
        mapped: dict[str, float] = defaultdict(float)
        for place, (coin, notional) in enumerate(sorted(one.notionals.items())):
            mapped[coin if coin in coins else others[(number + place) % len(others)]] += notional * scale
        leverage = min(max(one.gross / one.paid, LEVERAGE_MIN), LEVERAGE_MAX)
        found[f"client-{number:02}/main"] = (one.gross * scale / leverage, dict(mapped))
    return found


def world(data: Path, crash: Crash) -> tuple[list[tuple[int, Json]], dict[str, float]]:
    """Return all records with their times, and what each client still can pay."""
    market = bars(data, crash)
    coins = sorted(market)
    book = clients(data, coins)
    first = {coin: found[0][1] for coin, found in market.items()}
    start_us = min(found[0][0] for found in market.values())
    head: list[Json] = [
        {"type": "instrument", "instrument": f"{coin}-PERP", "kind": "perpetual", "base": coin, "quote": "USD",
         "settlement": "USD", "quantity_increment": "0.000001", "initial_margin_rate": "0.06",
         "maintenance_margin_rate": "0.03"}
        for coin in coins
    ]  # fmt: skip
    head.append({"type": "counterparty", "counterparty": "venue", "name": "venue", "role": "venue"})
    head.append(
        {"type": "account", "account": "house/venue", "counterparty": "venue", "holder": "house", "venue": "venue"}
    )
    for account in book:
        name = account.partition("/")[0]
        head.append({"type": "counterparty", "counterparty": name, "name": name, "role": "client"})
        head.append({"type": "netting_set", "netting_set": name, "counterparty": name, "close_out": True})
        head.append({"type": "account", "account": account, "counterparty": name, "holder": "counterparty",
                     "netting_set": name})  # fmt: skip
    items: list[tuple[int, int, Json]] = [(start_us, -1, record) for record in head]
    house: dict[str, float] = defaultdict(float)
    for account, (equity, positions) in book.items():
        items.append((start_us, 1, _opening("balance_report", start_us, account, asset="USD", amount=f"{equity:.2f}")))
        for coin, notional in sorted(positions.items()):
            house[coin] += notional
            items.append((start_us, 1, _position(start_us, account, coin, notional, first[coin])))
    items.append((start_us, 1, _opening("balance_report", start_us, "house/venue", asset="USD", amount=f"{BOOK:.2f}")))
    items += [
        (start_us, 1, _position(start_us, "house/venue", coin, n, first[coin])) for coin, n in sorted(house.items())
    ]
    for coin, found in market.items():
        items += breakers(coin, path(found, crash.step_s))
        for at_us, price in path(found, crash.step_s):
            mark = {"type": "mark", "event_time_us": at_us, "instrument": f"{coin}-PERP", "price": f"{price:.8f}"}
            items.append((at_us, 0, mark))
        hour: dict[int, float] = defaultdict(float)
        for at_us, *_, value, _ in found:
            hour[at_us // 3_600_000_000] += value
        for at_us, _, _, _, end, _, _ in found:
            for later in range(0, found[0][6], 60_000_000):
                depth = 0.01 * hour[at_us // 3_600_000_000] / end
                items.append((at_us + later, 2, _signal(at_us + later, coin, end, depth)))
    last_us = max(at_us for at_us, *_ in items)
    items += [(at_us, 3, record) for at_us, record in told(crash, start_us, last_us)]
    low = min(path(market["BTC"], crash.step_s), key=lambda pair: (pair[1], pair[0]))
    items.append(deleveraged(*low, house["BTC"] / first["BTC"]))
    largest = max(book, key=lambda account: (abs(book[account][1].get("BTC", 0.0)), account))
    items += fat_finger(*low, largest, 10 * book[largest][1]["BTC"] / first["BTC"])
    items.sort(key=lambda item: item[:2])
    means = {account: equity / 2 for number, (account, (equity, _)) in enumerate(book.items()) if number % 3 == 0}
    return [(at_us, record) for at_us, _, record in items], means


def breakers(coin: str, prices: Iterator[tuple[int, float]]) -> Iterator[tuple[int, int, Json]]:
    """Yield a signal for each time that a circuit breaker of ``market`` trips, as often as ``market`` tells of it."""
    bands, said, terms = Bands(MarketTerms()), dict[str, int](), MarketTerms()
    for at_us, price in prices:
        for kind, text in bands.check(at_us, price, 0.0):
            if once(said, kind, at_us, int(terms.refractory_s * 1_000_000)):
                alert = {"kind": kind, "scope": f"instrument:{coin}-PERP", "score": 1.0, "severity": 3, "text": text}
                drift = [] if len(said) > 1 else [{**alert, "kind": "model_drift", "severity": 1}]
                yield at_us, 3, {**_signal_head(at_us), "alerts": [alert, *drift]}
                if coin == "BTC" and drift:
                    doubt = {"notice_id": "doubt", "subject": "USDT", "kind": "reserves", "severity": 2}
                    yield at_us, 3, {"type": "notice", "event_time_us": at_us, **doubt}
                said.setdefault("drift", at_us)


def told(crash: Crash, start_us: int, last_us: int) -> Iterator[tuple[int, Json]]:
    """Yield what the venue says, and that its feed is silent while it is down."""
    name = next(name for name, one in CRASHES.items() if one.folder == crash.folder)
    for when, status in STORY[name]:
        at_us = int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp() * 1_000_000)
        if start_us <= at_us <= last_us:
            yield at_us, {"type": "venue_status", "event_time_us": at_us, "venue": "venue", "status": status}
            kind = {"down": "dead_feed", "up": "feed_back"}.get(status)
            if kind is not None:
                alert = {"kind": kind, "scope": "venue:venue", "score": 1.0, "severity": 3, "text": status}
                yield at_us + 30_000_000, {**_signal_head(at_us + 30_000_000), "alerts": [alert]}


def fat_finger(low_us: int, price: float, account: str, size: float) -> Iterator[tuple[int, int, Json]]:
    """Yield an order that nobody meant, a minute before the low, and its fill two seconds later."""
    at_us, side, quantity = low_us - 60_000_000, "buy" if size > 0 else "sell", f"{abs(size):.6f}"
    body = {"account": account, "instrument": "BTC-PERP", "side": side}
    order = {"type": "order", "order_id": "fat", **body, "price": f"{price:.8f}"}
    yield at_us, 4, {**order, "event_time_us": at_us, "open_quantity": quantity}
    at_us += 2_000_000
    fill = {"type": "fill", "fill_id": "fat", **body, "quantity": quantity, "price": f"{price:.8f}"}
    yield at_us, 4, {**fill, "event_time_us": at_us}
    yield at_us, 5, {**order, "event_time_us": at_us, "open_quantity": "0"}


def deleveraged(at_us: int, price: float, held: float) -> tuple[int, int, Json]:
    """Return the fill by which the venue takes a tenth of our hedge away at the low."""
    body = {"fill_id": "adl", "account": "house/venue", "instrument": "BTC-PERP", "source": "adl", "venue": "venue"}
    body |= {"side": "sell" if held > 0 else "buy", "quantity": f"{abs(held) / 10:.6f}", "price": f"{price:.8f}"}
    return at_us, 4, {"type": "fill", "event_time_us": at_us, **body}


def _signal_head(at_us: int) -> Json:
    return {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": 0, "instruments": []}


def _opening(kind: str, at_us: int, account: str, **fields: str) -> Json:
    return {"type": kind, "event_time_us": at_us, "account": account, "kind": "opening", **fields}


def _position(at_us: int, account: str, coin: str, notional: float, price: float) -> Json:
    held = {"instrument": f"{coin}-PERP", "quantity": f"{notional / price:.6f}", "entry_price": f"{price:.8f}"}
    return _opening("position_report", at_us, account, **held)


def _signal(at_us: int, coin: str, price: float, depth: float) -> Json:
    row = {"instrument": f"{coin}-PERP", "price": price, "source": "mark", "time_us": at_us, "state": "ready"}
    return {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": 0,
            "instruments": [{**row, "depth": [depth] * 8}]}  # fmt: skip


def play(crash: Crash, playbook: str | None, data: Path = DATA) -> Result:
    """Play a crash once, with a ready playbook or without any."""
    records, means = world(data, crash)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "limits.toml").write_text(LIMITS)
        text = (PLAYBOOKS / f"{playbook}.toml").read_text() if playbook else ""
        (folder / "playbook.toml").write_text(text)
        (folder / "desk.toml").write_text(
            "shards = 1\nexposure_change_min = 0\nmark_max_age_s = 3600\n[limits]\nfile = 'limits.toml'\n"
            "[mitigation]\nplaybook = 'playbook.toml'\n[conduct]\nenabled = false\n"
        )
        reactions = World(means=means, hedged_at="house/venue", pays_after_us=3_600_000_000, obeys=bool(playbook))
        return Rehearsal(load_configuration(folder / "desk.toml"), reactions).play(records)


def report(name: str, crash: Crash, playbook: str | None, result: Result) -> None:
    """Print what a play came to: a row of the table, and what was withheld."""
    first, last = (datetime.fromisoformat(day) for day in (crash.start, crash.end))
    hours = (last - first).total_seconds() / 3600
    names = [account for account in result.equity if account.startswith("client-")]
    peak = max(value for party, value in result.peaks.items() if party.startswith("client"))
    delays, moves = result.delays_s() or [0.0], result.transitions().values()
    print(
        f"{name} {hours:g} h | {playbook or 'without'} | owe at worst {result.shortfall_max:,.0f}, at end "
        f"{result.shortfall(names):,.0f} | peak firm {result.peaks['firm']:,.0f}, client {peak:,.0f} | P&L "
        f"{result.firm['pnl']:,.0f} | {len(result.commands)} commands, most in an hour "
        f"{result.most_per(3_600_000_000)}, in a minute {result.most_per(60_000_000)} | transitions "
        f"{sum(moves) / hours:.1f} an hour, at most {max(moves, default=0)} of one target | cause to command median "
        f"{median(delays):.1f} s, most {max(delays):.1f} s | breaches {len(result.breaches)}",
        flush=True,
    )
    kinds = dict(Counter(command["type"] for command in result.commands))
    why = Counter(f"{one['kind']}: {re.sub('[0-9]+', 'n', one['why'])}" for one in result.withheld)
    print(f"    {kinds}; withheld {dict(why)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=list(CRASHES))
    parser.add_argument("--playbook", nargs="*", choices=READY, default=READY)
    parser.add_argument("--worst", action="store_true")
    arguments = parser.parse_args()
    for name, whole in CRASHES.items():
        crash = whole._replace(start=whole.worst[0], end=whole.worst[1]) if arguments.worst else whole
        for playbook in (None, *arguments.playbook) if arguments.only in (None, name) else ():
            report(name, crash, playbook, play(crash, playbook, arguments.data))


if __name__ == "__main__":
    main()
