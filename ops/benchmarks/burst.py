"""A burst on Kafka: ten seconds at twice the rate of the soak, then silence. When do commands come, when is all done?

    python ops/benchmarks/burst.py [--rate 40000] [--warm-s 30] [--seconds 10] [--processes 4] [--json]

RATE fills a second and as many marks go in (the soak sends 20,000 of each) after WARM_S at half of it: the burst comes
to a desk that runs. The producer stops after SECONDS. Rate and latency are of the burst alone.
Four times a second an account trades so much that its hard limit calls for SUSPEND: from the fill's time of event until
a subscriber of ``commands`` has the command is the latency. The lag is gone when every record is journaled and every
slice is decided on. Exits with 1 where a fill is lost or repeated, a command is missing, the slowest took over 5 s, or
the lag lasted over 30 s after the last record was sent.

Parts are those of ``kafka_soak.py``. What was sent a second is counted, not assumed: on a busy machine the producer is
the first to fall behind. Processor seconds of all processes stand beside, with the load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kafka_soak as soak
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.appending import decided
from seawall.connectors.bus import open_bus
from seawall.ops.kafka.cluster import Cluster

READY_S, LATENCY_MAX_S, LAG_MAX_S, GIVE_UP_S, LOOK_S = 180, 5.0, 30.0, 300.0, 0.25


class Desk:
    """A broker, a run on it, and those who look on."""

    def __init__(self, folder, arguments):
        self.shards, self.accounts = arguments.shards, arguments.accounts
        self.cluster = Cluster(folder / "cluster", jvm=soak.JVM)
        self.run = self.sender = self.commands = None
        self.cluster.start()
        self.address = self.cluster.address()
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        topics = [NewTopic(topic, soak.PARTITIONS, 1) for topic in ("soak-fills", "soak-marks")]
        for made in admin.create_topics(topics).values():
            made.result(30)
        self.run = soak.Run(soak.write_desk(folder, self.address, arguments))
        self.bus = open_bus(f"kafka://{self.address}/soak", folder)
        self.run.start(arguments.processes, self.bus)
        self.inputs = soak.Inputs(self.address, self.bus, self.shards)

    def until_ready(self):
        """Wait until the reference records are decided on; nothing is to be learned while it starts."""
        deadline = time.monotonic() + READY_S
        while not {"journal", "audit"} <= set(self.bus.topics()) or not self.bus.end("journal", 0) or self.undecided():
            self.run.check()
            if time.monotonic() > deadline:
                raise SystemExit("the run did not get ready")
            time.sleep(LOOK_S)
        self.commands = soak.Commands(self.address, self.shards)  # whose topic is there by now
        self.commands.start()

    def undecided(self):
        """Return how many slices wait for their decision."""
        return sum(self.bus.end("journal", shard) - decided(self.bus, shard) for shard in range(self.shards))

    def waiting(self):
        """Return how many records are sent and not journaled yet."""
        return self.inputs.sent() - sum(self.inputs.positions().values())

    def send(self, rate, seconds, warm_s):
        """Start the producer, in a process of its own."""
        options = ["--send", self.address, "--seconds", str(seconds), "--rate", str(rate), "--warm-s", str(warm_s)]
        options += ["--accounts", str(self.accounts)]
        self.sender = subprocess.Popen([*soak.NICE, sys.executable, soak.__file__, *options])

    def pids(self):
        """Return the processes by part."""
        return {**self.run.pids(), "broker": list(self.cluster.pids().values()), "sender": [self.sender.pid]}

    def close(self):
        """End everything that was started."""
        for process in (self.run, self.sender):
            if process is not None:
                process.kill()
        self.cluster.stop()


def follow(desk):
    """Look on until the lag is gone; return the largest lag, and seconds from the last record sent until then."""
    most, ended, processor, pids = 0, None, {}, desk.pids()
    while True:
        desk.run.check()
        sending, now = desk.sender.poll() is None, time.monotonic()
        if sending:
            processor["sender"] = soak.processor_s(pids["sender"])
        ended = None if sending else ended or now
        waiting = desk.waiting()
        most = max(most, waiting)
        if ended is not None and not waiting and not desk.undecided():
            break
        if ended is not None and now - ended > GIVE_UP_S:
            raise SystemExit(f"{waiting:,} records are not journaled {GIVE_UP_S:.0f} s after the last was sent")
        time.sleep(LOOK_S)
    gone = time.monotonic() - ended
    processor |= {name: soak.processor_s(found) for name, found in pids.items() if name != "sender"}
    return most, gone, processor


def figures(arguments, desk, most, gone, processor):
    """Return what was sent, lost and repeated, the lag, and how late the commands came."""
    sent, stamps = desk.inputs.fills(desk.inputs.positions())
    found, burst = soak.journaled(desk.bus, desk.shards), max(stamps.values()) - arguments.seconds * 1_000_000
    deadline = time.monotonic() + GIVE_UP_S
    while not stamps.keys() <= desk.commands.came.keys() and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    came = [(at, (desk.commands.came[name] - at) / 1e6) for name, at in stamps.items() if name in desk.commands.came]
    late = sorted(lasted for at, lasted in came if at > burst)
    return {
        "records_per_s": round((desk.inputs.sent() - arguments.warm_s * arguments.rate) / arguments.seconds),
        "fills": sent.total(),
        "lost": sent.without(found),
        "repeated": found.total() - found.distinct(),
        "commands_missing": len(stamps) - len(came),
        "latency_s": {"median": round(late[len(late) // 2], 3), "most": round(late[-1], 3)},
        "lag_most": most,
        "lag_gone_s": round(gone, 1),
        "processor_s": {name: round(seconds, 1) for name, seconds in processor.items()},
        "load": round(os.getloadavg()[0], 1),
    }


def holds(found):
    """Tell whether the burst was taken as it has to be."""
    whole = not (found["lost"] or found["repeated"] or found["commands_missing"])
    return whole and found["latency_s"]["most"] < LATENCY_MAX_S and found["lag_gone_s"] < LAG_MAX_S


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=40_000, help="fills a second; as many marks beside them")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--slice-ms", type=int, default=100)
    parser.add_argument("--warm-s", type=int, default=30)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--wait-ms", type=int, default=2)
    parser.add_argument("--processes", type=int, choices=tuple(soak.PARTS), default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        desk = Desk(Path(name), arguments)
        try:
            desk.until_ready()
            desk.send(arguments.rate, arguments.seconds, arguments.warm_s)
            found = figures(arguments, desk, *follow(desk))
            found["exit"], found["dataflow_s"] = desk.run.stop()
        finally:
            desk.close()
    print(json.dumps(found) if arguments.json else "\n".join(f"{name}: {value}" for name, value in found.items()))
    sys.exit(0 if holds(found) else 1)


if __name__ == "__main__":
    main()
