"""Kafka to ``risk`` to Kafka on one worker, against a bare loop and against what one would write first on Bytewax.

    python ops/benchmarks/kafka_throughput.py [--slices 400] [--fills 1000]

All three read the same fills from a real broker and write gross notional per account back to it, with the same machine
under them, in one run:

(a) bare: confluent-kafka consumes slices, msgspec decodes them, numpy adds them up, one record per slice is produced;
(b) naive: each fill a JSON record of its own, stock ``KafkaSource``, ``stateful_map`` keyed by account, stock
    ``KafkaSink``;
(c) risk: slices through ``seawall run --only risk``: exposure, limits, mitigation, signing, audit, in transactions.

Figures are fills per second of processor time of the process, and ratios; processor time is what a busy machine does
not change much. (a) and (b) have no memory of ids, no limits, no audit, and (b) loses records when the broker does not
answer (``tests/test_kafka_sinks.py``).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import open_bus
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.slices import decode_slice

ACCOUNTS, INSTRUMENTS, SHARDS = 2_000, 100, 1
CLI = [sys.executable, "-c", "from seawall.ops.cli import main; main()"]


def write_desk(folder, address, slices, fills):
    """Write a desk whose journal has so many slices of so many fills; return its configuration."""
    usual = {"kind": "perpetual", "quote": "USD", "settlement": "USD", "quantity_increment": "0.001"}
    rng = np.random.default_rng(3)
    with (folder / "events.jsonl").open("w") as file:
        for n in range(INSTRUMENTS):
            file.write(json.dumps({"type": "instrument", "instrument": f"I{n}", "base": f"C{n}", **usual}) + "\n")
        for n in range(ACCOUNTS):
            party = {"type": "counterparty", "counterparty": f"a{n}", "name": f"a{n}", "role": "client"}
            account = {"type": "account", "account": f"a{n}", "counterparty": f"a{n}", "holder": "counterparty"}
            file.write(json.dumps(party) + "\n" + json.dumps(account) + "\n")
        for slice_number in range(slices):
            at = 1_700_000_000_000_000 + slice_number * 100_000
            for n, (a, i) in enumerate(rng.integers(0, (ACCOUNTS, INSTRUMENTS), (fills, 2))):
                body = {"type": "fill", "event_time_us": at, "fill_id": f"f{slice_number}-{n}", "account": f"a{a}"}
                body |= {"instrument": f"I{i}", "side": "buy", "quantity": "0.5", "price": "100"}
                file.write(json.dumps(body) + "\n")
    (folder / "limits.toml").write_text(
        '[[limit]]\nid = "gross"\nscope = "account:*"\nmeasure = "gross_notional"\nhard = 1e12\n'
    )
    (folder / "desk.toml").write_text(
        f'bus = "kafka://{address}/speed"\nshards = {SHARDS}\nexposure_change_min = 0.05\n'
        '[inputs]\nevents = ["events.jsonl"]\n[limits]\nfile = "limits.toml"\n'
    )
    return folder / "desk.toml"


def bare(address):
    """Consume slices, decode, add up, produce; return fills and processor seconds."""
    settings = {"bootstrap.servers": address, "group.id": "bare", "isolation.level": "read_committed"}
    consumer = Consumer({**settings, "enable.partition.eof": True})
    consumer.assign([TopicPartition("speed.journal", 0, 0)])
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5})
    gross, count, began = np.zeros(ACCOUNTS), 0, time.process_time()
    encode = msgspec.json.Encoder().encode
    while True:
        ended = False
        for message in consumer.consume(100, 0.05):
            if message.error():
                ended = True
                continue
            fills = decode_slice(message.value()).fills
            if fills is not None:
                accounts = np.array(fills.account)
                gross += np.bincount(accounts, np.abs(fills.quantity) * np.array(fills.price), ACCOUNTS)
                changed = np.unique(accounts)
                producer.produce("bare-out", encode({"account": changed.tolist(), "gross": gross[changed].tolist()}))
                count += len(accounts)
        producer.poll(0)
        if ended:
            break
    producer.flush(60)
    return count, time.process_time() - began


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


def naive(address, folder, fills_max):
    """Run the flow that one would write first; return fills and processor seconds."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    count = 0
    with (folder / "events.jsonl").open("rb") as file:
        for line in file:
            if b'"fill"' in line and count < fills_max:
                producer.produce("naive-fills", line)
                count += 1
    producer.flush(60)
    (folder / "naive.py").write_text(NAIVE)
    done = subprocess.run(
        [sys.executable, str(folder / "naive.py"), address], capture_output=True, text=True, check=True
    )
    return count, float(done.stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--fills", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster = Cluster(folder / "cluster")
        cluster.start()
        try:
            compare(folder, cluster.address(), arguments)
        finally:
            cluster.stop()


def spent_by_risk(path):
    """Run risk to the end of the journal; return the processor seconds of its process, every thread included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*CLI, "run", str(path), "--only", "risk"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(folder, address, arguments):
    admin = AdminClient({"bootstrap.servers": address})
    topics = [NewTopic(name, 1, 1) for name in ("naive-fills", "naive-out", "bare-out")]
    for made in admin.create_topics(topics).values():
        made.result(30)
    path = write_desk(folder, address, arguments.slices, arguments.fills)
    subprocess.run([*CLI, "run", str(path), "--only", "sequence"], check=True, capture_output=True)
    seconds = spent_by_risk(path) - spent_by_risk(path)  # the second has nothing left to do: start and checks
    total = arguments.slices * arguments.fills
    found = {"bare": bare(address), "naive": naive(address, folder, 100_000), "risk": (total, seconds)}
    bus = open_bus(f"kafka://{address}/speed", folder)
    assert bus.end("audit", 0) >= bus.end("journal", 0)
    bus.close()
    rates = {name: count / spent for name, (count, spent) in found.items()}
    for name, (count, spent) in found.items():
        against = f"{rates['risk'] / rates[name]:.2f}"
        print(f"{name:6s} {count:,} fills in {spent:.2f} CPU s: {rates[name]:,.0f} a second; risk does {against} of it")


if __name__ == "__main__":
    main()
