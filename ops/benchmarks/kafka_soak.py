"""A live run on a real broker at a steady rate: loss, memory, lag, latency from a fill to its signed command, and cost.

    python ops/benchmarks/kafka_soak.py [--seconds 120 | --minutes 30] [--rate 20000] [--slice-ms 100] [--shards 1]
        [--warm-s 0] [--accounts 2000] [--deposit 100000] [--volatility 0.8] [--wait-ms 2] [--compression none]
        [--processes 1|2|4] [--json]

A process of its own sends RATE fills and RATE marks a second, rising to that in the first WARM_S, and four times a
second a fill of an account of its own that breaks a limit at once. Two seconds later another one closes its position:
accounts in breach would add up, whose values change by more than what is told with every mark. It sends every 2 ms;
records have the time at which it began to make them. Accounts hold DEPOSIT in USD, and marks walk as prices of that
annual volatility do. Broker, sender, subscriber and the run share this machine; its load is in the figures.

- Loss: every fill before the positions that the last slices state is in the journal once. This holds as well where the
  machine is too slow for the rate: then the rate that was journaled is told.
- Latency: from that fill's stamp until a subscriber that reads committed records has the signed command; of probes
  after the first WARM_S seconds, at least 30, in which the broker's machine compiles; its stages are told from the
  slice that has the fill: end of the interval, cut, journal, command, arrival, each since the fill and since the one
  before.
- Lag is how many input records are not journaled yet; memory is that of the run's processes, and cost their processor
  time for each journaled record, after WARM_S and ten seconds.

``--processes 2`` runs ``market`` and ``sequence`` in one process, ``risk`` and ``seal`` in another; 4 gives each
dataflow its own, and ``market`` and ``seal``, for which no command waits, give way (``nice -n 5``). The
broker's Java machine compiles as it does in production, which costs processor time in the first minute; tests have one
that starts faster and runs slower.
"""

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import open_bus
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.slices import decode_slice

COMPILING_S, EVERY_S, DRAIN_S, READY_S, QUIET_S = 30, 10, 120, 120, 5
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
INSTRUMENTS, PROBES_PER_S, PARTITIONS = 100, 4, 2
YEAR_S = 365 * 24 * 3600
PARTS = {
    1: {"run": ()},
    2: {"sequence": ("market", "sequence"), "risk": ("risk", "seal")},
    4: {"sequence": ("sequence",), "market": ("market",), "risk": ("risk",), "seal": ("seal",)},
}
# Its collector stops it every 10 s for 10 to 15 ms, on both processors; the one of tests for 23 to 28.
COLLECTOR = ("-XX:-UseSerialGC", "-XX:+UseParallelGC")
JVM = (*COLLECTOR, "-Xms1g", "-Xmx1g", "-Xmn640m", "-XX:TieredStopAtLevel=4")
BROKER = {"broker.session.timeout.ms": "9000"}  # Kafka's own: tests have a shorter one, after which a leader is deposed
LINGER_MS = 5
CLOSED_S = 2
TEXTS = 100_003
YIELDING = ("market", "seal")
STAGES = ("end", "cut", "journal", "command", "arrival")
NICE = ("nice", "-n", "5")
SNAPSHOT_S = 15
FILL_ID = re.compile(rb'"fill_id": ?"([fpc][0-9]+)"')
CLI = [sys.executable, "-c", "from seawall.ops.cli import main; main()"]
LIMITS = """[[limit]]
id = "probe"
scope = "account:*"
measure = "gross_notional"
hard = 100_000_000
"""
PLAYBOOK = """[[rule]]
id = "stop"
when = { limit = "probe", level = "hard" }
commands = [ { kind = "SUSPEND", target = "account" } ]
"""


