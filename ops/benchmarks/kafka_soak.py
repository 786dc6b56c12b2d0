"""A live run on a real broker at a steady rate: memory, lag, loss, and latency from a fill to its signed command.

    python ops/benchmarks/kafka_soak.py [--seconds 120] [--rate 20000] [--slice-ms 100] [--wait-ms 5] [--only risk …]

A process of its own sends RATE fills and RATE marks a second, and four times a second a fill of an account of its own
that breaks a limit at once. Latency is the time from that fill's stamp until a reader of committed records has the
signed command. Lag is how many input records are not journaled yet; memory is that of the run's process. Broker,
producer, reader and the run share this machine: what else runs on it is in the figures (its load is printed).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import open_bus
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.slices import decode_slice

ACCOUNTS, INSTRUMENTS, PROBES_PER_S, PARTITIONS = 2_000, 100, 4, 2
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


def write_desk(folder, address, probes, slice_ms, wait_ms):
    """Write reference records, limits, playbook and configuration; return the configuration's path."""
    names = [f"acct-{n}" for n in range(ACCOUNTS)] + [f"probe-{n}" for n in range(probes)]
    usual = {"kind": "perpetual", "quote": "USD", "settlement": "USD", "quantity_increment": "0.001"}
    margins = {"initial_margin_rate": "0.02", "maintenance_margin_rate": "0.01"}
    records = [
        {"type": "instrument", "instrument": f"I{n}-PERP", "base": f"C{n}", **usual, **margins}
        for n in range(INSTRUMENTS)
    ]
    records += [{"type": "counterparty", "counterparty": n, "name": n, "role": "client"} for n in names]
    records += [{"type": "account", "account": n, "counterparty": n, "holder": "counterparty"} for n in names]
    (folder / "reference.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "limits.toml").write_text(LIMITS)
    (folder / "playbook.toml").write_text(PLAYBOOK)
    (folder / "desk.toml").write_text(
        f'bus = "kafka://{address}/soak"\nslice_ms = {slice_ms}\nexposure_change_min = 0.05\n'
        f'[inputs]\nevents = ["reference.jsonl"]\ntopics = ["soak-fills", "soak-marks"]\nwait_ms = {wait_ms}\n'
        '[limits]\nfile = "limits.toml"\n[mitigation]\nplaybook = "playbook.toml"\n'
    )
    return folder / "desk.toml"


def send(address, rate, seconds):
    """Send fills and marks at a steady rate; probes beside them. Runs in a process of its own."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 2, "queue.buffering.max.messages": 1_000_000})
    rng, number, began, probe = random.Random(1), 0, time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        for n in range(number, int(passed * rate)):
            now, side = time.time_ns() // 1000, "buy" if rng.random() < 0.5 else "sell"
            instrument = rng.randrange(INSTRUMENTS)
            fill = (
                f'{{"type":"fill","event_time_us":{now},"fill_id":"f{n}",'
                f'"account":"acct-{n % ACCOUNTS}","instrument":"I{instrument}-PERP",'
                f'"side":"{side}","quantity":"0.5","price":"100"}}'
            )
            mark = (
                f'{{"type":"mark","event_time_us":{now},"instrument":"I{instrument}-PERP",'
                f'"price":"{100 + rng.random():.3f}"}}'
            )
            producer.produce("soak-fills", fill, partition=n % PARTITIONS)
            producer.produce("soak-marks", mark, partition=n % PARTITIONS)
        number = int(passed * rate)
        while probe < passed * PROBES_PER_S:
            now = time.time_ns() // 1000
            fill = {"type": "fill", "event_time_us": now, "fill_id": f"p{probe}", "account": f"probe-{probe}"}
            fill |= {"instrument": "I0-PERP", "side": "buy", "quantity": "10000000", "price": "100"}
            producer.produce("soak-fills", json.dumps(fill), partition=probe % PARTITIONS)
            probe += 1
        producer.poll(0)
        time.sleep(0.002)
    producer.flush(60)


class Commands(threading.Thread):
    """Reads commands as a subscriber does, and notes when each came and when its slice was cut."""

    def __init__(self, address, shards):
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": address, "group.id": "soak", "isolation.level": "read_committed"}
        self._consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
        self._consumer.assign([TopicPartition("soak.commands", partition, 0) for partition in range(shards + 1)])
        self.came = {}

    def run(self):
        while True:
            message = self._consumer.poll(1)
            if message is not None and message.error() is None:
                target = json.loads(message.value())["target"]["id"]
                self.came.setdefault(target, time.time_ns() // 1000)


def resident(pid):
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def watch(run, address, seconds):
    """Print lag and memory every ten seconds; return the memory after each."""
    reader = Consumer({"bootstrap.servers": address, "group.id": "lag"})
    places = [TopicPartition(t, p) for t in ("soak-fills", "soak-marks") for p in range(PARTITIONS)]
    bus, found = open_bus(f"kafka://{address}/soak", Path()), []
    for elapsed in range(10, int(seconds) + 1, 10):
        time.sleep(10)
        sent = sum(reader.get_watermark_offsets(place, timeout=20)[1] for place in places)
        end = bus.end("journal", 0)
        last = decode_slice(bus.read("journal", 0, end - 1, 1)[0].value) if end else None
        taken = sum(last.sources.get(f"{at.topic}/{at.partition}", [0])[0] for at in places) if last else 0
        found.append(resident(run.pid))
        print(f"{elapsed:5d} s  sent {sent:,}  not journaled yet {sent - taken:,}  {found[-1]:.0f} MiB", flush=True)
    return found


def journaled(bus, shards):
    """Return how many fills stand in the journal and the stamps of the probes."""
    fills = 0
    for shard in range(shards):
        offset = 0
        while records := bus.read("journal", shard, offset):
            fills += sum(len(piece.fills.id) for r in records if (piece := decode_slice(r.value)).fills is not None)
            offset = records[-1].offset + 1
    return fills


def probes(address):
    """Return when each probe was sent, by account, and how many fills were sent in all."""
    reader = Consumer({"bootstrap.servers": address, "group.id": "p", "enable.partition.eof": True})
    reader.assign([TopicPartition("soak-fills", partition, 0) for partition in range(PARTITIONS)])
    stamps, count, ended = {}, 0, 0
    while ended < PARTITIONS:
        for message in reader.consume(10_000, 1):
            if message.error():
                ended += 1
                continue
            count += 1
            if b'"probe-' in message.value():
                fill = json.loads(message.value())
                stamps[fill["account"]] = fill["event_time_us"]
    return stamps, count


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--slice-ms", type=int, default=100)
    parser.add_argument("--wait-ms", type=int, default=5, help="of the sequencer for stragglers, after a slice's end")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--send", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        send(arguments.send, arguments.rate, arguments.seconds)
        return
    with tempfile.TemporaryDirectory() as name:
        soak(Path(name), arguments)


def soak(folder, arguments):
    cluster = Cluster(folder / "cluster")
    cluster.start()
    address, run, sender = cluster.address(), None, None
    try:
        admin = AdminClient({"bootstrap.servers": address})
        for made in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in ("soak-fills", "soak-marks")]).values():
            made.result(30)
        path = write_desk(
            folder, address, (arguments.seconds + 5) * PROBES_PER_S, arguments.slice_ms, arguments.wait_ms
        )
        only = [part for name in arguments.only for part in ("--only", name)]
        with (folder / "run.err").open("wb") as errors:
            run = subprocess.Popen([*CLI, "run", str(path), *only], stderr=errors, stdout=subprocess.DEVNULL)
        bus = open_bus(f"kafka://{address}/soak", folder)
        while not (run.poll() is not None or "journal" in bus.topics()):
            time.sleep(0.5)
        commands = Commands(address, 4)
        commands.start()
        options = ["--send", address, "--seconds", str(arguments.seconds), "--rate", str(arguments.rate)]
        sender = subprocess.Popen([sys.executable, __file__, *options])
        memory = watch(run, address, arguments.seconds)
        sender.wait(120)
        report(bus, address, commands, memory, arguments)
        run.send_signal(signal.SIGTERM)
        print(f"stopped with exit {run.wait(120)}")
    finally:
        for process in (run, sender):
            if process is not None and process.poll() is None:
                process.kill()
        cluster.stop()


def report(bus, address, commands, memory, arguments):
    """Wait until everything is journaled; print what was lost, and percentiles of latency."""
    stamps, sent = probes(address)
    deadline, found = time.monotonic() + 120, 0
    while (found := journaled(bus, 4)) < sent and time.monotonic() < deadline:
        time.sleep(1)
    time.sleep(1)
    late = sorted((commands.came[name] - at) / 1000 for name, at in stamps.items() if name in commands.came)
    print(f"{sent:,} fills sent, {found:,} in the journal; {len(late)} of {len(stamps)} probes became commands")
    at = [late[min(len(late) - 1, int(len(late) * share))] for share in (0.5, 0.99, 0.999)] if late else []
    print(f"slices of {arguments.slice_ms} ms: p50, p99, p99.9 ms:", ", ".join(f"{value:.0f}" for value in at))
    print(f"memory {min(memory):.0f} to {max(memory):.0f} MiB; load of the machine {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
