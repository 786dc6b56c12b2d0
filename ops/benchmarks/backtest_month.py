"""How fast a backtest is: weeks and a month of minute bars of eight pairs, with 250 accounts, up to its commands.

python ops/benchmarks/backtest_month.py [--data ../shared/data] [--days 7 14 30] [--processes 2]

For each length nothing is taken from a cache: the files are converted, one instrument group is watched, one variant
(the shipped client playbook, obeyed) is played while it is, and detection is judged. Printed: bars in the period,
seconds by the clock from plan to result, processor time of all processes, how many times faster than real time by the
clock and by processor time divided by the processes (what an idle machine takes at best), and processor microseconds
per bar, which are the same for all lengths where the cost is linear in events.
"""

import argparse
import os
import resource
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path

from seawall.ops.lab.backtest.history import REST, lines
from seawall.ops.lab.backtest.plan import Plan, load_plan
from seawall.ops.lab.backtest.run import SIGNALS, backtest
from seawall.ops.lab.cache import Cache
from seawall.ops.lab.workers import Workers

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PLAYBOOK = Path(__file__).resolve().parents[1] / "playbooks" / "client_default.toml"
START = "2021-04-20T20:42"
DESK = f"""
shards = 1
slice_ms = 1000
exposure_change_min = 0.01
mark_max_age_s = 3600
[limits]
file = "limits.toml"
[mitigation]
playbook = "{PLAYBOOK}"
[conduct]
enabled = false
[market]
groups = 1
"""
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
PLAN = """
configuration = "desk.toml"
from = "{start}"
to = "{end}"
[[history]]
format = "ohlcv"
files = ["{data}/crash_may_2021/*.csv.gz"]
pattern = "BINANCE-(?P<base>[A-Z]+)USDT-.*"
venue = "BINANCE"
instrument = "{{base}}-PERP"
[history.terms]
kind = "perpetual"
base = "{{base}}"
quote = "USD"
settlement = "USD"
quantity_increment = "0.000001"
maintenance_margin_rate = "0.03"
[book]
accounts = "{data}/hyperliquid_accounts_2023"
clients = {clients}
[reactions]
depth_share = 0.01
"""


def processor_s() -> float:
    """Return processor seconds of this process and of its children that ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def written(data: Path, days: int, clients: int, folder: Path) -> Plan:
    """Write the plan of a length and return it."""
    end = datetime.fromisoformat(START) + timedelta(days=days)
    (folder / "desk.toml").write_text(DESK)
    (folder / "limits.toml").write_text(LIMITS)
    (folder / "plan.toml").write_text(PLAN.format(start=START, end=end.isoformat(), data=data, clients=clients))
    return load_plan(folder / "plan.toml")


def measure(data: Path, days: int, clients: int, processes: int, folder: Path) -> None:
    """Run one length from nothing and print its line."""
    plan, cache = written(data, days, clients, folder), Cache(folder / f"cache-{days}")
    plan = plan._replace(variants=plan.variants[-1:])
    began, used = time.perf_counter(), processor_s()
    with Workers(processes) as workers:
        found = backtest(plan, cache, workers)
    clock, used = time.perf_counter() - began, processor_s() - used
    (result,) = found["variants"].values()
    bars = sum(
        plan.first_us <= time_us and b'"bar"' in line[:40]
        for number, path in enumerate(cache.folder.glob("*.jsonl"))
        if not path.name.endswith((REST, SIGNALS))
        for time_us, _, _, line in lines(path, number, plan.last_us)
    )
    span = days * 86_400
    print(
        f"| {days} | {bars:,} | {result['clients']} | {clock:.1f} | {used:.1f} | {span / clock:,.0f} "
        f"| {span / (used / processes):,.0f} | {used / bars * 1e6:.0f} | {sum(result['command_kinds'].values())} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--days", type=int, nargs="+", default=[7, 14, 30])
    parser.add_argument("--clients", type=int, default=250)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    print(
        "| days | bars | clients | s by the clock | processor s | times real time | … if idle | µs per bar | commands |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for days in options.days:
            measure(options.data, days, options.clients, options.processes, Path(name))


if __name__ == "__main__":
    main()
