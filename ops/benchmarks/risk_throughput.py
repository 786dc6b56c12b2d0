"""Throughput of ``risk`` against a plain numpy loop that decodes the same slices and revalues the same book.

    python ops/benchmarks/risk_throughput.py [--scale 1.0] [--change-min 0.05] [--no-conduct]

The book has 250,000 open positions of 10,000 accounts in 1,000 instruments; every slice carries 1,000 fills and 1,000
marks. The plain loop decodes, applies fills to positions and balances, and revalues; it has no memory of ids, limits,
exposures, audit, engine or bus. Figures are fills per second of one core, and the ratio to the plain loop of the same
run.
"""

import argparse
import resource
import shutil
import tempfile
import time
import zlib
from pathlib import Path

import msgspec
import numpy as np

from seawall.operators.core.risk import Risk
from seawall.schemas import events as ev
from seawall.schemas.slices import Fills, Marks, Slice, Transfers, encode_slice

SHARDS = 4
BATCH = 1000
OPTIONS = {"conduct": True}


def configuration(change_min):
    """Return the journaled configuration of the benchmark."""
    limit = {
        "id": "margin",
        "scope": "account:*",
        "measure": "margin_ratio",
        "direction": "above",
        "warning": 0.5,
        "soft": 0.8,
        "hard": 1.0,
        "exit_ratio": 0.9,
        "dwell_s": 60,
    }
    return {
        "version": 1,
        "code": "benchmark",
        "shards": SHARDS,
        "issuer": "risk/dev",
        "environment": "dev",
        "slice_ms": 100,
        "reporting_currency": "USD",
        "exposure_change_min": change_min,
        "mark_max_age_s": 60,
        "fill_memory": 100_000,
        "conduct": {
            "enabled": OPTIONS["conduct"],
            "level": 0.9,
            "persistence": 3,
            "refractory_s": 600,
            "warm_up": 50,
            "window_s": 60,
        },
        "limits": {"version": 1, "sha256": "-", "limits": [limit]},
        "playbook": {"version": 1, "sha256": "-", "rules": []},
    }


