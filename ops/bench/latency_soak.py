"""A live run on a real broker: loss, lag, memory, cost, and latency from a fill to its signed command.

    python ops/bench/latency_soak.py soak | burst

A process of its own sends RATE fills and RATE marks a second, rising to that in the first WARM_S, and four times a
second a fill of an account of its own that breaks a limit at once. Two seconds later another one closes its position:
accounts in breach would add up, whose values change by more than what is told with every mark. It sends every 2 ms;
records have the time at which it began to make them. Accounts hold DEPOSIT in USD, and marks walk as prices of that
annual volatility do. Broker, sender, subscriber and the run share this machine; its load is in the figures.

``--processes 2`` runs ``market`` and ``sequence`` in one process, ``risk`` and ``seal`` in another; 4 gives each
dataflow its own, and ``market`` and ``seal``, for which no command waits, give way (``nice -n 5``). The
broker's Java machine compiles as it does in production, which costs processor time in the first minute; tests have one
that starts faster and runs slower.
"""

import json
import math
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import _harness as bench
import numpy as np
import typer
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from seawall.connectors.bus import Bus, decided_slices, open_bus
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.records import decode_slice

COMPILING_S, EVERY_S, DRAIN_S, READY_S, QUIET_S, LOOK_S = 30, 10, 120, 180, 5, 0.25
LATENCY_MAX_S, LAG_MAX_S, GIVE_UP_S = 5.0, 30.0, 300.0  # of a burst
INSTRUMENTS, PROBES_PER_S, PARTITIONS = 100, 4, 2
INPUTS = ("soak-fills", "soak-marks")
YEAR_S = 365 * 24 * 3600
PARTS: dict[int, dict[str, tuple[str, ...]]] = {
    1: {"run": ()},
    2: {"sequence": ("market", "sequence"), "risk": ("risk", "seal")},
    4: {"sequence": ("sequence",), "market": ("market",), "risk": ("risk",), "seal": ("seal",)},
}
# Its collector stops it every 10 s for 10 to 15 ms, on both processors; the one of tests for 23 to 28.
COLLECTOR = ("-XX:-UseSerialGC", "-XX:+UseParallelGC")
JVM = (*COLLECTOR, "-Xms1g", "-Xmx1g", "-Xmn640m", "-XX:TieredStopAtLevel=4")
BROKER = {"broker.session.timeout.ms": "9000"}  # Kafka's own: tests have a shorter one, after which a leader is deposed
SENDER = {
    "acks": "all",  # not idempotent: such a client waits busily for a slow broker (decision 0016)
    "max.in.flight": 1,
    "linger.ms": 5,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 1_000_000,
}
CLOSED_S, TEXTS, SNAPSHOT_S = 2, 100_003, 15
YIELDING, NICE = ("market", "seal"), ("nice", "-n", "5")
STAGES = ("end", "cut", "journal", "command", "arrival")
FILL_ID = re.compile(rb'"fill_id": ?"([fpc][0-9]+)"')
LIMITS = bench.limit("probe", "account:*", "gross_notional", hard=100_000_000)
COMMANDS = '{ kind = "SUSPEND", target = "account" }'
PLAYBOOK = bench.RULE.format(id="stop", limit="probe", level="hard", commands=COMMANDS)
app = bench.suite(__doc__)


class Terms(NamedTuple):
    """Load that is sent, and the set-up of the run."""

    seconds: int
    rate: int
    slice_ms: int
    shards: int
    accounts: int
    deposit: str
    volatility: float
    wait_ms: int
    compression: str
    processes: int
    warm_s: int


