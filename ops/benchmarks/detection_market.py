"""The core of ``market`` on published bars: when rule and score first alerted in a crash, and how often before.

Run as ``python ops/benchmarks/detection_market.py FOLDER DAY SYMBOL…``: a folder of gzipped one-minute OHLCV files, the
day of the crash (``2021-05-19``), and the symbols to watch together at one venue, scored by the minute. Prints what
happened in models' lives too, and what the group's state and a row cost.
"""

import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from seawall.connectors.venues.bars import read_bars
from seawall.operators.core.market.cutter import Cutter
from seawall.operators.core.market.group import GroupState
from seawall.schemas.decode import decode_event
from seawall.schemas.events import Signal, SignalAlert
from seawall.schemas.markets import MarketTerms

MINUTE_US = 60_000_000
WEEK_US = 7 * 24 * 60 * MINUTE_US
TERMS = MarketTerms(groups=1, score_s=60, stale_s=600)
Told = list[tuple[int, SignalAlert]]


def watch(folder: Path, symbols: list[str]) -> tuple[list[Signal], GroupState, float, int]:
    """Return the signals of all symbols' bars in one group, its state, CPU seconds and the number of bars."""
    bars = [
        bar
        for symbol in symbols
        for path in sorted(folder.glob(f"*{symbol}*1m*.csv.gz"))
        for bar in read_bars(path, "exchange", symbol, MINUTE_US).events
    ]
    bars.sort(key=lambda bar: (bar.event_time_us, bar.instrument))
    cutter, group, records = Cutter(1, TERMS.interval_us), GroupState(0, TERMS), []
    begin = time.process_time()
    for bar in bars:
        cutter.add(bar.event_time_us, bar)
        records += [record for _, item in cutter.take() for record in group.step(item)]
    cutter.finish()
    records += [record for _, item in cutter.take() for record in group.step(item)]
    seconds = time.process_time() - begin
    return (
        [s for s in map(decode_event, (r.value for r in records)) if isinstance(s, Signal)],
        group,
        seconds,
        len(bars),
    )


def report(symbol: str, told: Told, day_us: int) -> str:
    """Return first alerts on the day and the alerts of each of the four weeks before."""
    first = {}
    for time_us, alert in told:
        if day_us <= time_us < day_us + 24 * 60 * MINUTE_US:
            at = datetime.fromtimestamp(time_us / 1e6).astimezone().strftime("%H:%M")
            first.setdefault(alert.kind, f"{alert.kind} {at}")
    weeks = [sum(day_us - (n + 1) * WEEK_US <= at < day_us - n * WEEK_US for at, _ in told) for n in range(4)]
    return f"{symbol:10} {', '.join(first.values()) or 'no alert'}; alerts a week before: {weeks[::-1]}"


def main(folder: Path, day: str, symbols: list[str]) -> None:
    signals, group, seconds, bars = watch(folder, symbols)
    day_us = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1e6)
    for symbol in symbols:
        told = [(s.event_time_us, a) for s in signals for a in s.alerts if a.scope == f"instrument:{symbol}"]
        print(report(symbol, told, day_us))
    lives = Counter((model.family, str(model.event)) for signal in signals for model in signal.models)
    print(
        "lives of models:", ", ".join(f"{family} {event} {count}" for (family, event), count in sorted(lives.items()))
    )
    size = len(group.snapshot()) / len(symbols)
    print(f"{bars:,} bars, {seconds / bars * 1e6:.0f} µs each; {size:,.0f} bytes of state each")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
