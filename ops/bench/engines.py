"""Kafka to `risk` to Kafka, beside what others would write: bare loops, stock Bytewax, Flink, PyFlink by events.

python ops/bench/engines.py kafka | flink
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _harness as bench
import msgspec
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from throughput import BATCH, COLUMNS, SHARDS, T0, Book, Item, Journal, columns, fills_of, sharded_desk, step_all

from seawall.connectors.bus import Bus, RecordWriter, open_bus, written_topics
from seawall.connectors.bus.kafka import Address
from seawall.connectors.keys import open_signer
from seawall.connectors.signatures import CommandSigner
from seawall.operators.core.pipeline import Pipeline
from seawall.ops.flink.artifacts import environment
from seawall.ops.flink.cluster import FlinkCluster
from seawall.ops.run import prepare_run, run
from seawall.schemas.configuration import Configuration
from seawall.schemas.records import decode_slice, encode_slice

app = bench.suite(__doc__)


# --- kafka ------------------------------------------------------------------------------------------------------------

CLIENTS, TRADED = 2_000, 100
NAIVE = """
import sys, json, time
from datetime import timedelta
import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSink, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
address = sys.argv[1]
flow = Dataflow("naive")
messages = op.input("in", flow, KafkaSource([address], ["naive-fills"], tail=False, batch_size=1000))
fills = op.map("decode", messages, lambda m: json.loads(m.value))
keyed = op.key_on("account", fills, lambda f: f["account"])
def add(state, fill):
    state = (state or 0.0) + float(fill["quantity"]) * float(fill["price"])
    return state, state
gross = op.stateful_map("gross", keyed, add)
def encode(pair):
    return KafkaSinkMessage(None, json.dumps({"account": pair[0], "gross": pair[1]}).encode())
out = op.map("encode", gross, encode)
op.output("out", out, KafkaSink([address], "naive-out"))
began = time.process_time()
cli_main(flow, epoch_interval=timedelta(seconds=1))
print(time.process_time() - began)
"""


def traded(slices: int, fills: int) -> Iterator[bench.Json]:
    """Yield reference records, then so many fills for each of so many slices."""
    rng = np.random.default_rng(3)
    yield from (bench.instrument(f"I{n}", f"C{n}") for n in range(TRADED))
    for n in range(CLIENTS):
        yield from bench.party(f"a{n}")
    for number in range(slices):
        for n, (a, i) in enumerate(rng.integers(0, (CLIENTS, TRADED), (fills, 2))):
            yield bench.fill(T0 + number * 100_000, f"f{number}-{n}", f"a{a}", f"I{i}", "buy", "0.5", "100")


@app.command()
def kafka(slices: int = 400, fills: int = 1000) -> None:
    """Compare Kafka to ``risk`` to Kafka with a bare loop and with what one would write first on Bytewax.

    All three read the same fills from a real broker and write gross notional per account back to it, with the same
    machine under them, in one run: (a) bare: confluent-kafka consumes slices, msgspec decodes them, numpy adds them up,
    one record per slice is produced; (b) naive: each fill a JSON record of its own, stock ``KafkaSource``,
    ``stateful_map`` keyed by account, stock ``KafkaSink``; (c) risk: slices through ``seawall run --only risk``:
    exposure, limits, mitigation, signing, audit, in transactions.

    Figures are fills per second of processor time of the process, and ratios; processor time is what a busy machine
    does not change much. (a) and (b) have no memory of ids, no limits, no audit, and (b) loses records when the broker
    does not answer (``tests/connectors/kafka/test_kafka_sinks.py``).
    """
    bounds = bench.limit("gross", "account:*", "gross_notional", hard=1e12)
    with bench.broker() as (cluster, folder):
        address = cluster.address()
        bench.make_topics(address, 1, "naive-fills", "naive-out", "bare-out")
        top = f'bus = "kafka://{address}/speed"\nshards = 1\nexposure_change_min = 0.05'
        path = bench.write_desk(folder / "desk", top, traded(slices, fills), limits=bounds)
        bench.seawall("run", path, "--only", "sequence")
        seconds = spent_by_risk(path) - spent_by_risk(path)  # the second has nothing left to do: start and checks
        found = {"bare": bare(address), "naive": naive(address, path.parent), "risk": (slices * fills, seconds)}
        bus = open_bus(f"kafka://{address}/speed", folder)
        assert bus.end("audit", 0) >= bus.end("journal", 0)
        bus.close()
    rates = {name: count / spent for name, (count, spent) in found.items()}
    for name, (count, spent) in found.items():
        against = f"{rates['risk'] / rates[name]:.2f}"
        print(f"{name:6s} {count:,} fills in {spent:.2f} CPU s: {rates[name]:,.0f} a second; risk does {against} of it")


def spent_by_risk(path: Path) -> float:
    """Run risk to the end of the journal; return the processor seconds of its process, every thread included."""
    before = bench.used_s(resource.RUSAGE_CHILDREN)
    bench.seawall("run", path, "--only", "risk")
    return bench.used_s(resource.RUSAGE_CHILDREN) - before


def bare(address: str) -> tuple[int, float]:
    """Consume slices, decode, add up, produce; return fills and processor seconds."""
    settings = {"bootstrap.servers": address, "group.id": "bare", "isolation.level": "read_committed"}
    consumer = Consumer({**settings, "enable.partition.eof": True})
    consumer.assign([TopicPartition("speed.journal", 0, 0)])
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5})
    gross, count, ended, encode = np.zeros(CLIENTS), 0, False, msgspec.json.Encoder().encode
    with bench.spending() as spent:
        while not ended:
            for message in consumer.consume(100, 0.05):
                ended = ended or bool(message.error())
                fills = None if message.error() else decode_slice(message.value() or b"").fills
                if fills is not None:
                    accounts = np.array(fills.account)
                    gross += np.bincount(accounts, np.abs(fills.quantity) * np.array(fills.price), CLIENTS)
                    changed = np.unique(accounts)
                    told = {"account": changed.tolist(), "gross": gross[changed].tolist()}
                    producer.produce("bare-out", encode(told))
                    count += len(accounts)
            producer.poll(0)
        producer.flush(60)
    return count, spent.cpu


def naive(address: str, folder: Path, fills_max: int = 100_000) -> tuple[int, float]:
    """Run the flow that one would write first; return fills and processor seconds."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    with (folder / "events.jsonl").open("rb") as file:
        lines = [line for line in file if b'"fill"' in line][:fills_max]
    for line in lines:
        producer.produce("naive-fills", line)
    producer.flush(60)
    (folder / "naive.py").write_text(NAIVE)
    words = [sys.executable, str(folder / "naive.py"), address]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return len(lines), float(done.stdout.split()[-1])


