"""March 2020 and May 2021 with and without a ready playbook, on a book of real clients scaled to those markets.

python ops/benchmarks/mitigation_crashes.py [--data ../shared/data] [--only may_2021]

The clients are accounts of Hyperliquid's export of 2023: of each its net position per coin when it was largest, long
or short as it was, and what it had paid in; leverage is kept (at most ``LEVERAGE_MAX``), sizes are scaled so that the
book is ``BOOK`` in gross notional. BTC and ETH keep their market, other coins take turns with the rest of the
recording. Prices are the bars' open, low and high in the order that their direction suggests, and close, joined by
straight lines every ``STEP_S`` seconds. Visible depth is a hundredth of the hour's traded value. The house holds the
opposite of every client at one venue. A client that is called pays within an hour what it has aside: half of what it
paid in at first for one in three, nothing for the others.

The playbook is ``client_default`` as it ships, the limits stand below. Both runs have the same prices and clients.
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

from seawall.ops.rehearsal import Rehearsal, Result, World
from seawall.schemas.configuration import load_configuration

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PLAYBOOK = Path(__file__).resolve().parents[1] / "playbooks" / "client_default.toml"
BOOK = 100_000_000.0
CLIENTS = 60
LEVERAGE_MAX, LEVERAGE_MIN = 10.0, 1.0
STEP_S = 20
Json = dict[str, Any]
Bars = list[tuple[int, float, float, float, float, float, int]]  # time, open, high, low, close, value, length in us


class Crash(NamedTuple):
    """A recording: its folder, the part of file names, and from when to when it is played."""

    folder: str
    pattern: str
    start: str
    end: str


CRASHES = {
    "march_2020": Crash(
        "crash_mar_2020", "BINANCE-*USDT-SPOT-1h-2020-03.csv.gz", "2020-03-12T06:00", "2020-03-13T06:00"
    ),
    "may_2021": Crash("crash_may_2021", "*.csv.gz", "2021-05-19T09:00", "2021-05-19T18:00"),
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
"""


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