def write_desk(folder, address, arguments):
    """Write reference records, limits, playbook and configuration; return the configuration's path."""
    probes = (arguments.seconds + arguments.warm_s + 5) * PROBES_PER_S
    names = [f"acct-{n}" for n in range(arguments.accounts)] + [f"probe-{n}" for n in range(probes)]
    usual = {"kind": "perpetual", "quote": "USD", "settlement": "USD", "quantity_increment": "0.001"}
    margins = {"initial_margin_rate": "0.02", "maintenance_margin_rate": "0.01"}
    records = [
        {"type": "instrument", "instrument": f"I{n}-PERP", "base": f"C{n}", **usual, **margins}
        for n in range(INSTRUMENTS)
    ]
    records += [{"type": "counterparty", "counterparty": n, "name": n, "role": "client"} for n in names]
    records += [{"type": "account", "account": n, "counterparty": n, "holder": "counterparty"} for n in names]
    money = {"type": "collateral", "event_time_us": time.time_ns() // 1000, "asset": "USD", "amount": arguments.deposit}
    records += [{**money, "transfer_id": f"t{n}", "account": f"acct-{n}"} for n in range(arguments.accounts)]
    (folder / "reference.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "limits.toml").write_text(LIMITS)
    (folder / "playbook.toml").write_text(PLAYBOOK)
    (folder / "desk.toml").write_text(
        f'bus = "kafka://{address}/soak"\nslice_ms = {arguments.slice_ms}\nshards = {arguments.shards}\n'
        f"exposure_change_min = 0.05\nsnapshot_s = {SNAPSHOT_S}\n"
        f'[inputs]\nevents = ["reference.jsonl"]\nwait_ms = {arguments.wait_ms}\n'
        'topics = ["soak-fills", "soak-marks"]\nmarket_topics = []\n'  # marks of nobody's venue make no market
        '[limits]\nfile = "limits.toml"\n[mitigation]\nplaybook = "playbook.toml"\n'
        f'[kafka]\ncompression = "{arguments.compression}"\n'
    )
    return folder / "desk.toml"


def send(address, rate, seconds, warm_s, accounts, volatility):
    """Send fills and marks at a steady rate, which they rise to; probes beside. Runs in a process of its own."""
    settings = {
        "acks": "all",  # not idempotent: such a client waits busily for a slow broker (decision 0016)
        "max.in.flight": 1,
        "linger.ms": LINGER_MS,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,
    }
    producer = Producer({"bootstrap.servers": address, **settings})
    rng, number, began, probe, closed = random.Random(1), 0, time.monotonic(), 0, 0
    step = volatility / math.sqrt(YEAR_S * rate / INSTRUMENTS)
    fills, marks = texts(rng, step)  # made before: what sending costs is taken from the run, which shares the machine
    seconds += warm_s
    probes_at = sorted(rng.uniform(0, seconds) for _ in range(int(seconds * PROBES_PER_S)))  # at any moment of a slice
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


def produce_probe(producer, probe, kind, side):
    """Send the fill that breaks a limit, or the one that closes its position; where a cluster takes no more, wait."""
    fill = {"type": "fill", "event_time_us": time.time_ns() // 1000, "fill_id": f"{kind}{probe}"}
    fill |= {"account": f"probe-{probe}", "instrument": "I0-PERP"}
    value = json.dumps(fill | {"side": side, "quantity": "10000000", "price": "100"})
    while True:
        try:
            producer.produce("soak-fills", value, partition=probe % PARTITIONS)
            return
        except BufferError:
            producer.poll(0.1)


def texts(rng, step):
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


class Commands(threading.Thread):
    """Reads commands as a subscriber does, and notes when each came."""

    def __init__(self, address, shards):
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": address, "group.id": "soak", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "auto.offset.reset": "earliest", "log_level": 0})
        self._consumer.assign([TopicPartition("soak.commands", partition, 0) for partition in range(shards + 1)])
        self.came, self.made = {}, {}

    def run(self):
        while True:
            message = self._consumer.poll(1)
            if message is not None and message.error() is None:
                target = json.loads(message.value())["target"]["id"]
                self.came.setdefault(target, time.time_ns() // 1000)
                self.made.setdefault(target, message.timestamp()[1] * 1000)


class Counts:
    """How often each fill was met, by its number; a byte for each, because half an hour has many."""

    def __init__(self):
        self._of = {kind: np.zeros(1, np.uint8) for kind in "fpc"}

    def add(self, name):
        kind, number = name[0], int(name[1:])
        if number >= len(self._of[kind]):
            self._of[kind] = np.concatenate([self._of[kind], np.zeros(number + 1, np.uint8)])
        self._of[kind][number] += 1

    def total(self):
        return sum(int(found.sum(dtype=np.int64)) for found in self._of.values())

    def distinct(self):
        return int(sum(np.count_nonzero(found) for found in self._of.values()))

    def without(self, other):
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

    def __init__(self, address, bus, shards):
        self._settings = {"bootstrap.servers": address, "group.id": "inputs", "log_level": 0}
        self._bus, self._shards, self._reader = bus, shards, Consumer(self._settings)
        self.places = [TopicPartition(t, p) for t in ("soak-fills", "soak-marks") for p in range(PARTITIONS)]

    def sent(self):
        return sum(self._end(place) for place in self.places)

    def _end(self, place):
        """Return the end of a partition; wait for a broker that is not its leader for a moment."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                return self._reader.get_watermark_offsets(place, timeout=20)[1]
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def cuts(self):
        """Return by account of a probe when its slice ended, was cut, and was given to the broker.

        Second, those whose position was closed in the same slice, as after a rest of the sender: they broke no limit.
        """
        reader, found, closed = self._eager(), {}, {}
        for shard in range(self._shards):
            reader.assign([TopicPartition("soak.journal", shard, 0)])
            for message in self._messages(reader):
                piece = decode_slice(message.value())
                at = piece.as_of_us, piece.cut_us, message.timestamp()[1] * 1000
                names = piece.fills.id if piece.fills is not None else ()
                found |= {f"probe-{name[1:]}": at for name in names if name[0] == "p"}
                closed |= {f"probe-{name[1:]}": piece.as_of_us for name in names if name[0] == "c"}
        reader.close()
        return found, {name for name, at in found.items() if closed.get(name) == at[0]}

    def positions(self):
        """Return the next offset of each partition, by the last slices."""
        found = {}
        for shard in range(self._shards):
            end = self._bus.end("journal", shard)
            last = decode_slice(self._bus.read("journal", shard, end - 1, 1)[0].value) if end else None
            for name, position in (last.sources if last else {}).items():
                found[name] = max(found.get(name, 0), position[0])
        return {f"{at.topic}/{at.partition}": found.get(f"{at.topic}/{at.partition}", 0) for at in self.places}

    def fills(self, positions):
        """Return how many fills stand before some positions, counted by number, and when each probe was sent."""
        reader, sent, stamps = self._eager(), Counts(), {}
        for partition in range(PARTITIONS):
            reader.assign([TopicPartition("soak-fills", partition, 0)])
            for message in self._messages(reader, positions[f"soak-fills/{partition}"]):
                name = FILL_ID.search(message.value())[1].decode()
                sent.add(name)
                if name[0] == "p":
                    fill = json.loads(message.value())
                    stamps[fill["account"]] = fill["event_time_us"]
        reader.close()
        return sent, stamps

    def _eager(self):
        return Consumer({**self._settings, "enable.partition.eof": True, "auto.offset.reset": "earliest"})

    @staticmethod
    def _messages(reader, end=math.inf):
        while True:
            for message in reader.consume(10_000, 1):
                if message.error() or message.offset() >= end:
                    return
                yield message


class Run:
    """The processes of one run."""

    def __init__(self, path):
        self._path, self.errors = path, (path.parent / "run.err").open("wb")
        self._processes = {}

    def start(self, processes, bus):
        for name, dataflows in PARTS[processes].items():
            options = [text for dataflow in dataflows for text in ("--only", dataflow)]
            command = [*CLI, "run", str(self._path), "--json", *options]
            command = [*NICE, *command] if name in YIELDING else command
            self._processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors)
            self._await_journal(bus)  # the first makes topics and keys, and begins the journal

    def _await_journal(self, bus):
        deadline = time.monotonic() + READY_S
        while "journal" not in bus.topics():
            self.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"no journal after {READY_S} s: {Path(self.errors.name).read_text()}")
            time.sleep(0.5)

    def pids(self):
        return {name: [process.pid] for name, process in self._processes.items()}

    def check(self):
        if any(process.poll() is not None for process in self._processes.values()):
            raise SystemExit(f"the run ended: {Path(self.errors.name).read_text()}")

    def stop(self):
        """Stop cleanly; return exit codes and the processor seconds of each dataflow."""
        codes, seconds = [], {}
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
            said = process.communicate(timeout=180)[0]
            codes.append(process.returncode)
            seconds |= {name: part["seconds"] for name, part in json.loads(said or "{}").get("dataflows", {}).items()}
        return codes, seconds

    def kill(self):
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()


def resident(pids):
    """Return the resident memory of processes in MiB."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def processor_s(pids):
    """Return the processor seconds that processes took so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / TICKS_PER_S


def watch(run, inputs, pids, seconds):
    """Print lag, memory and load every ten seconds; return a row for each."""
    rows = []
    for elapsed in range(EVERY_S, int(seconds) + 1, EVERY_S):
        time.sleep(EVERY_S)
        run.check()
        sent, taken = inputs.sent(), sum(inputs.positions().values())
        cost = {name: processor_s(found) for name, found in pids.items()}
        rows.append(
            {
                "s": elapsed,
                "sent": sent,
                "journaled": taken,
                "mib": resident([pid for found in run.pids().values() for pid in found]),
                "processor_s": cost,
            }
        )
        waiting, load = f"{sent - taken:,} not journaled yet", os.getloadavg()[0]
        print(f"{elapsed:5d} s  {sent:,} sent, {waiting}, {rows[-1]['mib']:.0f} MiB, load {load:.1f}", file=sys.stderr)
    return rows


def journaled(bus, shards):
    """Count all fills in the journal."""
    found = Counts()
    for shard in range(shards):
        offset = 0
        while records := bus.read("journal", shard, offset):
            pieces = (decode_slice(record.value) for record in records)
            for name in (name for piece in pieces if piece.fills is not None for name in piece.fills.id):
                found.add(name)
            offset = records[-1].offset + 1
    return found


def drain(inputs, commands):
    """Wait until all is journaled and no more commands come, or for a while."""
    deadline = time.monotonic() + DRAIN_S
    while sum(inputs.positions().values()) < inputs.sent() and time.monotonic() < deadline:
        time.sleep(1)
    seen = -1
    while seen < len(commands.came) and time.monotonic() < deadline:
        seen = len(commands.came)
        time.sleep(QUIET_S)


def figures(arguments, rows, inputs, bus, commands):
    """Return what was lost, repeated, journaled a second, and the percentiles of latency."""
    positions = inputs.positions()
    sent, stamps = inputs.fills(positions)
    found = journaled(bus, arguments.shards)
    rows = rows[arguments.warm_s // EVERY_S :]
    warm = min(stamps.values(), default=0) + max(COMPILING_S, arguments.warm_s) * 1_000_000
    late = sorted((commands.came[n] - at) / 1000 for n, at in stamps.items() if n in commands.came and at > warm)
    cuts, closed = inputs.cuts()
    stages = [(*cuts[n], commands.made[n], commands.came[n], at) for n, at in stamps.items() if n in commands.came]
    stages = np.array([stage for stage in stages if stage[-1] > warm]).reshape(-1, len(STAGES) + 1)
    stages = (stages[:, :-1] - stages[:, -1:]) / 1000
    took = rows[-1]["s"] - rows[0]["s"]
    steady = rows[-1]["journaled"] - rows[0]["journaled"]
    cost = {n: rows[-1]["processor_s"][n] - rows[0]["processor_s"][n] for n in rows[0]["processor_s"]}
    return {
        "fills": sent.total(),
        "lost": sent.without(found),
        "repeated": found.total() - found.distinct(),
        "not_journaled_yet": inputs.sent() - sum(positions.values()),
        "commands_missing": len([name for name in stamps if name not in commands.came and name not in closed]),
        "records_sent_per_s": round((rows[-1]["sent"] - rows[0]["sent"]) / took),
        "records_journaled_per_s": round(steady / took),
        "lag": [row["sent"] - row["journaled"] for row in rows],
        "mib": [round(row["mib"]) for row in rows],
        "latency_ms": {
            f"p{p}": round(late[min(len(late) - 1, int(len(late) * p / 100))]) for p in (50, 99, 99.9) if late
        },
        "stages_ms": {
            f"p{p}": dict(zip(STAGES, np.percentile(stages, p, axis=0).round().tolist(), strict=True))
            for p in (50, 99)
            if len(stages)
        },
        "since_the_stage_before_ms": {
            f"p{p}": dict(zip(STAGES[1:], np.percentile(np.diff(stages), p, axis=0).round().tolist(), strict=True))
            for p in (50, 99)
            if len(stages)
        },
        "us_per_record": {name: round(value / steady * 1e6, 1) for name, value in cost.items()},
        "load": os.getloadavg()[0],
    }


def soak(folder, arguments):
    """Run it; return the figures."""
    cluster = Cluster(folder / "cluster", jvm=JVM, extra=BROKER)
    cluster.start()
    address, sender = cluster.address(), None
    run = Run(write_desk(folder, address, arguments))
    try:
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        for made in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in ("soak-fills", "soak-marks")]).values():
            made.result(30)
        bus = open_bus(f"kafka://{address}/soak", folder)
        run.start(arguments.processes, bus)
        commands, inputs = Commands(address, arguments.shards), Inputs(address, bus, arguments.shards)
        commands.start()
        options = ["--send", address, "--seconds", str(arguments.seconds), "--rate", str(arguments.rate)]
        options += ["--accounts", str(arguments.accounts), "--warm-s", str(arguments.warm_s)]
        options += ["--volatility", str(arguments.volatility)]
        sender = subprocess.Popen([sys.executable, __file__, *options])
        pids = {**run.pids(), "broker": list(cluster.pids().values()), "sender": [sender.pid]}
        rows = watch(run, inputs, pids, arguments.warm_s + arguments.seconds)
        sender.wait(120)
        drain(inputs, commands)
        found = figures(arguments, rows, inputs, bus, commands)
        found["exit"], found["dataflow_s"] = run.stop()
        return found
    finally:
        run.kill()
        if sender is not None and sender.poll() is None:
            sender.kill()
        cluster.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--minutes", type=int, help="instead of seconds")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--slice-ms", type=int, default=100)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--accounts", type=int, default=2_000, help="each holds a position in 100 instruments")
    parser.add_argument("--deposit", default="100000", help="what each of them holds, in USD")
    parser.add_argument("--volatility", type=float, default=0.8, help="of marks, a year")
    parser.add_argument("--wait-ms", type=int, default=2, help="of the sequencer for stragglers, after a slice's end")
    parser.add_argument("--compression", default="none", help="of what the run writes (ops/docs/manual/kafka.md)")
    parser.add_argument("--processes", type=int, choices=tuple(PARTS), default=1)
    parser.add_argument("--json", action="store_true", help="print all figures as one object")
    parser.add_argument("--send", help=argparse.SUPPRESS)
    parser.add_argument(
        "--warm-s", type=int, default=0, help="seconds in which the rate rises, before those that count"
    )
    arguments = parser.parse_args()
    arguments.seconds = 60 * arguments.minutes if arguments.minutes else arguments.seconds
    if arguments.send:
        terms = arguments.rate, arguments.seconds, arguments.warm_s, arguments.accounts, arguments.volatility
        send(arguments.send, *terms)
        return
    with tempfile.TemporaryDirectory() as name:
        found = soak(Path(name), arguments)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
