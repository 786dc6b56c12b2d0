"""How limits that scale with the market moved through 19 May 2021, on the minute bars of eight Binance spot pairs.

python ops/benchmarks/limits_may_2021.py [--data ../shared/data/crash_may_2021] [--from 2021-05-16] [--to 2021-05-20]

The closes become marks, and a house account and a client hold one unit of each coin's worth throughout: nobody trades,
so every breach is by price or by a bound that moved. `seawall run` does the work in a new folder. What is printed comes
from the topics and from the limits' own state, replayed:

1. per underlying: the gross-notional bound before, its least value and when, its value at the end, its factors then;
2. the fastest rise and fall of any bound between two seconds, beside the speeds that the limit allows, and whether any
   bound was ever below its floor or above its ceiling;
3. breaches by cause, and the commands to trade in our own account: asked for by the playbook, given, withheld.
"""

import argparse
import csv
import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seawall.connectors.bus import open_bus, read_all
from seawall.operators.core.exposure import ExposureState
from seawall.operators.core.firm import FirmState
from seawall.operators.core.limits import LimitsState
from seawall.ops import run as runner
from seawall.schemas.configuration import load_configuration
from seawall.schemas.slices import decode_slice

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "crash_may_2021"
NOTIONAL = 1_000_000.0  # of each coin, at the first mark
SPEEDS = {"tighten_per_s": 0.001, "loosen_per_s": 0.0001, "step_max": 0.05}
PLAYBOOK = """
[[rule]]
id = "cut"
when = { limit = "account", level = "soft" }
commands = [{ kind = "REDUCE_POSITION", target = "account" }, { kind = "REDUCE_ONLY", target = "account" }]

[[rule]]
id = "hedge"
when = { limit = "coin", level = "soft" }
commands = [{ kind = "HEDGE", target = "underlying" }]
"""


def limits(coins: int, reference: float | None) -> str:
    """Return a limit per coin and one per account, as shares of what they hold at first."""
    coin, account = NOTIONAL, NOTIONAL / 2 * coins
    known = "" if reference is None else f"reference_volatility = {reference}, "
    speeds = ", ".join(f"{name} = {value}" for name, value in SPEEDS.items())
    scaling = f"scaling = {{ {known}stressed_volatility = 3.0, {speeds} }}"
    return f"""
[[limit]]
id = "coin"
scope = "underlying:*"
measure = "gross_notional"
warning = {1.4 * coin}
soft = {1.7 * coin}
hard = {2.0 * coin}
floor = {0.6 * coin}
exit_ratio = 0.95
dwell_s = 60
{scaling}

[[limit]]
id = "account"
scope = "account:*"
measure = "gross_notional"
soft = {1.8 * account}
hard = {2.2 * account}
floor = {0.8 * account}
exit_ratio = 0.95
dwell_s = 60
{scaling}
"""


class Moved(NamedTuple):
    """How the bound of one scope moved: (event time, effective bound) per second, and its last factors."""

    times: list[int]
    bounds: list[float]
    factors: dict[str, Any]


class Result(NamedTuple):
    """What a run showed."""

    moved: dict[str, Moved]
    breaches: list[dict[str, Any]]
    commands: list[dict[str, Any]]
    withheld: list[dict[str, Any]]


def marks(data: Path, first: str, last: str) -> dict[str, list[tuple[int, float]]]:
    """Return (time of close in microseconds, close) per coin, between two days."""
    start, end = (int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) for day in (first, last))
    found = {}
    for file in sorted(data.glob("*.csv.gz")):
        with gzip.open(file, "rt") as lines:
            rows = [(int(row["open_time_ms"]), float(row["close"])) for row in csv.DictReader(lines)]
        coin = file.name.split("-")[1].removesuffix("USDT")
        found[coin] = [((at + 60_000) * 1000, close) for at, close in rows if start <= at < end]
    return found


def records(prices: dict[str, list[tuple[int, float]]]) -> Iterator[dict[str, Any]]:
    """Yield the desk: two accounts that hold every coin from the first minute on, and the marks."""
    for coin in prices:
        yield {"type": "instrument", "instrument": f"{coin}-PERP", "kind": "perpetual", "base": coin, "quote": "USD",
               "settlement": "USD", "quantity_increment": "0.0001", "maintenance_margin_rate": "0.01"}  # fmt: skip
    for name, role, holder in (("venue", "venue", "house"), ("client", "client", "counterparty")):
        yield {"type": "counterparty", "counterparty": name, "name": name, "role": role}
        yield {"type": "account", "account": f"{name}-account", "counterparty": name, "holder": holder}
    first = min(found[0][0] for found in prices.values())
    for name in ("venue", "client"):
        yield {"type": "collateral", "event_time_us": first, "transfer_id": f"t-{name}", "account": f"{name}-account",
               "asset": "USD", "amount": "10000000"}  # fmt: skip
    events = sorted((at, coin, price) for coin, found in prices.items() for at, price in found)
    held = set()
    for at, coin, price in events:
        yield {"type": "mark", "event_time_us": at, "instrument": f"{coin}-PERP", "price": f"{price:.8f}"}
        if coin not in held:
            held.add(coin)
            for name, side in (("venue", "sell"), ("client", "buy")):
                yield {"type": "fill", "event_time_us": at, "fill_id": f"{name}-{coin}", "account": f"{name}-account",
                       "instrument": f"{coin}-PERP", "side": side, "quantity": f"{NOTIONAL / 2 / price:.4f}",
                       "price": f"{price:.8f}"}  # fmt: skip


