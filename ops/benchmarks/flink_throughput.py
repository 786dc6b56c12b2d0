"""Throughput and latency of `risk` from Kafka to Kafka: on Flink, beside Bytewax, a bare loop, and a job of events.

    python ops/benchmarks/flink_throughput.py [--scale 0.1] [--slices 400] [--events 60000] [--ticks 200]

Slices of 1,000 fills and 1,000 marks in 4 shards (`risk_throughput.py`). The book is loaded first; then two clocks run
from the first decided slice of the rest to the last, as the audit on Kafka shows them: the wall's, and the processor
time of the process that decides (of Flink the TaskManager, its Java and Python together). Starting is not counted.
One TaskManager, one slot: one Python on either engine. The bare loop is the core with the engines' own writer, the core
alone reads from memory and writes nowhere. The job of events is PyFlink as it is usually written
(`flink_event_job.py`): one record a fill.

Latency: every 100 ms a slice of 100 fills and 1,000 marks for each shard is appended; its age when a reader of
committed records sees the last audit record that follows from it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import risk_throughput
from confluent_kafka import Consumer, Producer
from flink_kafka import Latency, ends, event_topics, fill_events
from risk_throughput import DECODE, SHARDS, journal

from seawall.connectors.appending import RecordWriter, written_topics
from seawall.connectors.bus import open_bus
from seawall.connectors.keys import new_key
from seawall.connectors.signatures import CommandSigner
from seawall.connectors.signers import open_signer
from seawall.operators.core.risk import Risk
from seawall.ops.flink.artifacts import environment
from seawall.ops.flink.cluster import FlinkCluster
from seawall.ops.kafka.cluster import Cluster
from seawall.ops.preparing import prepare
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall.schemas.slices import encode_slice

EVENT_JOB = Path(__file__).with_name("flink_event_job.py")
TICK_S = 0.1
CLI = [sys.executable, "-c", "from seawall.ops.cli import main; main()"]


def desk(folder, address, name):
    """Write a configuration on Kafka; return it, with its topics and keys made."""
    folder.mkdir()
    new_key(folder / "keys/dev.pem")
    url = f"kafka://{address}/{name}-{time.time_ns()}"
    (folder / "desk.toml").write_text(f'bus = "{url}"\nshards = {SHARDS}\n[keys]\nsigner = "file:keys/dev.pem"\n')
    configuration = load_configuration(folder / "desk.toml")
    prepare(configuration).close()
    return configuration


class Journal:
    """Appends slices to the journal of a configuration."""

    def __init__(self, bus):
        self.writer = bus.writer([("journal", k) for k in range(SHARDS)])

    def put(self, items, ends_run=True):
        """Append; the last of each shard says that a bounded run ends there."""
        last = {k: at for at, (k, _) in enumerate(items)}
        for at, (k, value) in enumerate(items):
            if ends_run and last[k] == at:
                piece = DECODE(value)
                piece.end = True
                value = encode_slice(piece)  # noqa: PLW2901
            seq = self.writer.end("journal", k)
            headers = {"seawall-id": f"{k}-{seq}-0", "seawall-n": str(seq)}
            self.writer.append("journal", k, str(k), value, headers)
            if at % 64 == 63:
                self.writer.flush()
        self.writer.flush()


def decided(bus):
    """Return how many slices the audit of the shards has."""
    found = 0
    for k in range(SHARDS):
        end = bus.end("audit", k)
        if end:
            found += int(bus.read("audit", k, end - 1, 1)[0].headers["seawall-id"].split("-")[1]) + 1
    return found


def processor_s(pid):
    """Return the processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def clocked(count, first, total, pid):
    """Return (per wall second, per processor second) from the first one behind ``first`` to the last."""
    while (stood := count()) <= first:
        time.sleep(0.02)
    began, spent = time.monotonic(), processor_s(pid)
    while count() < total:
        time.sleep(0.02)
    return (total - stood) / (time.monotonic() - began), (total - stood) / (processor_s(pid) - spent)


