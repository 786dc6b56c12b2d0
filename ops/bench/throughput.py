"""Throughput: fills per second of one core, of `risk` beside a plain loop, of its depth part by part, and with metrics.

python ops/bench/throughput.py risk | exposure | metrics
"""

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import _harness as bench
import msgspec
import numpy as np

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.keys import new_key
from seawall.operators.core.pipeline import Pipeline
from seawall.ops.run import run
from seawall.schemas import events as ev
from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.records import Fills, Marks, Slice, Transfers, decode_slice, encode_slice

SHARDS, BATCH, T0 = 4, 1000, 1_700_000_000_000_000
COLUMNS = ("id", "account", "instrument", "quantity", "price")
BLOCK = 20  # slices that one variant takes before it is another's turn
SCALES, CHANGES = [1.0], [0.05]
MARGIN = {"id": "margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "warning": 0.5,
          "soft": 0.8, "hard": 1.0, "exit_ratio": 0.9, "dwell_s": 60}  # fmt: skip
Item = tuple[int, bytes]
app = bench.suite(__doc__)


# --- a book and its slices --------------------------------------------------------------------------------------------


class Book:
    """Positions of accounts in instruments as slices of a journal: the opening, then live ones of 1,000 fills."""

    def __init__(self, scale: float, change_min: float = 0.05, conduct: bool = True, accounts_min: int = 16) -> None:
        self.accounts = max(accounts_min, int(10_000 * scale))
        self.instruments = max(1000, int(1000 * scale))
        self.positions = min(int(250_000 * scale), self.accounts * self.instruments // 2)
        self.rng, self.seq, self.clock, self.made = np.random.default_rng(5), [0] * SHARDS, T0, 0
        self.names = [f"acct-{i}" for i in range(self.accounts)]
        self.shard = np.array([zlib.crc32(name.encode()) % SHARDS for name in self.names])
        self.prices = np.exp(self.rng.normal(3, 2, self.instruments))
        pairs = self.rng.choice(self.accounts * self.instruments, self.positions, replace=False)
        self.held = [pairs[self.shard[pairs // self.instruments] == k] for k in range(SHARDS)]
        conducted = {"level": 0.9, "persistence": 3, "refractory_s": 600, "warm_up": 50, "window_s": 60}
        self.configuration: bench.Json = {
            "version": 1, "code": "benchmark", "shards": SHARDS, "issuer": "risk/dev", "environment": "dev",
            "slice_ms": 100, "reporting_currency": "USD", "exposure_change_min": change_min, "mark_max_age_s": 60,
            "fill_memory": 100_000, "conduct": {"enabled": conduct, **conducted},
            "limits": {"version": 1, "sha256": "-", "limits": [MARGIN]},
            "playbook": {"version": 1, "sha256": "-", "rules": []},
        }  # fmt: skip

    def opening(self) -> list[Item]:
        """Return the slices that bring the book in."""
        usual: dict[str, Any] = {"kind": "perpetual", "quote": "USD", "settlement": "USD"}
        usual |= {"quantity_increment": "0.001", "initial_margin_rate": "0.02", "maintenance_margin_rate": "0.01"}
        reference: list[Any] = [
            ev.Instrument(instrument=f"I{i}-PERP", base=f"C{i}", **usual) for i in range(self.instruments)
        ]
        reference += [ev.Account(account=name, counterparty=name, holder="counterparty") for name in self.names]
        found = []
        for k in range(SHARDS):
            own, money = np.flatnonzero(self.shard == k).tolist(), [f"t{k}-{i}" for i in range(self.accounts)]
            paid = Transfers(id=[money[i] for i in own], account=own, asset=["USD"] * len(own), amount=[5e7] * len(own))
            marks, first = self._marks(np.arange(self.instruments)), {"configuration": self.configuration}
            found.append(self._slice(k, reference=reference, marks=marks, transfers=paid, **first))
            for at in range(0, len(self.held[k]), 4000):
                found.append(self._slice(k, fills=self._fills(self.held[k][at : at + 4000], 0.2, 20)))
        return found

    def live(self, count: int) -> list[Item]:
        """Return so many more slices, in turns of the shards."""
        found = []
        for number in range(count):
            held = self.held[number % SHARDS]
            self.prices *= 1 + self.rng.normal(0, 2e-5, self.instruments)  # about 50 % a year at 100 ms
            chosen = self.rng.choice(held, min(BATCH, len(held)), replace=False)
            marks = self._marks(np.arange(BATCH) % self.instruments)
            found.append(self._slice(number % SHARDS, fills=self._fills(chosen, 1e-4), marks=marks))
        return found

    def _marks(self, marked: Any) -> Marks:
        prices = np.round(self.prices[marked], 6).tolist()
        return Marks(instrument=marked.tolist(), price=prices, time_us=[self.clock] * len(marked))

    def _fills(self, pairs: Any, width: float, times: int = 1) -> Fills:
        count, owner, held = len(pairs), pairs // self.instruments, pairs % self.instruments
        ids = [f"{self.made + i:012d}" for i in range(count)]
        self.made += count
        quantity = times * self.rng.integers(1, 1000, count) * self.rng.choice((-1, 1), count)
        price = self.prices[held] * (1 + self.rng.normal(0, width, count).clip(-0.5, 0.5))
        return columns(ids, owner.tolist(), held.tolist(), quantity.tolist(), np.round(price, 6).tolist())

    def _slice(self, k: int, **fields: Any) -> Item:
        self.clock += 100_000
        value = encode_slice(Slice(shard=k, seq=self.seq[k], as_of_us=self.clock, cut_us=self.clock, **fields))
        self.seq[k] += 1
        return k, value


def columns(*values: Any) -> Fills:
    """Return fills of their columns, in order."""
    return Fills(**dict(zip(COLUMNS, values, strict=True)))


def fills_of(items: list[Item]) -> int:
    """Return how many fills slices have."""
    found = (decode_slice(value).fills for _, value in items)
    return sum(len(fills.id) for fills in found if fills is not None)


def step_all(risk: Pipeline, items: Iterable[Item]) -> None:
    for _, value in items:
        for _ in risk.step(value):
            pass


def block(items: list[Item], number: int) -> list[Item]:
    return items[number * BLOCK : (number + 1) * BLOCK]


# --- risk -------------------------------------------------------------------------------------------------------------


class Plain:
    """The plain numpy loop of one shard: dense positions, one sorted key column, no bookkeeping beyond the book."""

    def __init__(self, book: Book, opening: Iterable[bytes]) -> None:
        self.instruments, rows = book.instruments, []
        self.price, self.cash = np.zeros(book.instruments), np.zeros(book.accounts)
        for piece in map(decode_slice, opening):
            if piece.marks is not None:
                self.price[piece.marks.instrument] = piece.marks.price
            if piece.transfers is not None:
                self.cash[piece.transfers.account] += piece.transfers.amount
            if (f := piece.fills) is not None:
                rows.append(np.array([f.account, f.instrument, f.quantity, np.array(f.quantity) * np.array(f.price)]))
        account, instrument, self.units, cost = np.concatenate(rows, axis=1)
        self.instrument, self.cost = instrument.astype(np.int64), cost * 0.001
        keys = (account * self.instruments + instrument).astype(np.int64).tolist()
        self.at = dict(zip(keys, range(len(keys)), strict=True))
        own, self.owner = np.unique(account, return_inverse=True)
        self.count = len(own)

    def step(self, value: bytes) -> tuple[Any, ...]:
        """Decode a slice, apply its fills, revalue the book."""
        piece = decode_slice(value)
        m, f = piece.marks, piece.fills
        assert m is not None and f is not None
        self.price[m.instrument] = m.price
        keys = (np.array(f.account) * self.instruments + np.array(f.instrument)).tolist()
        at, quantity = np.array([self.at[k] for k in keys]), np.array(f.quantity)
        np.add.at(self.units, at, quantity)
        np.add.at(self.cost, at, quantity * np.array(f.price) * 0.001)
        held = self.units * (self.price * 0.001)[self.instrument]
        pnl = np.bincount(self.owner, held - self.cost, self.count)
        gross = np.bincount(self.owner, np.abs(held), self.count)
        return pnl, gross, np.bincount(self.owner, held, self.count), gross * 0.01, gross * 0.02


@app.command()
def risk(
    scale: list[float] = SCALES,
    change_min: list[float] = CHANGES,
    slices: int = 400,
    engine: bool = True,
    conduct: bool = True,
) -> None:
    """Compare ``risk`` with a plain numpy loop that decodes the same slices and revalues the same book.

    The book has 250,000 open positions of 10,000 accounts in 1,000 instruments; every slice carries 1,000 fills and
    1,000 marks. The plain loop decodes, applies fills to positions and balances, and revalues; it has no memory of ids,
    limits, exposures, audit, engine or bus. Figures are fills per second of one core, and the ratio to the plain loop
    of the same run, which takes turns with the core. --no-conduct is without the watch over accounts.
    """

    def rows() -> Iterator[list[object]]:
        for size in scale:
            for least_change in change_min:
                yield compared(Book(size, least_change, conduct), slices, engine)

    head = "positions | exposure_change_min | plain loop | core | ratio | Bytewax + SQLite | ratio | memory MiB"
    bench.table(head, rows())


def compared(book: Book, slices: int, engine: bool) -> list[object]:
    """Return a row: what the plain loop, the core and the engine do with the same slices."""
    opening, live = book.opening(), book.live(slices)
    plain = [Plain(book, (value for shard, value in opening if shard == k)) for k in range(SHARDS)]
    core, fills = Pipeline(SHARDS), fills_of(live)
    step_all(core, opening)
    works: dict[str, Callable[[int], object]] = {
        "plain": lambda number: [plain[k].step(value) for k, value in block(live, number)],
        "core": lambda number: step_all(core, block(live, number)),
    }
    spent = bench.in_turns(works, -(-len(live) // BLOCK), time.thread_time)
    bare, own = (fills / sum(times) for times in spent.values())
    row: list[object] = [f"{book.positions:,}", book.configuration["exposure_change_min"], f"{bare:,.0f}/s"]
    row += [f"{own:,.0f}/s", f"{own / bare:.2f}"]
    through = through_engine(opening, live, fills) if engine else None
    row += [f"{through:,.0f}", f"{through / bare:.2f}"] if through is not None else ["-", "-"]
    return [*row, f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"]


def through_engine(opening: list[Item], live: list[Item], fills: int) -> float:
    """Return fills per processor second of Bytewax with the SQLite bus and recovery every second."""
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as name:
        configuration = sharded_desk(Path(name), "sqlite:seawall.db")
        writer = Journal(open_bus(configuration.bus, configuration.directory))
        writer.put(opening)
        run(configuration, only=["risk"])
        writer.put(live)
        return fills / run(configuration, only=["risk"]).dataflows["risk"].seconds


def sharded_desk(folder: Path, url: str) -> Configuration:
    """Write a desk with a key of its own and nothing to read; return its configuration."""
    path = bench.write_desk(
        folder, f'bus = "{url}"\nshards = {SHARDS}', tables='[keys]\nsigner = "file:keys/dev.pem"\n'
    )
    new_key(folder / "keys/dev.pem")
    return load_configuration(path)


class Journal:
    """Appends slices to a journal."""

    def __init__(self, bus: Bus) -> None:
        self.writer = bus.writer([("journal", k) for k in range(SHARDS)])

    def put(self, items: list[Item], ends_run: bool = True) -> None:
        """Append; the last of each shard says that a bounded run ends there."""
        last = {k: at for at, (k, _) in enumerate(items)}
        for at, (k, value) in enumerate(items):
            ends = ends_run and last[k] == at
            piece = encode_slice(msgspec.structs.replace(decode_slice(value), end=True)) if ends else value
            seq = self.writer.end("journal", k)
            self.writer.append("journal", k, str(k), piece, {"seawall-id": f"{k}-{seq}-0", "seawall-n": str(seq)})
            if at % 64 == 63:
                self.writer.flush()
        self.writer.flush()


# --- exposure ---------------------------------------------------------------------------------------------------------

PARTS = ("limits", "options", "scenario margin", "SA-CCR")
OPTIONS, UNDERLYINGS, HOLDERS, EACH, BLOCKS = 200, 10, 500, 40, 5
MEASURES = ("equity", "leverage", "gross_notional", "unrealised_pnl", "margin_ratio")


class Depth:
    """Puts parts of a risk desk's depth into the slices of a book."""

    def __init__(self, book: Book, parts: tuple[str, ...]) -> None:
        self.book, self.parts, self.rng, self.live = book, parts, np.random.default_rng(11), 0
        self.prices, self.opened = book.prices.copy(), set[int]()

    def adapted(self, item: Item) -> Item:
        """Return a slice with the parts on."""
        shard, piece = item[0], decode_slice(item[1])
        live = piece.configuration is None and piece.marks is not None
        if piece.configuration is not None:
            self._adapt_first(piece)
        elif "options" in self.parts and shard not in self.opened:
            self.opened.add(shard)
            self._add_fills(piece, shard, None)
        if "options" in self.parts and piece.marks is not None:
            self._mark_options(piece.marks)
        if live:
            self.live += 1
            piece.second = self.live % 10 == 0
            if "options" in self.parts:
                self._add_fills(piece, shard, 70)
        return shard, encode_slice(piece)

    def _adapt_first(self, piece: Slice) -> None:
        parties = [record for record in piece.reference or () if isinstance(record, ev.Account)]
        reference: list[Any] = list(piece.reference or ())
        if "limits" in self.parts:
            body = {**MARGIN, "warning": 1e17, "soft": 1e18, "hard": 1e19}
            limits = [{**body, "id": f"limit-{measure}", "measure": measure} for measure in MEASURES]
            assert piece.configuration is not None
            piece.configuration["limits"]["limits"] = limits
        if "scenario margin" in self.parts:
            first = len(reference) - len(parties)
            holders = [msgspec.structs.replace(record, margin_model="scenario") for record in parties[:HOLDERS]]
            reference[first : first + HOLDERS] = holders
        if "options" in self.parts:
            reference += map(option, range(OPTIONS))
        if "SA-CCR" in self.parts:
            terms: Any = {"margined": True, "threshold": "1000"}
            reference += [ev.NettingSet(netting_set=r.account, counterparty=r.counterparty, **terms) for r in parties]
        piece.reference = reference

    def _mark_options(self, marks: Marks) -> None:
        """Mark a fifth of the options, all of them in the first slice."""
        chosen = [at for at in range(OPTIONS) if self.live == 0 or at % 5 == self.live % 5]
        marks.implied_volatility = [-1.0] * len(marks.price) + [0.6 + 0.001 * (at % 50) for at in chosen]
        marks.instrument += [self.book.instruments + at for at in chosen]
        marks.price += [round(0.1 * float(self.prices[at % UNDERLYINGS]), 6) for at in chosen]
        marks.time_us += [marks.time_us[0]] * len(chosen)

    def _add_fills(self, piece: Slice, shard: int, count: int | None) -> None:
        """Add the opening positions in options of a shard's holders, or ``count`` more fills on them."""
        own, first = np.flatnonzero(self.book.shard[:HOLDERS] == shard).tolist(), self.book.instruments
        pairs = [(at, first + (at * 7 + place) % OPTIONS) for at in own for place in range(EACH)]
        if count is not None:
            pairs = [pairs[i] for i in self.rng.integers(0, len(pairs), count)]
        number, account, held = self.rng.integers(1 << 60), [a for a, _ in pairs], [i for _, i in pairs]
        quantity = (self.rng.integers(1, 1000, len(pairs)) * self.rng.choice((-1, 1), len(pairs))).tolist()
        more = columns([f"o{number:x}-{i}" for i in range(len(pairs))], account, held, quantity, [1.0] * len(pairs))
        if (old := piece.fills) is not None:
            more = columns(*([*getattr(old, name), *getattr(more, name)] for name in COLUMNS))
        piece.fills = more


def option(at: int) -> ev.Instrument:
    """Return an option on one of ten underlyings."""
    return ev.Instrument(
        instrument=f"O{at}", kind="option", base=f"C{at % UNDERLYINGS}", quote="USD", settlement="USD",
        quantity_increment="0.001", strike=f"{5 + at % 40}", option_type="call" if at % 2 else "put",
        expiry_us=T0 + (30 + at) * 86_400_000_000, forward=f"I{at % UNDERLYINGS}-PERP",
    )  # fmt: skip


@app.command()
def exposure(scale: float = 1.0, cycles: int = 4) -> None:
    """Tell what exposures cost at the depth of a risk desk, part by part, on the book of ``risk``.

    Each row has one part more than the row above it. Limits: five on every account, 50,000 in all, evaluated every
    slice. Options: 20,000 positions in 200 options held by 500 accounts, marked with volatilities, greeks once per
    instrument. Scenario margin: those accounts are margined by the default grid, touched ones every slice, all every
    10 s. SA-CCR: every account's netting set has terms: replacement cost every slice; add-ons and exposure at default
    of touched sets (a third of all) every slice, of all every 10 s.

    Every tenth slice ends a second of event time, and a hundred are a cycle of ten seconds. All variants run in turns,
    block by block. A figure is processor time: of each block of a cycle the least that any cycle took.
    """
    ready: dict[str, list[Item]] = {}
    works: dict[str, Callable[[int], object]] = {}
    for count in range(len(PARTS) + 1):
        book = Book(scale, accounts_min=HOLDERS)
        depth, risk = Depth(book, PARTS[:count]), Pipeline(SHARDS)
        step_all(risk, map(depth.adapted, book.opening()))
        name = f"+ {PARTS[count - 1]}" if count else "foundation"
        live = ready[name] = list(map(depth.adapted, book.live(cycles * BLOCKS * BLOCK)))
        works[name] = lambda number, risk=risk, live=live: step_all(risk, block(live, number))  # type: ignore[misc]
    spent, rows = bench.in_turns(works, cycles * BLOCKS, time.thread_time), list[list[object]]()
    first = before = 0.0
    for name, times in spent.items():
        each = statistics.mean(min(times[phase::BLOCKS]) for phase in range(BLOCKS)) / BLOCK * 1e6
        fills = fills_of(ready[name]) / len(ready[name])
        first, before = first or each / fills, before or each
        part = [f"{each:,.0f}", f"{each - before:,.0f}", f"{fills / each * 1e6:,.0f}", f"{first * fills / each:.2f}"]
        rows.append([name, *part])
        before = each
    bench.table("with | us a slice | this part | fills/s of a core | of the foundation", rows)


# --- metrics ----------------------------------------------------------------------------------------------------------

ALONE = """
import sys, time
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
print(run(load_configuration(sys.argv[1]), ["risk"]).dataflows["risk"].seconds, time.process_time())
"""


def small_slices(slices: int) -> Iterator[bench.Json]:
    """Yield the desk's records, then a mark and a fill per slice, of one of ten accounts."""
    yield bench.instrument("ETH-PERP", "ETH", quantity_increment="0.01")
    for at in range(10):
        yield from bench.party(f"c{at}")
    for at in range(slices):
        when, side = T0 + at * 100_000, "buy" if at // 10 % 2 else "sell"
        yield bench.mark(when, "ETH-PERP", f"{2000 + at % 17}")
        yield bench.fill(when + 1, f"f{at}", f"c{at % 10}", "ETH-PERP", side, "1", "2000")


@app.command()
def metrics(slices: int = 4000, rounds: int = 5) -> None:
    """Tell what metrics cost a small slice: the processor time of ``risk`` with and without them, in turns.

    Each slice carries one fill and one mark of one of ten accounts. A round runs ``risk`` over the same journal on the
    embedded bus, once as it is and once with ``[health]`` and all that it counts, in processes of their own. The figure
    is the ratio of the least processor seconds of each.
    """
    bounds = bench.limit("gross", "account:*", "gross_notional", warning=1e9, hard=2e9)
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as name:
        journal = Path(name) / "journal"
        bench.run_desk(
            bench.write_desk(journal, "shards = 1", small_slices(slices), limits=bounds), ["market", "sequence"]
        ).close()
        for number in range(2 * rounds):
            folder, watched = Path(name) / str(number), bool(number % 2)
            shutil.copytree(journal, folder)
            with (folder / "desk.toml").open("a") as file:
                file.write('[health]\nlisten = "127.0.0.1:0"\n' if watched else "")
            words = [sys.executable, "-c", ALONE, str(folder / "desk.toml")]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            found[watched].append([float(word) for word in done.stdout.split()[-2:]])
            shutil.rmtree(folder)
    for at, what in enumerate(("the worker's thread", "the whole process")):
        plain, with_metrics = (min(one[at] for one in found[watched]) for watched in (False, True))
        micros = plain / slices * 1e6
        print(f"{what}: {micros:.0f} us a slice without metrics, {with_metrics / plain:.3f} of that with")


if __name__ == "__main__":
    app()