# --- flink ------------------------------------------------------------------------------------------------------------

EVENT_JOB = Path(__file__).with_name("_flink_event_job.py")
TICK_S = 0.1
Rates = tuple[float, float]  # per second by the clock and of the processor


def on_kafka(folder: Path, address: str, name: str) -> tuple[Configuration, Bus]:
    """Write a desk on Kafka; return its configuration and its bus, with topics and keys made."""
    configuration = sharded_desk(folder / name, f"kafka://{address}/{name}-{time.time_ns()}")
    prepare_run(configuration).close()
    return configuration, open_bus(configuration.bus, configuration.directory)


def decided(bus: Bus) -> int:
    """Return how many slices the audit of the shards has."""
    lasts = [bus.read("audit", k, end - 1, 1)[0] for k in range(SHARDS) if (end := bus.end("audit", k))]
    return sum(int(last.headers["seawall-id"].split("-")[1]) + 1 for last in lasts)


def clocked(count: Callable[[], int], first: int, total: int, pid: int) -> Rates:
    """Return the rates from the first one behind ``first`` to the last."""
    while (stood := count()) <= first:
        time.sleep(0.02)
    with bench.spending(lambda: bench.processor_s(pid)) as spent:
        while count() < total:
            time.sleep(0.02)
    return (total - stood) / spent.wall, (total - stood) / spent.cpu


class Latency:
    """Times of slices: when each was appended, and when a reader of committed records saw its last audit record."""

    def __init__(self, configuration: Configuration) -> None:
        address = Address.parse(configuration.bus, configuration.directory)
        settings = {"bootstrap.servers": address.servers, "group.id": "ages", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "fetch.wait.max.ms": 5, "enable.auto.commit": False})
        places = [TopicPartition(address.topic("audit"), k) for k in range(SHARDS)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=30)[1]
        self._consumer.assign(places)
        self._appended: dict[tuple[int, int], float] = {}
        self._seen: dict[tuple[int, int], float] = {}

    def appended(self, items: list[Item]) -> None:
        """Note that slices are appended now."""
        now = time.monotonic()
        self._appended |= {(shard, decode_slice(value).seq): now for shard, value in items}

    def poll_until(self, due: float) -> None:
        """Read until a moment."""
        while (left := due - time.monotonic()) > 0:
            message = self._consumer.poll(min(left, 0.05))
            if message is not None and message.error() is None:
                headers: Any = message.headers()
                shard, seq = dict(headers)["seawall-id"].decode().split("-")[:2]
                self._seen[int(shard), int(seq)] = time.monotonic()

    def ages(self, seconds: float) -> list[float]:
        """Read until every slice was seen or so long; return their ages in order."""
        deadline = time.monotonic() + seconds
        while (missing := self._appended.keys() - self._seen.keys()) and time.monotonic() < deadline:
            self.poll_until(time.monotonic() + 0.1)
        self._consumer.close()
        if missing:
            raise RuntimeError(f"{len(missing)} slices were not decided in {seconds} s")
        return sorted(self._seen[place] - now for place, now in self._appended.items())


