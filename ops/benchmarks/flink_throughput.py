"""Throughput of `risk` from Kafka to Kafka: on Flink, beside Bytewax and the core without an engine, in one run.

    python ops/benchmarks/flink_throughput.py [--scale 0.1] [--slices 400] [--kafka host:port]

Slices of 1,000 fills and 1,000 marks in 4 shards (`risk_throughput.py`). The book is loaded first; then the clock runs
from the first decided slice of the rest to the last, as the audit on Kafka shows them: starting a job is not counted.
One TaskManager, one slot: one Python on either engine. The core reads from memory and writes nowhere.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from risk_throughput import DECODE, SHARDS, journal

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import new_key
from seawall.operators.core.risk import Risk
from seawall.ops.flink.artifacts import environment
from seawall.ops.flink.cluster import FlinkCluster
from seawall.ops.kafka.cluster import Cluster
from seawall.ops.preparing import prepare
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall.schemas.slices import encode_slice


def desk(folder, address, name):
    """Write a configuration on Kafka; return it, with its topics and keys made."""
    folder.mkdir()
    new_key(folder / "keys/dev.pem")
    url = f"kafka://{address}/{name}-{time.time_ns()}"
    (folder / "desk.toml").write_text(f'bus = "{url}"\nshards = {SHARDS}\n[keys]\nsigner = "file:keys/dev.pem"\n')
    configuration = load_configuration(folder / "desk.toml")
    prepare(configuration).close()
    return configuration


def put(bus, items):
    """Append slices to the journal; the last of each shard says that a bounded run ends there."""
    last = {k: at for at, (k, _) in enumerate(items)}
    writer = bus.writer([("journal", k) for k in range(SHARDS)])
    for at, (k, value) in enumerate(items):
        piece = DECODE(value)
        piece.end = last[k] == at
        seq = writer.end("journal", k)
        writer.append("journal", k, str(k), encode_slice(piece), {"seawall-id": f"{k}-{seq}-0", "seawall-n": str(seq)})
        if at % 64 == 63:
            writer.flush()
    writer.flush()
    writer.close()


def decided(bus):
    """Return how many slices the audit of the shards has."""
    found = 0
    for k in range(SHARDS):
        end = bus.end("audit", k)
        if end:
            found += int(bus.read("audit", k, end - 1, 1)[0].headers["seawall-id"].split("-")[1]) + 1
    return found


def clocked(bus, first, total, result):
    """Measure slices per second from the first decided one behind ``first`` to the last."""
    while (at := decided(bus)) <= first:
        time.sleep(0.005)
    began, stood = time.monotonic(), at
    while decided(bus) < total:
        time.sleep(0.005)
    result.append((total - stood) / (time.monotonic() - began))


def on_bytewax(configuration, opening, live):
    bus = open_bus(configuration.bus, configuration.directory)
    put(bus, opening)
    run(configuration, only=["risk"])
    put(bus, live)
    result = []
    clock = threading.Thread(target=clocked, args=(bus, len(opening), len(opening) + len(live), result))
    clock.start()
    run(configuration, only=["risk"])
    clock.join()
    return result[0]


def on_flink(configuration, opening, live, cluster):
    bus = open_bus(configuration.bus, configuration.directory)
    put(bus, opening)
    job = cluster.submit("risk", configuration.path)
    while decided(bus) < len(opening):
        time.sleep(0.1)
    put(bus, live)
    result = []
    clocked(bus, len(opening), len(opening) + len(live), result)
    cluster.rest.cancel(job)
    return result[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--kafka", default="")
    args = parser.parse_args()
    positions, accounts, instruments = int(250_000 * args.scale), int(10_000 * args.scale), 1000
    items = list(journal(positions, accounts, instruments, args.slices, 0.05))
    cut = items.index((None, b""))
    opening, live = items[:cut], items[cut + 1 :]
    fills = sum(len(DECODE(value).fills.id) for _, value in live) / len(live)
    core = Risk(SHARDS)
    for _, value in opening:
        list(core.step(value))
    began = time.monotonic()
    for _, value in live:
        list(core.step(value))
    rates = {"core": len(live) / (time.monotonic() - began)}
    folder = Path(tempfile.mkdtemp(prefix="seawall-bench-"))
    broker = None if args.kafka else Cluster(folder / "kafka")
    cluster = FlinkCluster(environment(), folder / "flink", task_managers=1)
    try:
        if broker is not None:
            broker.start()
        address = args.kafka or broker.address()
        rates["Bytewax"] = on_bytewax(desk(folder / "bytewax", address, "bytewax"), opening, live)
        cluster.start()
        rates["Flink"] = on_flink(desk(folder / "flink-desk", address, "flink"), opening, live, cluster)
    finally:
        cluster.stop()
        if broker is not None:
            broker.stop()
        shutil.rmtree(folder)
    print("| | slices/s | fills/s | to Bytewax |\n|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} | {rate * fills:,.0f} | {rate / rates['Bytewax']:.2f} |")


if __name__ == "__main__":
    main()
