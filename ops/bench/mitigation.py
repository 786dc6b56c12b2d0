"""Mitigation against history and against the demo: losses with and without it, and the delay of commands.

python ops/bench/mitigation.py crashes | demo
"""

import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import _harness as bench

from seawall.connectors.venues.hyperliquid import read_holders
from seawall.operators.core.market import InstrumentBreakers, admit_alert
from seawall.ops.demo import TRANSFERS
from seawall.ops.demo.scenario import write_scenario
from seawall.ops.lab.backtest import (
    Client,
    Rehearsal,
    RehearsalResult,
    WorldReactions,
    client_reference_records,
    opening_records,
)
from seawall.schemas.configuration import MarketTerms, load_configuration

app = bench.suite(__doc__)

# --- crashes ----------------------------------------------------------------------------------------------------------

PLAYBOOKS = bench.OPS / "playbooks"
READY = ["client_default", "collateral_spiral", "fat_finger", "feed_failure", "flash_crash", "model_drift",
         "stablecoin_depeg", "venue_outage"]  # fmt: skip
BOOK, CLIENTS, LEVERAGE_MAX, LEVERAGE_MIN = 100_000_000.0, 60, 10.0, 1.0
MINUTE_US, HOUR_US, HEDGED_AT = 60_000_000, 3_600_000_000, "house/venue"
TERMS = MarketTerms()
Timed = tuple[int, int, bench.Json]  # when, what comes first of the same moment, the record


class Crash(NamedTuple):
    """A recording: its folder, the part of file names, from when to when it is played, its worst hours, its steps.

    ``story`` is what the one venue says of itself, and whether its feed is silent. Days and order are the sources'
    (BitMEX was down in the second leg of March 2020, exchanges were slow in May 2021), the minutes are ours.
    """

    folder: str
    pattern: str
    start: str
    end: str
    worst: tuple[str, str]
    step_s: int
    story: tuple[tuple[str, str], ...]


CRASHES = {
    "march_2020": Crash(
        "crash_mar_2020", "BINANCE-*USDT-SPOT-1h-2020-03.csv.gz", "2020-03-12T06:00", "2020-03-13T06:00",
        ("2020-03-12T22:00", "2020-03-13T04:00"), 60,
        (("2020-03-13T02:00", "degraded"), ("2020-03-13T02:16", "down"), ("2020-03-13T02:41", "up")),
    ),
    "may_2021": Crash(
        "crash_may_2021", "*.csv.gz", "2021-05-19T09:00", "2021-05-19T18:00",
        ("2021-05-19T12:30", "2021-05-19T14:00"), 20, (("2021-05-19T12:55", "degraded"), ("2021-05-19T13:40", "up")),
    ),
}  # fmt: skip
ONE = "account:client-03/main"  # the account with the largest position in bitcoin: it is the one that errs
MARGIN = {"warning": 0.5, "soft": 0.6, "hard": 0.75, "exit_ratio": 0.9, "dwell_s": 30}
NEAR = {"direction": "below", "soft": 0.05, "hard": 0.01}
LIMITS = "".join([
    bench.limit("client-margin", "account:*", "margin_ratio", **MARGIN),
    bench.limit("client-exposure", "counterparty:*", "current_exposure", hard=250_000_000),
    bench.limit("venue-exposure", "counterparty:venue", "current_exposure", soft=120_000_000, hard=250_000_000),
    bench.limit("firm-exposure", "firm", "current_exposure", soft=110_000_000),
    bench.limit("dealer-exposure", "netting_set:*", "current_exposure", soft=2_000_000),
    bench.limit("liquidation-distance", "account:*", "distance_to_liquidation", **NEAR),
    bench.limit("strategy-leverage", "account:*", "leverage", soft=15, hard=25),
    bench.limit("working-orders", ONE, "worst_case_notional", warning=15_000_000, soft=20_000_000, hard=30_000_000),
    bench.limit("traded-per-minute", ONE, "gross_notional", window_s=60, hard=20_000_000),
])  # fmt: skip