def path(found: Bars) -> Iterator[tuple[int, float]]:
    """Yield (time, price) every ``STEP_S`` seconds along the bars."""
    for at_us, start, high, low, end, _, length_us in found:
        knots = [start, high, low, end] if end < start else [start, low, high, end]
        steps = max(length_us // (STEP_S * 1_000_000), 3)
        for step in range(steps):
            place = 3 * step / steps
            left = int(place)
            yield at_us + step * length_us // steps, knots[left] + (knots[left + 1] - knots[left]) * (place - left)


def clients(data: Path, coins: list[str]) -> dict[str, tuple[float, dict[str, float]]]:
    """Return, by account, what it paid in and its positions' notionals by coin, scaled to the book."""
    folder = data / "hyperliquid_accounts_2023"
    paid: dict[str, float] = defaultdict(float)
    with gzip.open(folder / "non_mm_ledger_updates.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            paid[row["user"]] += max(float(row["delta_usd"]), 0.0)
    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    most: dict[str, tuple[float, dict[str, float]]] = {}
    with gzip.open(folder / "non_mm_trades.csv.gz", "rt") as lines:
        for row in sorted(csv.DictReader(lines), key=lambda row: row["time"]):
            sign = 1 if row["side"] == "Bid" else -1
            held[row["user"]][row["coin"]] += sign * float(row["sz"]) * float(row["px"])
            gross = sum(map(abs, held[row["user"]].values()))
            if gross > most.get(row["user"], (0.0, {}))[0]:
                most[row["user"]] = (gross, dict(held[row["user"]]))
    largest = sorted((user for user in most if paid[user] > 0), key=lambda user: (-most[user][0], user))[:CLIENTS]
    scale = BOOK / sum(most[user][0] for user in largest)
    others = [coin for coin in coins if coin not in ("BTC", "ETH")] or coins
    found = {}
    for number, user in enumerate(largest):
        gross, positions = most[user]
        mapped: dict[str, float] = defaultdict(float)
        for place, (coin, notional) in enumerate(sorted(positions.items())):
            mapped[coin if coin in coins else others[(number + place) % len(others)]] += notional * scale
        leverage = min(max(gross / paid[user], LEVERAGE_MIN), LEVERAGE_MAX)
        found[f"client-{number:02}/main"] = (gross * scale / leverage, dict(mapped))
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
            house[coin] -= notional
            items.append((start_us, 1, _position(start_us, account, coin, notional, first[coin])))
    items.append((start_us, 1, _opening("balance_report", start_us, "house/venue", asset="USD", amount=f"{BOOK:.2f}")))
    items += [
        (start_us, 1, _position(start_us, "house/venue", coin, n, first[coin])) for coin, n in sorted(house.items())
    ]
    for coin, found in market.items():
        for at_us, price in path(found):
            mark = {"type": "mark", "event_time_us": at_us, "instrument": f"{coin}-PERP", "price": f"{price:.8f}"}
            items.append((at_us, 0, mark))
        hour: dict[int, float] = defaultdict(float)
        for at_us, *_, value, _ in found:
            hour[at_us // 3_600_000_000] += value
        for at_us, _, _, _, end, _, _ in found:
            for later in range(0, found[0][6], 60_000_000):
                depth = 0.01 * hour[at_us // 3_600_000_000] / end
                items.append((at_us + later, 2, _signal(at_us + later, coin, end, depth)))
    items.sort(key=lambda item: item[:2])
    means = {account: equity / 2 for number, (account, (equity, _)) in enumerate(book.items()) if number % 3 == 0}
    return [(at_us, record) for at_us, _, record in items], means


def _opening(kind: str, at_us: int, account: str, **fields: str) -> Json:
    return {"type": kind, "event_time_us": at_us, "account": account, "kind": "opening", **fields}


def _position(at_us: int, account: str, coin: str, notional: float, price: float) -> Json:
    held = {"instrument": f"{coin}-PERP", "quantity": f"{notional / price:.6f}", "entry_price": f"{price:.8f}"}
    return _opening("position_report", at_us, account, **held)


def _signal(at_us: int, coin: str, price: float, depth: float) -> Json:
    row = {"instrument": f"{coin}-PERP", "price": price, "source": "mark", "time_us": at_us, "state": "ready"}
    return {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": 0,
            "instruments": [{**row, "depth": [depth] * 8}]}  # fmt: skip


def play(crash: Crash, obeys: bool, data: Path = DATA) -> Result:
    """Play a crash once."""
    records, means = world(data, crash)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "limits.toml").write_text(LIMITS)
        (folder / "playbook.toml").write_text(PLAYBOOK.read_text() if obeys else "")
        (folder / "desk.toml").write_text(
            "shards = 1\nexposure_change_min = 0\nmark_max_age_s = 3600\n[limits]\nfile = 'limits.toml'\n"
            "[mitigation]\nplaybook = 'playbook.toml'\n[conduct]\nenabled = false\n"
        )
        reactions = World(means=means, hedged_at="house/venue", pays_after_us=3_600_000_000, obeys=obeys)
        return Rehearsal(load_configuration(folder / "desk.toml"), reactions).play(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=list(CRASHES))
    arguments = parser.parse_args()
    for name, crash in CRASHES.items():
        if arguments.only not in (None, name):
            continue
        hours = (datetime.fromisoformat(crash.end) - datetime.fromisoformat(crash.start)).total_seconds() / 3600
        for obeys in (False, True):
            result = play(crash, obeys, arguments.data)
            names = [account for account in result.equity if account.startswith("client-")]
            print(f"\n{name} {'with' if obeys else 'without'} the playbook")
            at_end, worst = result.shortfall(names), result.shortfall_max
            print(f"  clients cannot pay {at_end:,.0f} at the end, {worst:,.0f} at the worst")
            print(f"  of {len(names)} clients {sum(result.equity[one] < 0 for one in names)} end below nothing")
            peak = max(value for party, value in result.peaks.items() if party.startswith("client"))
            firm, pnl = result.peaks["firm"], result.firm["pnl"]
            print(f"  peak exposure: firm {firm:,.0f}, one client {peak:,.0f}; P&L on paper {pnl:,.0f}")
            delays, moves = result.delays_s() or [0.0], result.transitions().values()
            print(f"  {len(result.commands)} commands, at most {result.most_per(60_000_000)} in a minute (budget 60)")
            print(f"  cause to command: median {median(delays):.1f} s, most {max(delays):.1f} s of event time")
            print(f"  transitions {sum(moves)} in {hours:g} h, at most {max(moves, default=0)} of one target")
            why = Counter(f"{one['kind']}: {re.sub('[0-9]+', 'n', one['why'])}" for one in result.withheld)
            print(f"  {len(result.breaches)} breaches; withheld for people: {dict(why)}")


if __name__ == "__main__":
    main()