def desk(folder: Path, address: str, terms: Terms) -> Path:
    """Write the desk of a run; return its configuration's path."""
    probes = (terms.seconds + terms.warm_s + 5) * PROBES_PER_S
    holders = [f"acct-{n}" for n in range(terms.accounts)]
    records = [bench.instrument(f"I{n}-PERP", f"C{n}", **bench.MARGINS) for n in range(INSTRUMENTS)]
    records += [one for n in [*holders, *(f"probe-{n}" for n in range(probes))] for one in bench.party(n)]
    money = {"type": "collateral", "event_time_us": time.time_ns() // 1000, "asset": "USD", "amount": terms.deposit}
    records += [{**money, "transfer_id": f"t{n}", "account": name} for n, name in enumerate(holders)]
    top = f'bus = "kafka://{address}/soak"\nslice_ms = {terms.slice_ms}\nshards = {terms.shards}\n'
    top += f"exposure_change_min = 0.05\nsnapshot_s = {SNAPSHOT_S}\n"
    inputs = f'events = ["events.jsonl"]\nwait_ms = {terms.wait_ms}\n'
    inputs += f"topics = {json.dumps(INPUTS)}\nmarket_topics = []\n"  # marks of nobody's venue make no market
    compressed = f'[kafka]\ncompression = "{terms.compression}"\n'
    return bench.write_desk(folder, top, records, inputs, LIMITS, PLAYBOOK, compressed)


# --- the sender -------------------------------------------------------------------------------------------------------


@app.command(hidden=True)
def send(address: str, rate: int, seconds: int, warm_s: int, accounts: int, volatility: float) -> None:
    """Send fills and marks at a steady rate, which they rise to; probes beside. Runs in a process of its own."""
    producer, rng = Producer({"bootstrap.servers": address, **SENDER}), random.Random(1)
    number = probe = closed = 0
    began, seconds = time.monotonic(), seconds + warm_s
    # Made before: what sending costs is taken from the run, which shares the machine.
    fills, marks = texts(rng, volatility / math.sqrt(YEAR_S * rate / INSTRUMENTS))
    probes_at = sorted(rng.uniform(0, seconds) for _ in range(seconds * PROBES_PER_S))  # at any moment of a slice
    while (passed := time.monotonic() - began) < seconds:
        due = int((passed - warm_s / 2 if passed >= warm_s else passed * passed / warm_s / 2) * rate)
        head = f'"event_time_us":{time.time_ns() // 1000},'
        mark, fill = f'{{"type":"mark",{head}', f'{{"type":"fill",{head}"fill_id":"f'
        for partition in range(PARTITIONS):
            numbers = range(number + (partition - number) % PARTITIONS, due, PARTITIONS)
            made = [{"value": f'{fill}{n}","account":"acct-{n % accounts}",{fills[n % TEXTS]}'} for n in numbers]
            producer.produce_batch("soak-fills", made, partition=partition)
            made = [{"value": mark + marks[n % TEXTS]} for n in numbers]
            producer.produce_batch("soak-marks", made, partition=partition)
        number = due
        while probe < len(probes_at) and probes_at[probe] < passed:
            produce_probe(producer, probe, "p", "buy")
            probe += 1
        while closed < probe and probes_at[closed] + CLOSED_S < passed:
            produce_probe(producer, closed, "c", "sell")
            closed += 1
        producer.poll(0)
        time.sleep(0.002)
    producer.flush(60)


def produce_probe(producer: Producer, probe: int, kind: str, side: str) -> None:
    """Send the fill that breaks a limit, or the one that closes its position; where a cluster takes no more, wait."""
    now = time.time_ns() // 1000
    value = json.dumps(bench.fill(now, f"{kind}{probe}", f"probe-{probe}", "I0-PERP", side, "10000000", "100"))
    while True:
        try:
            producer.produce("soak-fills", value, partition=probe % PARTITIONS)
            return
        except BufferError:
            producer.poll(0.1)


def texts(rng: random.Random, step: float) -> tuple[list[str], list[str]]:
    """Return ends of fills and of marks; how many there are shares no factor with accounts or instruments.

    Marks of an instrument walk from 100 in relative steps of that standard deviation, and end where they began.
    """
    instruments = np.array([rng.randrange(INSTRUMENTS) for _ in range(TEXTS)])
    prices = np.zeros(TEXTS)
    for instrument in range(INSTRUMENTS):
        places = np.flatnonzero(instruments == instrument)
        walk = np.cumsum([rng.gauss(0, step) for _ in places])
        prices[places] = 100 * np.exp(walk - walk[-1] * np.arange(1, len(places) + 1) / len(places))
    fills, marks = [], []
    for instrument, price in zip(instruments.tolist(), prices.tolist(), strict=True):
        side = rng.choice(("buy", "sell"))
        fills.append(f'"instrument":"I{instrument}-PERP","side":"{side}","quantity":"0.5","price":"100"}}')
        marks.append(f'"instrument":"I{instrument}-PERP","price":"{price:.4f}"}}')
    return fills, marks


# --- those who look on ------------------------------------------------------------------------------------------------


class Commands(threading.Thread):
    """Reads commands as a subscriber does; notes when each came and when the broker had it, by its target."""

    def __init__(self, address: str, shards: int) -> None:
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": address, "group.id": "soak", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "auto.offset.reset": "earliest", "log_level": 0})
        self._consumer.assign([TopicPartition("soak.commands", partition, 0) for partition in range(shards + 1)])
        self.came: dict[str, int] = {}
        self.made: dict[str, int] = {}

    def run(self) -> None:
        while True:
            message = self._consumer.poll(1)
            if message is not None and message.error() is None:
                target = json.loads(message.value() or b"")["target"]["id"]
                self.came.setdefault(target, time.time_ns() // 1000)
                self.made.setdefault(target, message.timestamp()[1] * 1000)


class Counts:
    """Count of each fill, by its number; a byte for each, because half an hour has many."""

    def __init__(self) -> None:
        self._of: dict[str, Any] = {kind: np.zeros(1, np.uint8) for kind in "fpc"}

    def add(self, name: str) -> None:
        kind, number = name[0], int(name[1:])
        if number >= len(self._of[kind]):
            self._of[kind] = np.concatenate([self._of[kind], np.zeros(number + 1, np.uint8)])
        self._of[kind][number] += 1

    def total(self) -> int:
        return sum(int(found.sum(dtype=np.int64)) for found in self._of.values())

    def distinct(self) -> int:
        return int(sum(np.count_nonzero(found) for found in self._of.values()))

    def without(self, other: "Counts") -> int:
        """Return how many were met here and not there."""
        missing = 0
        for kind, here in self._of.items():
            there = np.zeros(len(here), np.uint8)
            found = other._of[kind][: len(here)]
            there[: len(found)] = found
            missing += int(np.count_nonzero((here > 0) & (there == 0)))
        return missing


class Inputs:
    """The topics that were sent to: how much is on them, and how much of it is journaled."""

    def __init__(self, address: str, bus: Bus, shards: int) -> None:
        self._settings: Any = {"bootstrap.servers": address, "group.id": "inputs", "log_level": 0}
        self._bus, self._shards, self._reader = bus, shards, Consumer(self._settings)
        self.places = [TopicPartition(topic, part) for topic in INPUTS for part in range(PARTITIONS)]

    def sent(self) -> int:
        return sum(map(self._end, self.places))

    def _end(self, place: TopicPartition) -> int:
        """Return the end of a partition; wait for a broker that is not its leader for a moment."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                return int(self._reader.get_watermark_offsets(place, timeout=20)[1])
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def waiting(self) -> int:
        """Return how many records are sent and not journaled yet."""
        return self.sent() - sum(self.positions().values())

    def cuts(self) -> tuple[dict[str, tuple[int, int, int]], set[str]]:
        """Return by account of a probe when its slice ended, was cut, and was given to the broker.

        Second, those whose position was closed in the same slice, as after a rest of the sender: they broke no limit.
        """
        found: dict[str, tuple[int, int, int]] = {}
        closed: dict[str, int] = {}
        for message in self._messages("soak.journal", dict.fromkeys(range(self._shards), math.inf)):
            piece = decode_slice(message.value())
            at = piece.as_of_us, piece.cut_us, message.timestamp()[1] * 1000
            names = piece.fills.id if piece.fills is not None else ()
            found |= {f"probe-{name[1:]}": at for name in names if name[0] == "p"}
            closed |= {f"probe-{name[1:]}": piece.as_of_us for name in names if name[0] == "c"}
        return found, {name for name, at in found.items() if closed.get(name) == at[0]}

    def positions(self) -> dict[str, int]:
        """Return the next offset of each partition, by the last slices."""
        found: dict[str, int] = {}
        for shard in range(self._shards):
            end = self._bus.end("journal", shard)
            last = decode_slice(self._bus.read("journal", shard, end - 1, 1)[0].value) if end else None
            for name, position in (last.sources if last else {}).items():
                found[name] = max(found.get(name, 0), position[0])
        return {f"{at.topic}/{at.partition}": found.get(f"{at.topic}/{at.partition}", 0) for at in self.places}

    def fills(self) -> tuple[Counts, dict[str, int]]:
        """Return how many fills stand before the journal's positions, by number, and when each probe was sent."""
        ends, sent, stamps = self.positions(), Counts(), {}
        for message in self._messages("soak-fills", {part: ends[f"soak-fills/{part}"] for part in range(PARTITIONS)}):
            name = FILL_ID.search(message.value())[1].decode()  # type: ignore[index]
            sent.add(name)
            if name[0] == "p":
                fill = json.loads(message.value())
                stamps[fill["account"]] = fill["event_time_us"]
        return sent, stamps

    def journaled(self) -> Counts:
        """Count all fills in the journal."""
        found = Counts()
        for message in self._messages("soak.journal", dict.fromkeys(range(self._shards), math.inf)):
            fills = decode_slice(message.value()).fills
            for name in fills.id if fills is not None else ():
                found.add(name)
        return found

    def _messages(self, topic: str, ends: dict[int, float]) -> Iterator[Any]:
        """Yield the messages of partitions, each up to its end."""
        eager = {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
        reader = Consumer({**self._settings, **eager, "isolation.level": "read_committed"})
        for partition, end in ends.items():
            reader.assign([TopicPartition(topic, partition, 0)])
            reading = True
            while reading:
                for message in reader.consume(10_000, 1):
                    if message.error() or (message.offset() or 0) >= end:
                        reading = False
                        break
                    yield message
        reader.close()


class Run:
    """A broker, the processes of one run on it, and those who look on."""

    def __init__(self, cluster: Cluster, folder: Path, terms: Terms) -> None:
        self.terms, self.address, self.broker = terms, cluster.address(), list(cluster.pids().values())
        bench.make_topics(self.address, PARTITIONS, *INPUTS)
        self._path, self._log = desk(folder, self.address, terms), folder / "run.err"
        self.bus = open_bus(f"kafka://{self.address}/soak", folder)
        self.inputs = Inputs(self.address, self.bus, terms.shards)
        self._processes: dict[str, bench.Process] = {}
        self.sender: bench.Process | None = None

    def start(self) -> None:
        """Start the processes; the first makes topics and keys, and begins the journal."""
        for name, dataflows in PARTS[self.terms.processes].items():
            only = [text for dataflow in dataflows for text in ("--only", dataflow)]
            before = NICE if name in YIELDING else ()
            words = ("run", self._path, "--json", *only)
            self._processes[name] = bench.start(*words, log=self._log, before=before, out=subprocess.PIPE)
            bench.until(lambda: self.check() and "journal" in self.bus.topics(), READY_S, "no journal", 0.5)

    def send(self, before: tuple[str, ...] = ()) -> None:
        """Start the sender, and look for commands."""
        t = self.terms
        words = map(str, ("send", self.address, t.rate, t.seconds, t.warm_s, t.accounts, t.volatility))
        self.commands = Commands(self.address, self.terms.shards)  # whose topic is there by now
        self.commands.start()
        self.sender = subprocess.Popen([*before, sys.executable, __file__, *words])

    def undecided(self) -> int:
        """Return how many slices wait for their decision."""
        return sum(
            self.bus.end("journal", shard) - decided_slices(self.bus, shard) for shard in range(self.terms.shards)
        )

    def is_ready(self) -> bool:
        """Tell whether the reference records are decided on."""
        begun = {"journal", "audit"} <= set(self.bus.topics()) and self.bus.end("journal", 0)
        return self.check() and bool(begun) and not self.undecided()

    def pids(self) -> dict[str, list[int]]:
        """Return the processes by part."""
        assert self.sender is not None
        own = {name: [process.pid] for name, process in self._processes.items()}
        return {**own, "broker": self.broker, "sender": [self.sender.pid]}

    def resident_mib(self) -> float:
        """Return the memory of the run's own processes."""
        return bench.resident_mib(*(process.pid for process in self._processes.values()))

    def check(self) -> bool:
        """Return True while all processes live; end otherwise."""
        if any(process.poll() is not None for process in self._processes.values()):
            raise SystemExit(f"the run ended: {self._log.read_text()}")
        return True

    def stop(self) -> bench.Json:
        """Stop cleanly; return exit codes and the processor seconds of each dataflow."""
        codes, seconds = [], dict[str, float]()
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
            said = json.loads(process.communicate(timeout=180)[0] or b"{}")
            codes.append(process.returncode)
            seconds |= {name: part["seconds"] for name, part in said.get("dataflows", {}).items()}
        return {"exit": codes, "dataflow_s": seconds}

    def kill(self) -> None:
        for process in (*self._processes.values(), self.sender):
            if process is not None and process.poll() is None:
                process.kill()


def shown(found: bench.Json, as_json: bool) -> None:
    print(json.dumps(found) if as_json else "\n".join(f"{name}: {value}" for name, value in found.items()))


# --- soak -------------------------------------------------------------------------------------------------------------


@app.command()
def soak(  # noqa: PLR0913 - the options of the command
    seconds: int = 120,
    minutes: int = typer.Option(0, help="instead of seconds"),
    rate: int = 20_000,
    slice_ms: int = 100,
    shards: int = 1,
    accounts: int = typer.Option(2_000, help="each holds a position in 100 instruments"),
    deposit: str = typer.Option("100000", help="what each of them holds, in USD"),
    volatility: float = typer.Option(0.8, help="of marks, a year"),
    wait_ms: int = typer.Option(2, help="of the sequencer for stragglers, after a slice's end"),
    compression: str = typer.Option("none", help="of what the run writes (ops/docs/manual/kafka.md)"),
    processes: int = typer.Option(1, help="1, 2 or 4"),
    warm_s: int = typer.Option(0, help="seconds in which the rate rises, before those that count"),
    as_json: bool = typer.Option(False, "--json", help="print all figures as one object"),
) -> None:
    """Run at a steady rate.

    Loss: every fill before the positions that the last slices state is in the journal once. This holds as well where
    the machine is too slow for the rate: then the rate that was journaled is told.

    Latency: from that fill's stamp until a subscriber that reads committed records has the signed command; of probes
    after the first WARM_S seconds, at least 30, in which the broker's machine compiles; its stages are told from the
    slice that has the fill: end of the interval, cut, journal, command, arrival, each since the fill and since the one
    before.

    Lag is how many input records are not journaled yet; memory is that of the run's processes, and cost their processor
    time for each journaled record, after WARM_S and ten seconds.
    """
    length = 60 * minutes or seconds
    terms = Terms(
        length, rate, slice_ms, shards, accounts, deposit, volatility, wait_ms, compression, processes, warm_s
    )
    with bench.broker(jvm=JVM, extra=BROKER) as (cluster, folder):
        run = Run(cluster, folder, terms)
        try:
            run.start()
            run.send()
            rows = watch(run)
            assert run.sender is not None
            run.sender.wait(120)
            drain(run)
            found = figures(run, rows) | run.stop()
        finally:
            run.kill()
    shown(found, as_json)


def watch(run: Run) -> list[bench.Json]:
    """Print lag, memory and load every ten seconds; return a row for each."""
    rows, pids = list[bench.Json](), run.pids()
    for elapsed in range(EVERY_S, run.terms.warm_s + run.terms.seconds + 1, EVERY_S):
        time.sleep(EVERY_S)
        run.check()
        sent, taken, mib = run.inputs.sent(), sum(run.inputs.positions().values()), run.resident_mib()
        cost = {name: bench.processor_s(*found) for name, found in pids.items()}
        rows.append({"s": elapsed, "sent": sent, "journaled": taken, "mib": mib, "processor_s": cost})
        waiting = f"{sent - taken:,} not journaled yet, {mib:.0f} MiB, load {bench.load()}"
        print(f"{elapsed:5d} s  {sent:,} sent, {waiting}", file=sys.stderr)
    return rows


def drain(run: Run) -> None:
    """Wait until all is journaled and no more commands come, or for a while."""
    deadline, seen = time.monotonic() + DRAIN_S, -1
    while run.inputs.waiting() and time.monotonic() < deadline:
        time.sleep(1)
    while seen < len(run.commands.came) and time.monotonic() < deadline:
        seen = len(run.commands.came)
        time.sleep(QUIET_S)


def losses(run: Run) -> tuple[bench.Json, dict[str, int]]:
    """Return what was sent, lost and repeated, and when each probe was sent."""
    sent, stamps = run.inputs.fills()
    found = run.inputs.journaled()
    repeated = found.total() - found.distinct()
    return {"fills": sent.total(), "lost": sent.without(found), "repeated": repeated}, stamps


def figures(run: Run, rows: list[bench.Json]) -> bench.Json:
    """Return what was lost, repeated, journaled a second, and the percentiles of latency."""
    waiting, came = run.inputs.waiting(), run.commands.came
    lost, stamps = losses(run)
    cuts, closed = run.inputs.cuts()
    rows = rows[run.terms.warm_s // EVERY_S :]
    first, last = rows[0], rows[-1]
    warm = min(stamps.values(), default=0) + max(COMPILING_S, run.terms.warm_s) * 1_000_000
    counted = {name: at for name, at in stamps.items() if name in came and at > warm}
    late = sorted((came[name] - at) / 1000 for name, at in counted.items())
    times = [(*cuts[name], run.commands.made[name], came[name], at) for name, at in counted.items()]
    table = np.array(times).reshape(-1, len(STAGES) + 1)
    stages = (table[:, :-1] - table[:, -1:]) / 1000
    took, steady = last["s"] - first["s"], last["journaled"] - first["journaled"]
    cost = {name: last["processor_s"][name] - spent for name, spent in first["processor_s"].items()}
    return {
        **lost,
        "not_journaled_yet": waiting,
        "commands_missing": len(stamps.keys() - came.keys() - closed),
        "records_sent_per_s": round((last["sent"] - first["sent"]) / took),
        "records_journaled_per_s": round(steady / took),
        "lag": [row["sent"] - row["journaled"] for row in rows],
        "mib": [round(row["mib"]) for row in rows],
        "latency_ms": {
            f"p{p}": round(late[min(len(late) - 1, int(len(late) * p / 100))]) for p in (50, 99, 99.9) if late
        },
        "stages_ms": percentiles(stages, STAGES),
        "since_the_stage_before_ms": percentiles(np.diff(stages), STAGES[1:]),
        "us_per_record": {name: round(value / steady * 1e6, 1) for name, value in cost.items()},
        "load": bench.load(),
    }


def percentiles(rows: Any, names: tuple[str, ...]) -> bench.Json:
    """Return the median and the 99th percentile of each column."""
    parts = (50, 99) if len(rows) else ()
    return {f"p{p}": dict(zip(names, np.percentile(rows, p, axis=0).round().tolist(), strict=True)) for p in parts}


# --- burst ------------------------------------------------------------------------------------------------------------


@app.command()
def burst(  # noqa: PLR0913 - the options of the command
    rate: int = typer.Option(40_000, help="fills a second; as many marks beside them"),
    seconds: int = 10,
    slice_ms: int = 100,
    warm_s: int = 30,
    shards: int = 1,
    accounts: int = 2_000,
    wait_ms: int = 2,
    processes: int = 4,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Send ten seconds at twice the rate of the soak, then nothing: when do commands come, when is all done?

    RATE fills a second and as many marks go in (the soak sends 20,000 of each) after WARM_S at half of it: the burst
    comes to a desk that runs. The producer stops after SECONDS. Rate and latency are of the burst alone. Four times a
    second an account trades so much that its hard limit calls for SUSPEND: from the fill's time of event until a
    subscriber of ``commands`` has the command is the latency. The lag is gone when every record is journaled and every
    slice is decided on. Exits with 1 where a fill is lost or repeated, a command is missing, the slowest took over 5 s,
    or the lag lasted over 30 s after the last record was sent.

    What was sent a second is counted, not assumed: on a busy machine the producer is the first to fall behind.
    Processor seconds of all processes stand beside, with the load.
    """
    terms = Terms(seconds, rate, slice_ms, shards, accounts, "100000", 0.8, wait_ms, "none", processes, warm_s)
    with bench.broker(jvm=JVM) as (cluster, folder):
        run = Run(cluster, folder, terms)
        try:
            run.start()
            bench.until(run.is_ready, READY_S, "the run did not get ready", LOOK_S)
            run.send(NICE)
            found = burst_figures(run, *follow(run)) | run.stop()
        finally:
            run.kill()
    shown(found, as_json)
    whole = not (found["lost"] or found["repeated"] or found["commands_missing"])
    raise SystemExit(not (whole and found["latency_s"]["most"] < LATENCY_MAX_S and found["lag_gone_s"] < LAG_MAX_S))


def follow(run: Run) -> tuple[int, float, dict[str, float]]:
    """Look on until the lag is gone; return the most, seconds from the last record until then, processor seconds."""
    most, ended, processor, pids = 0, math.inf, dict[str, float](), run.pids()
    assert run.sender is not None
    while True:
        run.check()
        if run.sender.poll() is None:
            processor["sender"] = bench.processor_s(*pids["sender"])
        else:
            ended = min(ended, time.monotonic())
        waiting = run.inputs.waiting()
        most, passed = max(most, waiting), time.monotonic() - ended
        if ended < math.inf and not waiting and not run.undecided():
            break
        if passed > GIVE_UP_S:
            raise SystemExit(f"{waiting:,} records are not journaled {GIVE_UP_S:.0f} s after the last was sent")
        time.sleep(LOOK_S)
    gone = time.monotonic() - ended
    return most, gone, processor | {name: bench.processor_s(*pids[name]) for name in pids if name != "sender"}


def burst_figures(run: Run, most: int, gone: float, processor: dict[str, float]) -> bench.Json:
    """Return what was sent, lost and repeated, the lag, and how late the commands came."""
    lost, stamps = losses(run)
    came, terms, deadline = run.commands.came, run.terms, time.monotonic() + GIVE_UP_S
    begun = max(stamps.values()) - terms.seconds * 1_000_000
    while not stamps.keys() <= came.keys() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    late = sorted((came[name] - at) / 1e6 for name, at in stamps.items() if name in came and at > begun)
    return {
        "records_per_s": round((run.inputs.sent() - terms.warm_s * terms.rate) / terms.seconds),
        **lost,
        "commands_missing": len(stamps.keys() - came.keys()),
        "latency_s": {"median": round(late[len(late) // 2], 3), "most": round(late[-1], 3)},
        "lag_most": most,
        "lag_gone_s": round(gone, 1),
        "processor_s": {name: round(seconds, 1) for name, seconds in processor.items()},
        "load": bench.load(),
    }


if __name__ == "__main__":
    app()