def on_bytewax(configuration, opening, live, latency):
    bus = open_bus(configuration.bus, configuration.directory)
    writer = Journal(bus)
    writer.put(opening)
    run(configuration, only=["risk"])
    writer.put(live)
    process = subprocess.Popen([*CLI, "run", str(configuration.path), "--only", "risk"], stderr=subprocess.DEVNULL)
    rates = clocked(lambda: decided(bus), len(opening), len(opening) + len(live), process.pid)
    process.wait()
    writer.put(latency[:SHARDS], ends_run=False)
    process = subprocess.Popen([*CLI, "run", str(configuration.path), "--only", "risk"], stderr=subprocess.DEVNULL)
    ages = paced(configuration, bus, writer, latency, len(opening) + len(live))
    process.terminate()
    process.wait()
    return rates, ages


def on_flink(configuration, opening, live, latency, cluster):
    bus = open_bus(configuration.bus, configuration.directory)
    writer = Journal(bus)
    writer.put(opening, ends_run=False)
    job = cluster.submit("risk", configuration.path)
    while decided(bus) < len(opening):
        time.sleep(0.1)
    writer.put(live, ends_run=False)
    pid = cluster.pids()[cluster.name(0)]
    rates = clocked(lambda: decided(bus), len(opening), len(opening) + len(live), pid)
    writer.put(latency[:SHARDS], ends_run=False)
    ages = paced(configuration, bus, writer, latency, len(opening) + len(live))
    cluster.rest.cancel(job)
    return rates, ages


def paced(configuration, bus, writer, items, before):
    """Append a slice of each shard every 100 ms, behind the first of each; return the ages in seconds, in order."""
    while decided(bus) < before + SHARDS:
        time.sleep(0.05)
    latency = Latency(configuration, bus)
    due = time.monotonic()
    for first in range(SHARDS, len(items), SHARDS):
        due += TICK_S
        latency.poll_until(due)
        latency.appended(time.monotonic(), items[first : first + SHARDS])
        writer.put(items[first : first + SHARDS], ends_run=False)
    return latency.ages(30.0)


def on_loop(configuration, opening, live):
    """Return the rates of the core with the engines' own writer, in this process."""
    bus = open_bus(configuration.bus, configuration.directory)
    Journal(bus).put([*opening, *live])
    signer = CommandSigner(open_signer(configuration.signer, configuration.directory), bus)
    risk, writers = Risk(SHARDS, signer), []
    for partition in range(SHARDS + 1):
        topics = written_topics(partition, SHARDS)
        writers.append(RecordWriter(bus, bus.writer([(topic, partition) for topic in topics]), topics, partition))
    counts = [sum(k == shard for k, _ in opening) for shard in range(SHARDS)]
    for shard, count in enumerate(counts):
        for stored in bus.read("journal", shard, 0, count, 1 << 40):
            for audited in risk.step(stored.value):
                writers[audited.partition].append(audited.records)
    began, spent = time.monotonic(), time.process_time()
    read = [following(bus, shard, count) for shard, count in enumerate(counts)]
    for number in range(len(live)):
        for audited in risk.step(next(read[number % SHARDS])):
            writers[audited.partition].append(audited.records)
        for writer in writers:
            writer.pump()
    for writer in writers:
        writer.flush()
    return len(live) / (time.monotonic() - began), len(live) / (time.process_time() - spent)


def following(bus, shard, offset):
    """Yield the slices of a shard from an offset on, as a follower reads them."""
    while True:
        for stored in bus.tail("journal", shard, offset):
            yield stored.value
            offset = stored.offset + 1