def paced(configuration: Configuration, bus: Bus, items: list[Item], before: int, writer: Journal) -> list[float]:
    """Append a slice of each shard every 100 ms, behind the first of each; return the ages in seconds, in order."""
    bench.until(lambda: decided(bus) >= before + SHARDS, 600, "the first slices of the latency run", 0.05)
    latency, due = Latency(configuration), time.monotonic()
    for first in range(SHARDS, len(items), SHARDS):
        due += TICK_S
        latency.poll_until(due)
        latency.appended(items[first : first + SHARDS])
        writer.put(items[first : first + SHARDS], ends_run=False)
    return latency.ages(30.0)


def on_bytewax(desk: tuple[Configuration, Bus], opening: list[Item], live: list[Item], small: list[Item]) -> Any:
    """Return rates and ages of the run on Bytewax, in a process of its own."""
    (configuration, bus), words = desk, [*bench.CLI, "run", str(desk[0].path), "--only", "risk"]
    writer, total = Journal(bus), len(opening) + len(live)
    writer.put(opening)
    run(configuration, only=["risk"])
    writer.put(live)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        rates = clocked(lambda: decided(bus), len(opening), total, process.pid)
    writer.put(small[:SHARDS], ends_run=False)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        try:
            ages = paced(configuration, bus, small, total, writer)
        finally:
            process.terminate()
    return rates, ages


def on_flink(
    desk: tuple[Configuration, Bus], opening: list[Item], live: list[Item], small: list[Item], flinks: Any
) -> Any:
    """Return rates and ages of the job on Flink; the process is that of the TaskManager."""
    (configuration, bus), total = desk, len(opening) + len(live)
    writer = Journal(bus)
    writer.put(opening, ends_run=False)
    job = flinks.submit("risk", configuration.path)
    bench.until(lambda: decided(bus) >= len(opening), 3600, "the opening book on Flink")
    writer.put(live, ends_run=False)
    rates = clocked(lambda: decided(bus), len(opening), total, flinks.pids()[flinks.name(0)])
    writer.put(small[:SHARDS], ends_run=False)
    ages = paced(configuration, bus, small, total, writer)
    flinks.rest.cancel(job)
    return rates, ages


def on_loop(desk: tuple[Configuration, Bus], opening: list[Item], live: list[Item]) -> Rates:
    """Return the rates of the core with the engines' own reader and writer, in this process."""
    configuration, bus = desk
    Journal(bus).put([*opening, *live])
    risk, writers = Pipeline(SHARDS, CommandSigner(open_signer(configuration.signer, configuration.directory), bus)), []
    for partition in range(SHARDS + 1):
        topics = written_topics(partition, SHARDS)
        writers.append(RecordWriter(bus, bus.writer([(topic, partition) for topic in topics]), topics, partition))
    counts = [sum(k == shard for k, _ in opening) for shard in range(SHARDS)]
    for shard, count in enumerate(counts):
        for stored in bus.read("journal", shard, 0, count, 1 << 40):
            for audited in risk.step(stored.value):
                writers[audited.moment.partition].append(audited.records)
    read = [followed(bus, shard, count) for shard, count in enumerate(counts)]
    with bench.spending() as spent:
        for number in range(len(live)):
            for audited in risk.step(next(read[number % SHARDS])):
                writers[audited.moment.partition].append(audited.records)
            for writer in writers:
                writer.pump()
        for writer in writers:
            writer.flush()
    return len(live) / spent.wall, len(live) / spent.cpu


def followed(bus: Bus, shard: int, offset: int) -> Iterator[bytes]:
    """Yield the slices of a shard from an offset on, as a follower reads them."""
    follower = bus.follow("journal")
    while True:
        for stored in follower.poll(shard, offset):
            yield stored.value
            offset = stored.offset + 1