def run(
    folder: Path,
    data: Path = DATA,
    first: str = "2021-05-16",
    last: str = "2021-05-20",
    coins: tuple[str, ...] = (),
    reference: float | None = None,
) -> Result:
    """Run the desk from ``first`` up to ``last`` and return what happened.

    ``coins`` are all by default; ``reference`` is the volatility that counts as normal, by default what is observed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prices = {coin: found for coin, found in marks(data, first, last).items() if not coins or coin in coins}
    (folder / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records(prices)))
    (folder / "limits.toml").write_text(limits(len(prices), reference))
    (folder / "playbook.toml").write_text(PLAYBOOK)
    (folder / "desk.toml").write_text(
        'shards = 1\nexposure_change_min = 0.05\nmark_max_age_s = 120\n[inputs]\nevents = ["events.jsonl"]\n'
        '[limits]\nfile = "limits.toml"\n[mitigation]\nplaybook = "playbook.toml"\n'
    )
    configuration = load_configuration(folder / "desk.toml")
    runner.run(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    read = [
        [json.loads(stored.value) for part in bus.partitions(topic) for stored in read_all(bus, topic, part)]
        for topic in ("breaches", "commands", "audit")
    ]
    withheld = [record["body"] for record in read[2] if record["kind"] == "withheld"]
    values = [stored.value for stored in read_all(bus, "journal", 0)]
    bus.close()
    return Result(paths(values), read[0], read[1], withheld)


def paths(values: list[bytes]) -> dict[str, Moved]:
    """Return how every scaled bound moved, second by second, from the journal of one shard."""
    exposure, limits = ExposureState(0), LimitsState("0", 0)
    firm, wide = FirmState(), LimitsState("all", 1)
    found: dict[str, Moved] = {}
    for value in values:
        frame = exposure.step(decode_slice(value), hashlib.sha256(value).hexdigest())
        limits.step(frame)
        _note(found, limits, frame)
        for second in firm.step(frame.partial) if frame.partial is not None else ():
            wide.step(second)
            _note(found, wide, second)
    return found


def _note(found: dict[str, Moved], state: LimitsState, frame: Any) -> None:
    for table, cells in state.evaluated(frame) if frame.markets is not None else ():
        columns = cells.scaled.columns
        for at, effective in enumerate(columns["effective"].tolist()):
            limit = cells.limits[columns["limit"].item(at)]
            scope = f"{limit.kind}:{table.names[columns['column'].item(at)]}"
            if effective == effective:  # noqa: PLR0124 (known)
                moved = found.setdefault(scope, Moved([], [], {}))
                moved.times.append(frame.as_of_us)
                moved.bounds.append(effective)
                moved.factors.update(cells.scaled.factors(at) or {})


def speeds(moved: Moved) -> tuple[float, float]:
    """Return the fastest rise and fall of a bound, as shares of its base per second."""
    change = np.diff(moved.bounds) / moved.factors["base"]
    per_s = change / (np.diff(moved.times) / 1e6)
    return max(float(per_s.max(initial=0.0)), 0.0), max(float(-per_s.min(initial=0.0)), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--from", dest="first", default="2021-05-16")
    parser.add_argument("--to", dest="last", default="2021-05-20")
    options = parser.parse_args()
    result = run(Path(tempfile.mkdtemp(prefix="seawall-may-")), options.data, options.first, options.last)
    print("| scope | base | first | least | at (UTC) | last | vol. ratio | rise/s | fall/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for scope, moved in sorted(result.moved.items()):
        least = int(np.argmin(moved.bounds))
        at = datetime.fromtimestamp(moved.times[least] / 1e6, UTC)
        rise, fall = speeds(moved)
        print(
            f"| {scope} | {moved.factors['base']:,.0f} | {moved.bounds[0]:,.0f} | {moved.bounds[least]:,.0f} "
            f"| {at:%m-%d %H:%M} | {moved.bounds[-1]:,.0f} | {moved.factors['volatility_ratio']:.2f} "
            f"| {rise:.6f} | {fall:.6f} |"
        )
    outside = [
        scope for scope, moved in result.moved.items()
        if min(moved.bounds) < moved.factors["floor"] or max(moved.bounds) > moved.factors["ceiling"]
    ]  # fmt: skip
    causes = {cause: sum(b["cause"] == cause for b in result.breaches) for cause in ("active", "passive")}
    kinds = sorted({(command["type"], command["target"]["id"]) for command in result.commands})
    print(f"\nallowed: rise {SPEEDS['loosen_per_s']} and fall {SPEEDS['tighten_per_s']} of base per second")
    print(f"bounds below their floor or above their ceiling: {outside or 'none'}")
    print(f"changes of level: {causes}; commands: {kinds}")
    print(f"withheld: {sorted({(body['kind'], body['target']) for body in result.withheld})}")


if __name__ == "__main__":
    main()
