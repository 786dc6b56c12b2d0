"""Failover under load: seconds from the kill -9 of the process that writes until the next journal and audit record.

    python ops/benchmarks/failover.py [--bus sqlite|kafka] [--rounds 10] [--rate 1000] [--takeover-s 2]

Two replicas of ``sequence``, ``risk`` and ``seal`` follow live topics into which RATE fills a second go. Each round
kills the one that writes and starts another stand-in. At the end every fill must stand in the journal once, and
``verify`` and ``replay`` must hold; otherwise this exits with 1. Seconds include the sequencer's 100 ms slices.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.slices import decode_slice

CLI = [sys.executable, "-c", "from seawall.ops.cli import main; main()"]
PARTS = ["--only", "sequence", "--only", "risk", "--only", "seal"]
TOPIC, ACCOUNTS, SHARDS = "desk-fills", 200, 4
LIMITS = '[[limit]]\nid = "gross"\nscope = "account:*"\nmeasure = "gross_notional"\nsoft = 2000\nhard = 20000\n'
RULE = '[[rule]]\nid = "reduce"\nwhen = { limit = "gross", level = "soft" }\ncooldown_s = 1\n'
COMMANDS = 'commands = [ { kind = "REDUCE_ONLY", target = "account" } ]\n'


def write_desk(folder: Path, url: str) -> Path:
    """Write a desk that follows one topic; return its configuration."""
    margins = {"initial_margin_rate": "0.02", "maintenance_margin_rate": "0.01", "quantity_increment": "0.001"}
    records = [{"type": "instrument", "instrument": "I-PERP", "kind": "perpetual", "base": "C", "quote": "USD"}]
    records[0] |= {"settlement": "USD", **margins}
    for number in range(ACCOUNTS):
        name = f"client-{number}"
        records.append({"type": "counterparty", "counterparty": name, "name": name, "role": "client"})
        records.append({"type": "account", "account": name, "counterparty": name, "holder": "counterparty"})
    (folder / "reference.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "limits.toml").write_text(LIMITS)
    (folder / "playbook.toml").write_text(RULE + COMMANDS)
    (folder / "desk.toml").write_text(
        f'bus = "{url}"\nshards = {SHARDS}\n[inputs]\nevents = ["reference.jsonl"]\ntopics = ["{TOPIC}"]\n'
        '[limits]\nfile = "limits.toml"\n[mitigation]\nplaybook = "playbook.toml"\n'
    )
    return folder / "desk.toml"


class Feed(threading.Thread):
    """Sends fills at a steady rate until it is told to end."""

    def __init__(self, url: str, folder: Path, rate: int) -> None:
        super().__init__(name="feed")
        self._rate, self.sent, self.over = rate, 0, threading.Event()
        self._writer = open_bus(url, folder).copier([(TOPIC, 0)])

    def run(self) -> None:
        """Send, a transaction every 20 ms."""
        began, rng = time.monotonic(), random.Random(1)
        while not self.over.wait(0.02):
            while self.sent < (time.monotonic() - began) * self._rate:
                fill = {"type": "fill", "event_time_us": time.time_ns() // 1000, "fill_id": f"f{self.sent}"}
                fill |= {"account": f"client-{rng.randrange(ACCOUNTS)}", "instrument": "I-PERP", "quantity": "0.5"}
                fill |= {"side": rng.choice(["buy", "sell"]), "price": "100"}
                self._writer.append(TOPIC, 0, "", json.dumps(fill).encode(), {})
                self.sent += 1
            self._writer.flush()
        self._writer.close()


def start(path: Path, name: str, takeover_s: float) -> "subprocess.Popen[bytes]":
    """Start a replica."""
    words = [*CLI, "run", str(path), *PARTS, "--replica", name, "--takeover-s", str(takeover_s)]
    return subprocess.Popen(words, stderr=path.with_name(f"{name}.err").open("wb"))


def ends(url: str, folder: Path) -> tuple[int, int]:
    """Return how many journal and audit records stand."""
    bus = open_bus(url, folder)
    try:
        return tuple(sum(bus.end(topic, one) for one in range(SHARDS)) for topic in ("journal", "audit"))  # type: ignore[return-value]
    finally:
        bus.close()


def kill_and_time(url: str, path: Path, holder: "subprocess.Popen[bytes]") -> tuple[float, float]:
    """Kill the one that writes; return seconds until the journal and the audit grow again."""
    holder.kill()
    holder.wait()
    stood, began, times = ends(url, path.parent), time.monotonic(), [0.0, 0.0]
    while not all(times):
        now = ends(url, path.parent)
        for at in range(2):
            if not times[at] and now[at] > stood[at]:
                times[at] = time.monotonic() - began
        if time.monotonic() - began > 120:
            raise SystemExit(f"nobody took over within two minutes; see the .err files in {path.parent}")
    return times[0], times[1]


def holds(url: str, path: Path, sent: int) -> bool:
    """Tell whether each fill stands once, and whether verify and replay hold."""
    bus, found = open_bus(url, path.parent), Counter[str]()
    for shard in range(SHARDS):
        for stored in read_all(bus, "journal", shard):
            fills = decode_slice(stored.value).fills
            found.update(fills.id if fills is not None else ())
    bus.close()
    once = len(found) == sent and set(found.values()) == {1}
    print(f"{sent:,} fills sent, {len(found):,} in the journal, each once: {once}")
    codes = [
        subprocess.run([*CLI, word, str(path)], check=False, stdout=subprocess.DEVNULL).returncode for word in VERIFIED
    ]
    print(f"verify and replay exit with {codes}")
    return once and codes == [0, 0]


VERIFIED = ("verify", "replay")


def main() -> None:
    """Measure, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", choices=["sqlite", "kafka"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--takeover-s", type=float, default=2.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder, url = Path(place), "sqlite:seawall.db"
        if given.bus == "kafka":
            cluster = Cluster(folder / "kafka")
            stack.callback(cluster.stop)
            cluster.start()
            url = f"kafka://{cluster.address()}/desk"
        path = write_desk(folder, url)
        subprocess.run([*CLI, "keys", "new", str(folder / "keys/dev.pem")], check=True, stdout=subprocess.DEVNULL)
        if given.bus == "kafka":
            make_input(url, folder)
        measured, sent = rounds(given, url, path)
        for at, what in enumerate(("journal (sequence)", "audit (risk)")):
            found = sorted(times[at] for times in measured)
            print(f"{what:20} least {found[0]:.2f} s, median {found[len(found) // 2]:.2f} s, most {found[-1]:.2f} s")
        if not holds(url, path, sent):
            raise SystemExit(1)