def on_events(address: str, live: list[Item], events: int, flinks: Any) -> Rates:
    """Return the rates, in events, of the job that takes one record an event."""
    source, target = (f"{kind}-{time.time_ns()}" for kind in ("events", "exposures"))
    bench.make_topics(address, SHARDS, source, target)
    producer, made = Producer({"bootstrap.servers": address, "linger.ms": 20}), 0
    while made < events:
        for shard, value in live:
            rows = msgspec.to_builtins(decode_slice(value).fills)
            for account, held, quantity, price in list(zip(*(rows[n] for n in COLUMNS[1:]), strict=True))[
                : events - made
            ]:
                body = {"account": str(account), "instrument": held, "quantity": quantity, "price": price}
                producer.produce(source, orjson.dumps(body), partition=shard)
                made += 1
            producer.flush()
    flinks.submit_program("-py", str(EVENT_JOB), address, source, target)
    looker = Consumer({"bootstrap.servers": address, "group.id": "ends"})
    places = [TopicPartition(target, k) for k in range(SHARDS)]
    pid = flinks.pids()[flinks.name(0)]  # the first third warms it up
    return clocked(
        lambda: sum(looker.get_watermark_offsets(at, timeout=30)[1] for at in places), events // 3, events, pid
    )


def thinned(item: Item) -> Item:
    """Return a slice with a tenth of its fills."""
    piece = decode_slice(item[1])
    piece.fills = columns(*(getattr(piece.fills, name)[: BATCH // 10] for name in COLUMNS))
    return item[0], encode_slice(piece)


@app.command()
def flink(scale: float = 0.1, slices: int = 400, events: int = 60_000, ticks: int = 200) -> None:
    """Compare `risk` from Kafka to Kafka on Flink with Bytewax, a bare loop, and a job of events; latency too.

    Slices of 1,000 fills and 1,000 marks in 4 shards. The book is loaded first; then two clocks run from the first
    decided slice of the rest to the last, as the audit on Kafka shows them: the wall's, and the processor time of the
    process that decides (of Flink the TaskManager, its Java and Python together). Starting is not counted. One
    TaskManager, one slot: one Python on either engine. The bare loop is the core with the engines' own writer, the core
    alone reads from memory and writes nowhere. The job of events is PyFlink as it is usually written
    (`_flink_event_job.py`): one record a fill.

    Latency: every 100 ms a slice of 100 fills and 1,000 marks for each shard is appended; its age when a reader of
    committed records sees the last audit record that follows from it.
    """
    book = Book(scale)
    opening, live, small = book.opening(), book.live(slices), [thinned(one) for one in book.live(ticks * SHARDS)]
    rates, ages, loads = {"core, no bus": alone(opening, live)}, dict[str, list[float]](), [bench.load()]
    with bench.broker() as (kafka, folder):
        flinks = FlinkCluster(environment(), folder / "flink", task_managers=1)
        try:
            address = kafka.address()
            rates["bare loop"] = on_loop(on_kafka(folder, address, "loop"), opening, live)
            loads.append(bench.load())
            desk = on_kafka(folder, address, "bytewax")
            rates["Bytewax"], ages["Bytewax"] = on_bytewax(desk, opening, live, small)
            loads.append(bench.load())
            flinks.start()
            desk = on_kafka(folder, address, "flink-desk")
            rates["Flink"], ages["Flink"] = on_flink(desk, opening, live, small, flinks)
            loads.append(bench.load())
            rates["one record an event"] = on_events(address, live, events, flinks)
        finally:
            flinks.stop()
    fills, (wall, processor) = fills_of(live) / len(live), rates["Bytewax"]
    rows = []
    for name, (per_s, per_processor_s) in rates.items():
        one = 1 / fills if name == "one record an event" else 1
        a, b = per_s * one, per_processor_s * one
        rows.append([name, f"{a * fills:,.0f}", f"{a / wall:.3f}", f"{b * fills:,.0f}", f"{b / processor:.3f}"])
    bench.table("of | fills/s | to Bytewax | fills per processor second | to Bytewax", rows)
    print()
    percentiles = [[f"{found[int(len(found) * part)] * 1000:.0f}" for part in (0.5, 0.99)] for found in ages.values()]
    lates = [[name, f"{len(ages[name]):,}", *found] for name, found in zip(ages, percentiles, strict=True)]
    bench.table("latency at 100 ms slices | slices | p50 ms | p99 ms", lates)
    print(f"\nload of the machine on the way: {', '.join(map(str, [*loads, bench.load()]))}")


def alone(opening: list[Item], live: list[Item]) -> Rates:
    """Return the rates of the core alone."""
    risk = Pipeline(SHARDS)
    step_all(risk, opening)
    with bench.spending() as spent:
        step_all(risk, live)
    return len(live) / spent.wall, len(live) / spent.cpu


if __name__ == "__main__":
    app()