def path(bars: bench.Bars, step_s: int, length_us: int) -> list[tuple[int, float]]:
    """Return (time, price) every ``step_s`` seconds along the bars."""
    found, steps = [], max(length_us // (step_s * 1_000_000), 3)
    for at_us, start, high, low, end, _ in zip(*(column.tolist() for column in bars), strict=True):
        knots = [start, high, low, end] if end < start else [start, low, high, end]
        for step in range(steps):
            left, part = divmod(3 * step / steps, 1)
            price = knots[int(left)] + (knots[int(left) + 1] - knots[int(left)]) * part
            found.append((at_us + step * length_us // steps, price))
    return found


def book_of(data: Path, coins: list[str]) -> list[Client]:
    """Return the clients, scaled to the book."""
    largest = read_holders(data / "hyperliquid_accounts_2023")[:CLIENTS]
    scale, found = BOOK / sum(one.gross for one in largest), []
    others = [coin for coin in coins if coin not in ("BTC", "ETH")] or coins
    for number, one in enumerate(largest):
        mapped: dict[str, float] = defaultdict(float)
        for place, (coin, notional) in enumerate(sorted(one.notionals.items())):
            mapped[coin if coin in coins else others[(number + place) % len(others)]] += notional * scale
        leverage = min(max(one.gross / one.paid, LEVERAGE_MIN), LEVERAGE_MAX)
        found.append(Client(f"client-{number:02}/main", one.gross * scale / leverage, dict(mapped)))
    return found


def world(data: Path, crash: Crash) -> tuple[list[tuple[int, bench.Json]], dict[str, float]]:
    """Return all records with their times, and what each client still can pay."""
    items, prices, first = list[Timed](), dict[str, list[tuple[int, float]]](), dict[str, tuple[str, float]]()
    rates = {"quantity_increment": "0.000001", "initial_margin_rate": "0.06", "maintenance_margin_rate": "0.03"}
    for file in sorted(bench.need(data / crash.folder).glob(crash.pattern)):
        length_us, coin = HOUR_US if "-1h-" in file.name else MINUTE_US, bench.coin_of(file)
        bars = bench.read_bars(file, bench.micros(crash.start), bench.micros(crash.end))
        if len(bars.time_us):
            prices[coin], first[coin] = path(bars, crash.step_s, length_us), (f"{coin}-PERP", float(bars.open[0]))
            items += [*breakers(coin, prices[coin]), *signals(coin, bars, length_us)]
            items += [(at, 0, bench.mark(at, f"{coin}-PERP", f"{price:.8f}")) for at, price in prices[coin]]
    coins, start_us = sorted(prices), min(found[0][0] for found in prices.values())
    book = book_of(data, coins)
    who = [
        *(bench.instrument(f"{coin}-PERP", coin, **rates) for coin in coins),
        *client_reference_records(book, HEDGED_AT),
    ]
    items += [(start_us, -1, record) for record in who]
    for record in opening_records(book, first, start_us, HEDGED_AT):
        money = record["type"] == "balance_report" and record["account"] == HEDGED_AT
        items.append((start_us, 1, {**record, "amount": f"{BOOK:.2f}"} if money else record))
    last_us = max(at_us for at_us, *_ in items)
    items += story(crash, start_us, last_us)
    low = min(prices["BTC"], key=lambda pair: (pair[1], pair[0]))
    items.append(deleveraged(*low, sum(one.notionals.get("BTC", 0.0) for one in book) / first["BTC"][1]))
    largest = max(book, key=lambda one: (abs(one.notionals.get("BTC", 0.0)), one.account))
    items += fat_finger(*low, largest.account, 10 * largest.notionals["BTC"] / first["BTC"][1])
    items.sort(key=lambda item: item[:2])
    means = {one.account: one.equity / 2 for number, one in enumerate(book) if number % 3 == 0}
    return [(at_us, record) for at_us, _, record in items], means


def signal(at_us: int, *rows: bench.Json, alerts: list[bench.Json] | None = None) -> bench.Json:
    """Return the record of a signal."""
    head = {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": 0, "instruments": list(rows)}
    return head if alerts is None else {**head, "alerts": alerts}


def signals(coin: str, bars: bench.Bars, length_us: int) -> Iterator[Timed]:
    """Yield what is visible in the book each minute: a hundredth of the hour's traded value on every side."""
    hour: dict[int, float] = defaultdict(float)
    rows = list(zip(bars.time_us.tolist(), bars.close.tolist(), (bars.volume * bars.close).tolist(), strict=True))
    for at_us, _, value in rows:
        hour[at_us // HOUR_US] += value
    for at_us, end, _ in rows:
        for at in range(at_us, at_us + length_us, MINUTE_US):
            row = {"instrument": f"{coin}-PERP", "price": end, "source": "mark", "time_us": at, "state": "ready"}
            yield at, 2, signal(at, {**row, "depth": [0.01 * hour[at_us // HOUR_US] / end] * 8})


def breakers(coin: str, prices: list[tuple[int, float]]) -> Iterator[Timed]:
    """Yield a signal for each time that a circuit breaker of ``market`` trips, as often as ``market`` tells of it."""
    bands, said = InstrumentBreakers(TERMS), dict[str, int]()
    for at_us, price in prices:
        for kind, text in bands.check(at_us, price, 0.0):
            if admit_alert(said, kind, at_us, int(TERMS.refractory_s * 1_000_000)):
                alert = {"kind": kind, "scope": f"instrument:{coin}-PERP", "score": 1.0, "severity": 3, "text": text}
                drift = [] if len(said) > 1 else [{**alert, "kind": "model_drift", "severity": 1}]
                yield at_us, 3, signal(at_us, alerts=[alert, *drift])
                if coin == "BTC" and drift:
                    doubt = {"notice_id": "doubt", "subject": "USDT", "kind": "reserves", "severity": 2}
                    yield at_us, 3, {"type": "notice", "event_time_us": at_us, **doubt}
                said.setdefault("drift", at_us)


def story(crash: Crash, start_us: int, last_us: int) -> Iterator[Timed]:
    """Yield what the venue says, and that its feed is silent while it is down."""
    for when, status in crash.story:
        at_us = bench.micros(when)
        if start_us <= at_us <= last_us:
            yield at_us, 3, {"type": "venue_status", "event_time_us": at_us, "venue": "venue", "status": status}
            if (kind := {"down": "dead_feed", "up": "feed_back"}.get(status)) is not None:
                alert = {"kind": kind, "scope": "venue:venue", "score": 1.0, "severity": 3, "text": status}
                yield at_us + 30_000_000, 3, signal(at_us + 30_000_000, alerts=[alert])


def fat_finger(low_us: int, price: float, account: str, size: float) -> Iterator[Timed]:
    """Yield an order that nobody meant, a minute before the low, and its fill two seconds later."""
    at_us, side, quantity, text = low_us - MINUTE_US, "buy" if size > 0 else "sell", f"{abs(size):.6f}", f"{price:.8f}"
    order = {"type": "order", "order_id": "fat", "account": account, "instrument": "BTC-PERP", "side": side}
    yield at_us, 4, {**order, "price": text, "event_time_us": at_us, "open_quantity": quantity}
    at_us += 2_000_000
    yield at_us, 4, bench.fill(at_us, "fat", account, "BTC-PERP", side, quantity, text)
    yield at_us, 5, {**order, "price": text, "event_time_us": at_us, "open_quantity": "0"}


def deleveraged(at_us: int, price: float, held: float) -> Timed:
    """Return the fill by which the venue takes a tenth of our hedge away at the low."""
    side, quantity, told = "sell" if held > 0 else "buy", f"{abs(held) / 10:.6f}", {"source": "adl", "venue": "venue"}
    return at_us, 4, bench.fill(at_us, "adl", HEDGED_AT, "BTC-PERP", side, quantity, f"{price:.8f}", **told)


def play(crash: Crash, playbook: str | None, data: Path = bench.DATA) -> RehearsalResult:
    """Play a crash once, with a ready playbook or without any."""
    records, means = world(data, crash)
    with tempfile.TemporaryDirectory() as name:
        text = (PLAYBOOKS / f"{playbook}.toml").read_text() if playbook else ""
        top, calm = "shards = 1\nexposure_change_min = 0\nmark_max_age_s = 3600", "[conduct]\nenabled = false\n"
        desk = bench.write_desk(Path(name), top, limits=LIMITS, playbook=text, tables=calm)
        reactions = WorldReactions(means=means, hedged_at=HEDGED_AT, pays_after_us=HOUR_US, obeys=bool(playbook))
        return Rehearsal(load_configuration(desk), reactions).play(records)


@app.command()
def crashes(data: Path = bench.DATA, only: str = "", playbook: list[str] = READY, worst: bool = False) -> None:
    """Play March 2020 and May 2021 with and without each ready playbook, on a book of real clients.

    The clients are accounts of Hyperliquid's export of 2023: of each its net position per coin when it was largest,
    long or short as it was, and what it had paid in; leverage is kept (at most ``LEVERAGE_MAX``), sizes are scaled so
    that the book is ``BOOK`` in gross notional. BTC and ETH keep their market, other coins take turns with the rest of
    the recording. Prices are the bars' open, low and high in the order that their direction suggests, and close, joined
    by straight lines, every 20 seconds where bars are minutes and every minute where they are hours. Circuit breakers
    are those of ``market``, on these prices; what venues did is in ``Crash.story``. Put on top, so that every playbook
    has its incident: at the low of bitcoin the venue takes a tenth of our hedge in it away (auto-deleveraging), a
    minute before it a client sends an order for ten times its largest position, which is filled after two seconds; a
    coin's model drifts when its first breaker trips; and the reserves of USDT are doubted at the first breaker of
    bitcoin.

    Visible depth is a hundredth of the hour's traded value. The house is short what clients are long with it, and holds
    the same at one venue. A client that is called pays within an hour what it has aside: half of what it paid in at
    first for one in three, nothing for the others. Playbooks are as they ship; all runs have the same limits, prices,
    clients and story. ``--worst`` plays the worst hours only, ``--only`` one crash.
    """
    for name, whole in CRASHES.items():
        crash = whole._replace(start=whole.worst[0], end=whole.worst[1]) if worst else whole
        for one in (None, *playbook) if only in ("", name) else ():
            report(name, crash, one, play(crash, one, data))


def report(name: str, crash: Crash, playbook: str | None, result: RehearsalResult) -> None:
    """Print what a play came to: a row of the table, and what was withheld."""
    hours = (bench.micros(crash.end) - bench.micros(crash.start)) / HOUR_US
    names = [account for account in result.equity if account.startswith("client-")]
    peak = max(value for party, value in result.peaks.items() if party.startswith("client"))
    delays, moves = result.delays_s() or [0.0], result.transitions().values()
    print(
        f"{name} {hours:g} h | {playbook or 'without'} | owe at worst {result.shortfall_max:,.0f}, at end "
        f"{result.shortfall(names):,.0f} | peak firm {result.peaks['firm']:,.0f}, client {peak:,.0f} | P&L "
        f"{result.firm['pnl']:,.0f} | {len(result.commands)} commands, most in an hour "
        f"{result.most_per(HOUR_US)}, in a minute {result.most_per(MINUTE_US)} | transitions "
        f"{sum(moves) / hours:.1f} an hour, at most {max(moves, default=0)} of one target | cause to command median "
        f"{median(delays):.1f} s, most {max(delays):.1f} s | breaches {len(result.breaches)}"
    )
    kinds = dict(Counter(command["type"] for command in result.commands))
    why = Counter(f"{one['kind']}: {re.sub('[0-9]+', 'n', one['why'])}" for one in result.withheld)
    print(f"    {kinds}; withheld {dict(why)}", flush=True)


# --- demo -------------------------------------------------------------------------------------------------------------

FUTURE_US = 4_000_000_000_000_000
ANSWERED_S = 570  # transfers from here on answer calls
SUBSCRIBED = '[response]\nsubscribers = ["rehearsal"]\n\n'
WITHDRAW = 'kind = "WITHDRAW_FUNDS", target = "counterparty"'
PARTIES = ("binance", "hyperliquid", "okx", "meridian-otc", "birch-capital")


def records_of(folder: Path) -> Iterator[tuple[int, Any]]:
    """Yield the demo's records with the event time at which each is heard."""
    at_us = 0
    for name in ("reference.jsonl", "events.jsonl"):
        for line in (folder / name).read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # broken on purpose, as is the record from the future
            if int(record.get("event_time_us", 0)) < FUTURE_US:
                at_us = max(at_us, int(record.get("event_time_us", 0)))
                yield at_us, record


def replies(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what the story's people do only because they were told to: pay, and close out clients and the hedges."""
    found, client = dict[str, list[tuple[str, str]]](), ""
    for number, (account, _, _, second, purpose) in enumerate(TRANSFERS):
        called = ("RECALL_COLLATERAL", "meridian/isda") if purpose == "variation_margin" else ("CALL_MARGIN", account)
        if second >= ANSWERED_S:
            found[f"t{number:03}"] = [called]
    for _, record in records_of(folder):
        if record["type"] == "fill" and record.get("source") == "liquidation":
            client = client if record["account"].startswith("house/") else record["account"]
            found[record["fill_id"]] = [(kind, client) for kind in ("REDUCE_ONLY", "HALT_TRADING", "SUSPEND")]
    return found


@app.command()
def demo(seed: int = 7) -> None:
    """Play the demo's crisis with and without mitigation: loss, peak exposure, time to command, commands.

    The demo's own files are played through risk in a closed loop (``ops/rehearsal``). Both worlds are the same up to
    the first command; without mitigation nobody listens, so nobody is called and nobody is stopped. Margin and
    collateral that the demo's story brings in, and the close-outs of clients in it, are answers, so they only happen
    where they were asked for. The loss is what clients cannot pay, at its worst and at the end, and the firm's own P&L
    on paper stands beside it. The playbook is the demo's, with terms, and with amounts computed for WITHDRAW_FUNDS.
    """
    for obeys in (False, True):
        with tempfile.TemporaryDirectory() as name:
            scenario, file = write_scenario(Path(name), seed), Path(name) / "playbook.toml"
            computed = file.read_text().replace(WITHDRAW, f'{WITHDRAW}, compute = "headroom", to = "warning"')
            file.write_text(SUBSCRIBED + computed if obeys else "")
            rehearsal = Rehearsal(
                load_configuration(scenario.configuration), WorldReactions(replies=replies(Path(name)), obeys=obeys)
            )
            result = rehearsal.play(records_of(Path(name)))
        at_end = result.shortfall([account for account in result.equity if not account.startswith("house/")])
        print(f"\n{'with' if obeys else 'without'} mitigation, seed {seed}")
        print(f"  loss: clients cannot pay {result.shortfall_max:,.0f} at the worst and {at_end:,.0f} at the end")
        print(f"  the firm's own P&L on paper {result.firm['pnl']:,.0f}")
        print(f"  peak exposure of the firm {result.peaks['firm']:,.0f}")
        for party in PARTIES:
            print(f"    to {party:16} {result.peaks.get(party, 0):,.0f}")
        delays = result.delays_s() or [0.0]
        print(f"  {len(result.commands)} commands: {dict(Counter(c['type'] for c in result.commands))}")
        print(f"  cause to command: median {median(delays):.1f} s, most {max(delays):.1f} s of event time")
        print(f"  most commands in a minute {result.most_per(MINUTE_US)}, fills that did not happen {result.dropped}")
        print(f"  withheld {len(result.withheld)}, breaches {len(result.breaches)}")


if __name__ == "__main__":
    app()