def journal(positions, accounts, instruments, slices, change_min, seed=5):
    """Yield (shard, value): first the book, then ``slices`` slices in turns of the shards."""
    rng = np.random.default_rng(seed)
    names = [f"acct-{i}" for i in range(accounts)]
    shard = np.array([zlib.crc32(n.encode()) % SHARDS for n in names])
    prices = np.exp(rng.normal(3, 2, instruments))
    reference = [
        ev.Instrument(
            instrument=f"I{i}-PERP",
            kind="perpetual",
            base=f"C{i}",
            quote="USD",
            settlement="USD",
            quantity_increment="0.001",
            initial_margin_rate="0.02",
            maintenance_margin_rate="0.01",
        )
        for i in range(instruments)
    ]
    reference += [ev.Account(account=n, counterparty=n, holder="counterparty") for n in names]
    seq, clock, fill = [0] * SHARDS, 1_700_000_000_000_000, 0
    own = [np.flatnonzero(shard == k) for k in range(SHARDS)]
    pairs = rng.choice(accounts * instruments, positions, replace=False)
    of = [pairs[shard[pairs // instruments] == k] for k in range(SHARDS)]

    def fills(owner, instrument, width, times=1):
        nonlocal fill
        count = len(owner)
        ids = [f"{fill + i:012d}" for i in range(count)]
        fill += count
        quantity = times * rng.integers(1, 1000, count) * rng.choice((-1, 1), count)
        price = prices[instrument] * (1 + rng.normal(0, width, count).clip(-0.5, 0.5))
        return Fills(
            id=ids,
            account=owner.tolist(),
            instrument=instrument.tolist(),
            quantity=quantity.tolist(),
            price=np.round(price, 6).tolist(),
        )

    def piece(k, **fields):
        nonlocal clock
        clock += 100_000
        value = encode_slice(Slice(shard=k, seq=seq[k], as_of_us=clock, cut_us=clock, **fields))
        seq[k] += 1
        return k, value

    for k in range(SHARDS):
        marks = Marks(
            instrument=list(range(instruments)), price=np.round(prices, 6).tolist(), time_us=[clock] * instruments
        )
        money = Transfers(
            id=[f"t{k}-{i}" for i in own[k]],
            account=own[k].tolist(),
            asset=["USD"] * len(own[k]),
            amount=[5e7] * len(own[k]),
        )
        yield piece(k, configuration=configuration(change_min), reference=reference, marks=marks, transfers=money)
        for first in range(0, len(of[k]), 4000):
            part = of[k][first : first + 4000]
            yield piece(k, fills=fills(part // instruments, part % instruments, 0.2, 20))
    yield None, b""
    for number in range(slices):
        k = number % SHARDS
        prices *= 1 + rng.normal(0, 2e-5, instruments)  # about 50 % a year at 100 ms
        chosen = rng.choice(of[k], min(BATCH, len(of[k])), replace=False)
        marked = np.arange(BATCH) % instruments if instruments >= BATCH else np.arange(instruments)
        marks = Marks(
            instrument=marked.tolist(), price=np.round(prices[marked], 6).tolist(), time_us=[clock] * len(marked)
        )
        yield piece(k, fills=fills(chosen // instruments, chosen % instruments, 1e-4), marks=marks)


class Plain:
    """The plain numpy loop of one shard: dense positions, one sorted key column, no bookkeeping beyond the book."""

    def __init__(self, instruments, accounts):
        self.instruments, self.accounts = instruments, accounts
        self.keys = {}
        self.units = self.cost = self.account = self.instrument = None
        self.price = np.zeros(instruments)
        self.cash = np.zeros(accounts)
        self.rows = []

    def load(self, piece):
        """Take a slice of the opening book."""
        if piece.marks is not None:
            self.price[piece.marks.instrument] = piece.marks.price
        if piece.transfers is not None:
            self.cash[piece.transfers.account] += piece.transfers.amount
        if piece.fills is not None:
            f = piece.fills
            self.rows.append(np.array([f.account, f.instrument, f.quantity, np.array(f.quantity) * np.array(f.price)]))

    def ready(self):
        """Build the columns."""
        rows = np.concatenate(self.rows, axis=1)
        self.account, self.instrument = rows[0].astype(np.int64), rows[1].astype(np.int64)
        self.units, self.cost = rows[2].copy(), rows[3] * 0.001
        self.keys = dict(
            zip((self.account * self.instruments + self.instrument).tolist(), range(len(rows[0])), strict=True)
        )
        self.local = np.zeros(self.accounts, dtype=np.int64)
        own = np.unique(self.account)
        self.local[own] = np.arange(len(own))
        self.count = len(own)
        self.owner = self.local[self.account]

    def step(self, value):
        """Decode a slice, apply its fills, revalue the book."""
        piece = DECODE(value)
        m, f = piece.marks, piece.fills
        self.price[m.instrument] = m.price
        account, instrument = np.array(f.account), np.array(f.instrument)
        quantity, price = np.array(f.quantity), np.array(f.price)
        keys = (account * self.instruments + instrument).tolist()
        at = np.array([self.keys[k] for k in keys])
        value = quantity * price * 0.001
        np.add.at(self.units, at, quantity)
        np.add.at(self.cost, at, value)
        unit = self.price * 0.001
        held = self.units * unit[self.instrument]
        pnl = np.bincount(self.owner, held - self.cost, self.count)
        gross = np.bincount(self.owner, np.abs(held), self.count)
        net = np.bincount(self.owner, held, self.count)
        return pnl, gross, net, gross * 0.01, gross * 0.02


DECODE = msgspec.json.Decoder(Slice).decode


def measure(scale, change_min, slices, engine):
    """Return (plain, core, engine) fills per second, and what they ran on."""
    positions, accounts, instruments = (
        int(250_000 * scale),
        max(SHARDS * 4, int(10_000 * scale)),
        max(1000, int(1000 * scale)),
    )
    positions = min(positions, accounts * instruments // 2)
    opening, live, target = [], [], None
    target = opening
    for item in journal(positions, accounts, instruments, slices, change_min):
        if item[0] is None:
            target = live
            continue
        target.append(item)
    fills = sum(len(DECODE(v).fills.id) for _, v in live)
    plain = [Plain(instruments, accounts) for _ in range(SHARDS)]
    for k, value in opening:
        plain[k].load(DECODE(value))
    for loop in plain:
        loop.ready()
    start = time.thread_time()
    for k, value in live:
        plain[k].step(value)
    plain_rate = fills / (time.thread_time() - start)
    risk = Risk(SHARDS)
    for _, value in opening:
        for _ in risk.step(value):
            pass
    start = time.thread_time()
    for _, value in live:
        for _ in risk.step(value):
            pass
    core_rate = fills / (time.thread_time() - start)
    engine_rate = through_engine(opening, live, fills) if engine else None
    return plain_rate, core_rate, engine_rate, positions


def through_engine(opening, live, fills):
    """Return fills per CPU second of Bytewax with the SQLite bus and recovery every second."""
    from seawall.connectors.keys import new_key
    from seawall.connectors.sqlite_bus import SqliteBus
    from seawall.ops.run import run
    from seawall.schemas.configuration import load_configuration

    folder = Path(tempfile.mkdtemp(prefix="seawall-bench-"))
    try:
        new_key(folder / "keys/dev.pem")
        (folder / "desk.toml").write_text(
            f'bus = "sqlite:seawall.db"\nshards = {SHARDS}\n[keys]\nsigner = "file:keys/dev.pem"\n'
        )
        bus = SqliteBus(folder / "seawall.db")

        def put(items):
            writer = bus.writer([("journal", k) for k in range(SHARDS)])
            for k, value in items:
                seq = writer.end("journal", k)
                writer.append("journal", k, str(k), value, {"seawall-id": f"{k}-{seq}-0", "seawall-n": str(seq)})
            writer.flush()
            writer.close()

        def finish(items):
            ends = [bytes(v) for _, v in items]
            for k in range(SHARDS):
                last = max(i for i, (s, _) in enumerate(items) if s == k)
                piece = DECODE(ends[last])
                piece.end = True
                ends[last] = encode_slice(piece)
            return [(k, v) for (k, _), v in zip(items, ends, strict=True)]

        put(finish(opening))
        run(load_configuration(folder / "desk.toml"), only=["risk"])
        put(finish(live))
        outcome = run(load_configuration(folder / "desk.toml"), only=["risk"])
        return fills / outcome.dataflows["risk"].seconds
    finally:
        shutil.rmtree(folder)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, nargs="+", default=[1.0])
    parser.add_argument("--change-min", type=float, nargs="+", default=[0.05])
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--no-engine", action="store_true")
    parser.add_argument("--no-conduct", action="store_true", help="without the watch over accounts")
    args = parser.parse_args()
    OPTIONS["conduct"] = not args.no_conduct
    print("| positions | exposure_change_min | plain loop | core | ratio | Bytewax + SQLite | ratio | memory MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for scale in args.scale:
        for change_min in args.change_min:
            plain, core, engine, positions = measure(scale, change_min, args.slices, not args.no_engine)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            through = f"{engine:,.0f} | {engine / plain:.2f}" if engine else "- | -"
            print(
                f"| {positions:,} | {change_min} | {plain:,.0f}/s | {core:,.0f}/s | {core / plain:.2f} | {through} "
                f"| {memory:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