def on_events(address, live, events, cluster):
    """Return the rates, in events, of the job that takes one record an event."""
    source, target = event_topics(address)
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20})
    fill_events(producer, source, live, events)
    cluster.submit_program("-py", str(EVENT_JOB), address, source, target)
    pid = cluster.pids()[cluster.name(0)]
    looker = Consumer({"bootstrap.servers": address, "group.id": "ends"})
    return clocked(lambda: ends(looker, target), events // 3, events, pid)  # the first third warms it up


def core(opening, live):
    """Return the rates of the core alone."""
    risk = Risk(SHARDS)
    for _, value in opening:
        list(risk.step(value))
    began, spent = time.monotonic(), time.process_time()
    for _, value in live:
        list(risk.step(value))
    return len(live) / (time.monotonic() - began), len(live) / (time.process_time() - spent)


def slices(scale, number, ticks):
    """Return the opening, the live slices, and the small ones of the latency run."""
    positions, accounts, instruments = int(250_000 * scale), int(10_000 * scale), 1000
    items = list(journal(positions, accounts, instruments, number + ticks * SHARDS, 0.05))
    cut = items.index((None, b""))
    opening, live = items[:cut], items[cut + 1 : cut + 1 + number]
    return opening, live, [(k, small(value)) for k, value in items[cut + 1 + number :]]


def small(value):
    """Return a slice with a tenth of its fills."""
    piece = DECODE(value)
    for name in ("id", "account", "instrument", "quantity", "price"):
        setattr(piece.fills, name, getattr(piece.fills, name)[: risk_throughput.BATCH // 10])
    return encode_slice(piece)


def report(rates, fills, ages):
    """Print the tables."""
    wall, processor = (rates["Bytewax"][at] * fills for at in (0, 1))
    print("| | fills/s | to Bytewax | fills per processor second | to Bytewax |\n|---|---|---|---|---|")
    for name, (per_s, per_processor_s) in rates.items():
        one = 1 if name == "one record an event" else fills
        a, b = per_s * one, per_processor_s * one
        print(f"| {name} | {a:,.0f} | {a / wall:.3f} | {b:,.0f} | {b / processor:.3f} |")
    print("\n| latency at 100 ms slices | slices | p50 ms | p99 ms |\n|---|---|---|---|")
    for name, found in ages.items():
        p50, p99 = (found[int(len(found) * part)] * 1000 for part in (0.5, 0.99))
        print(f"| {name} | {len(found):,} | {p50:.0f} | {p99:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--ticks", type=int, default=200)
    args = parser.parse_args()
    opening, live, latency = slices(args.scale, args.slices, args.ticks)
    fills = sum(len(DECODE(value).fills.id) for _, value in live) / len(live)
    folder = Path(tempfile.mkdtemp(prefix="seawall-bench-"))
    broker, cluster = Cluster(folder / "kafka"), FlinkCluster(environment(), folder / "flink", task_managers=1)
    rates, ages, loads = {"core, no bus": core(opening, live)}, {}, [os.getloadavg()[0]]
    try:
        broker.start()
        address = broker.address()
        rates["bare loop"] = on_loop(desk(folder / "loop", address, "loop"), opening, live)
        loads.append(os.getloadavg()[0])
        configuration = desk(folder / "bytewax", address, "bytewax")
        rates["Bytewax"], ages["Bytewax"] = on_bytewax(configuration, opening, live, latency)
        loads.append(os.getloadavg()[0])
        cluster.start()
        configuration = desk(folder / "flink-desk", address, "flink")
        rates["Flink"], ages["Flink"] = on_flink(configuration, opening, live, latency, cluster)
        loads.append(os.getloadavg()[0])
        rates["one record an event"] = on_events(address, live, args.events, cluster)
        loads.append(os.getloadavg()[0])
    finally:
        cluster.stop()
        broker.stop()
        shutil.rmtree(folder)
    report(rates, fills, ages)
    print(f"\nload of the machine on the way: {', '.join(f'{load:.1f}' for load in loads)}")


if __name__ == "__main__":
    main()