def make_input(url: str, folder: Path) -> None:
    """Make the topic of the inputs on a cluster."""
    bus = open_bus(url, folder)
    bus.provide({TOPIC: 1}, make=True)
    bus.close()


def rounds(given: argparse.Namespace, url: str, path: Path) -> tuple[list[tuple[float, float]], int]:
    """Kill the writer again and again under load; return the seconds and how many fills were sent."""
    feed, measured = Feed(url, path.parent, given.rate), []
    feed.start()
    running = [start(path, "r0", given.takeover_s)]
    try:
        while not ends(url, path.parent)[1]:
            time.sleep(0.1)
        for number in range(1, given.rounds + 1):
            running.append(start(path, f"r{number}", given.takeover_s))
            store = path.with_name(f"recovery-r{number}") / "part-0.sqlite3"
            while not (store.exists() and store.stat().st_size > 100_000):
                time.sleep(0.1)
            time.sleep(2)
            measured.append(kill_and_time(url, path, running.pop(0)))
            print(f"round {number}: journal {measured[-1][0]:.2f} s, audit {measured[-1][1]:.2f} s", flush=True)
        feed.over.set()
        feed.join()
        time.sleep(3)
    finally:
        feed.over.set()
        for one in running:
            one.terminate()
            one.wait()
    return measured, feed.sent


if __name__ == "__main__":
    main()
