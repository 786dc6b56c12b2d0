"""Failover: seconds until somebody else goes on, and what is lost, after a process or a whole region is killed.

python ops/bench/failover.py replica | region
"""

import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import _harness as bench

from seawall.connectors.bus import cluster_of, open_bus, read_all
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.records import Slice, decode_slice

PARTS = ("--only", "sequence", "--only", "risk", "--only", "seal")
TOPIC, ACCOUNTS, SHARDS, WAIT_S = "desk-fills", 200, 4, 180.0
LIMITS = bench.limit("gross", "account:*", "gross_notional", soft=2000, hard=20000)
COMMANDS = '{ kind = "REDUCE_ONLY", target = "account" }'
PLAYBOOK = bench.RULE.format(id="reduce", limit="gross", level="soft", commands=COMMANDS)
PLAYBOOK = PLAYBOOK.replace("commands =", "cooldown_s = 1\ncommands =")
app = bench.suite(__doc__)


def desk(folder: Path, url: str, topic: str = TOPIC, top: str = "") -> Path:
    """Write a desk that follows one topic; return its configuration."""
    records = [bench.instrument("I-PERP", "C", **bench.MARGINS)]
    records += [one for number in range(ACCOUNTS) for one in bench.party(f"client-{number}")]
    inputs, top = f'events = ["events.jsonl"]\ntopics = ["{topic}"]', f'{top}bus = "{url}"\nshards = {SHARDS}'
    return bench.write_desk(folder, top, records, inputs, LIMITS, PLAYBOOK)


def provide(url: str, folder: Path, topic: str) -> None:
    """Make the topic of the inputs on a cluster."""
    bus = open_bus(url, folder)
    cluster_of(bus).provide({topic: 1}, make=True)
    bus.close()


class Feed(threading.Thread):
    """Sends fills at a steady rate until it is told to end."""

    def __init__(self, url: str, folder: Path, rate: int) -> None:
        super().__init__(name="feed", daemon=True)
        self._rate, self.sent, self.over = rate, 0, threading.Event()
        self._writer = cluster_of(open_bus(url, folder)).copier([(TOPIC, 0)])

    def run(self) -> None:
        """Send, a transaction every 20 ms."""
        began, rng = time.monotonic(), random.Random(1)
        while not self.over.wait(0.02):
            while self.sent < (time.monotonic() - began) * self._rate:
                now, account = time.time_ns() // 1000, f"client-{rng.randrange(ACCOUNTS)}"
                side = rng.choice(["buy", "sell"])
                fill = bench.fill(now, f"f{self.sent}", account, "I-PERP", side, "0.5", "100")
                self._writer.append(TOPIC, 0, "", json.dumps(fill).encode(), {})
                self.sent += 1
            self._writer.flush()
        self._writer.close()


def ends(url: str, folder: Path) -> tuple[int, ...]:
    """Return how many journal and audit records stand."""
    bus = open_bus(url, folder)
    try:
        return tuple(sum(bus.end(topic, one) for one in range(SHARDS)) for topic in ("journal", "audit"))
    finally:
        bus.close()


def recovered(url: str, folder: Path, stood: tuple[int, ...], began: float) -> tuple[float, float]:
    """Wait until journal and audit grow; return the seconds since ``began``."""
    times = [0.0, 0.0]
    while not all(times):
        for at, (now, before) in enumerate(zip(ends(url, folder), stood, strict=True)):
            times[at] = times[at] or (time.monotonic() - began if now > before else 0.0)
        if time.monotonic() - began > WAIT_S:
            raise SystemExit(f"nobody went on within {WAIT_S:.0f} s; see the logs in {folder}")
    return times[0], times[1]


def holds(path: Path) -> bool:
    """Tell whether verify and replay hold."""
    codes = [bench.seawall(word, path, check=False) for word in ("verify", "replay")]
    print(f"verify and replay exit with {codes}")
    return codes == [0, 0]


# --- replica ----------------------------------------------------------------------------------------------------------


@app.command()
def replica(bus: str = "sqlite", rounds: int = 10, rate: int = 1000, takeover_s: float = 2.0) -> None:
    """Measure failover under load: seconds from the kill -9 of the process that writes until the next records.

    Two replicas of ``sequence``, ``risk`` and ``seal`` follow live topics into which RATE fills a second go, on BUS
    (sqlite or kafka). Each round kills the one that writes and starts another stand-in. At the end every fill must
    stand in the journal once, and ``verify`` and ``replay`` must hold; otherwise this exits with 1. Seconds include the
    sequencer's 100 ms slices.
    """
    with ExitStack() as stack:
        if bus == "kafka":
            cluster, folder = stack.enter_context(bench.broker())
            url = f"kafka://{cluster.address()}/desk"
            provide(url, folder, TOPIC)
        else:
            folder, url = Path(stack.enter_context(tempfile.TemporaryDirectory())), "sqlite:seawall.db"
        path = desk(folder, url)
        bench.seawall("keys", "new", folder / "keys/dev.pem")
        measured, sent = killed(path, url, rounds, rate, takeover_s)
        for at, what in enumerate(("journal (sequence)", "audit (risk)")):
            print(f"{what:20} {bench.spread((times[at] for times in measured), ' s')}")
        opened, found = open_bus(url, folder), Counter[str]()
        for shard in range(SHARDS):
            for stored in read_all(opened, "journal", shard):
                fills = decode_slice(stored.value).fills
                found.update(fills.id if fills is not None else ())
        opened.close()
        once = len(found) == sent and set(found.values()) == {1}
        print(f"{sent:,} fills sent, {len(found):,} in the journal, each once: {once}")
        if not (holds(path) and once):
            raise SystemExit(1)


def killed(path: Path, url: str, rounds: int, rate: int, takeover_s: float) -> tuple[list[tuple[float, float]], int]:
    """Kill the writer again and again under load; return the seconds and how many fills were sent."""
    folder, running, measured = path.parent, list[bench.Process](), []
    feed = Feed(url, folder, rate)
    feed.start()

    def start(number: int) -> None:
        words = ("run", path, *PARTS, "--replica", f"r{number}", "--takeover-s", takeover_s)
        running.append(bench.start(*words, log=folder / f"r{number}.err"))

    def is_warm(number: int) -> bool:
        store = folder / f"recovery-r{number}" / "part-0.sqlite3"
        return store.exists() and store.stat().st_size > 100_000

    try:
        start(0)
        bench.until(lambda: ends(url, folder)[1], WAIT_S, "the first decision")
        for number in range(1, rounds + 1):
            start(number)
            bench.until(lambda: is_warm(number), WAIT_S, "a stand-in that follows")  # noqa: B023 (called at once)
            time.sleep(2)
            writer = running.pop(0)
            writer.kill()
            writer.wait()
            measured.append(recovered(url, folder, ends(url, folder), time.monotonic()))
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


# --- region -----------------------------------------------------------------------------------------------------------


class Round(NamedTuple):
    """Cost of one loss: records, seconds of event time, and seconds until journal and audit grew again."""

    slices: int
    fills: int
    event_s: float
    journal_s: float
    audit_s: float
    history: int


@app.command()
def region(rounds: int = 5, rate: int = 1000, seconds: float = 30.0) -> None:
    """Lose a region: what is lost, and how long until the desk goes on in the other one.

    Each round starts two clusters of one broker, a live run on the first into which RATE fills a second go, and
    ``seawall mirror --follow`` to the second. After SECONDS the broker, the run and the mirror are killed with -9 at
    once, and the same configuration is started on the second cluster with the next epoch.

    Recovery point: slices and fills that the first region's journal held and the mirror's did not, and the event time
    between the newest slice of each; the broker is started again afterwards to be asked. Recovery time: from the kill
    until the second region's journal grows, and until its audit does.

    At the end of a round ``verify`` and ``replay`` must hold on the second cluster; otherwise this exits with 1. Both
    brokers, the run, the sender and the mirror share this machine; its load is told.
    """
    found = []
    for number in range(1, rounds + 1):
        with bench.broker() as (west, folder), bench.broker() as (east, _):
            one, standby = lost(west, east, folder, rate, seconds)
            print(f"round {number}: {one} load {bench.load()}", flush=True)
            found.append(one)
            if not holds(standby):
                raise SystemExit(1)
    for at, what in enumerate(Round._fields):
        print(f"{what:10} {bench.spread(one[at] for one in found)}")


def lost(west: Cluster, east: Cluster, folder: Path, rate: int, seconds: float) -> tuple[Round, Path]:
    """Lose the first region once; return what it cost, and the configuration in the other one."""
    urls, paths, topics = [], [], (TOPIC, f"{TOPIC}-east")
    for epoch, (cluster, topic) in enumerate(zip((west, east), topics, strict=True), 1):
        urls.append(f"kafka://{cluster.address()}/desk")
        paths.append(desk(folder / f"region-{epoch}", urls[-1], topic, f"epoch = {epoch}\n"))
        provide(urls[-1], folder, topic)
    bench.seawall("keys", "new", paths[0].parent / "keys/dev.pem")
    running, feed = [bench.start("run", paths[0], log=folder / "west.log")], Feed(urls[0], folder, rate)
    feed.start()
    try:
        bench.until(lambda: ends(urls[0], folder)[1], WAIT_S, "the first decision", 0.2)
        shutil.copytree(paths[0].parent / "keys", paths[1].parent / "keys")  # the run has made the sealer's
        running.append(bench.start("mirror", paths[0], "--to", urls[1], "--follow", log=folder / "mirror.log"))
        time.sleep(seconds)
        feed.over.set()  # what it is about to send is never journaled
        began = time.monotonic()
        for one in running:
            one.kill()
        west.kill_all()
        running.append(bench.start("run", paths[1], log=folder / "east.log"))
        times = recovered(urls[1], folder, ends(urls[1], folder), began)
        running[-1].terminate()
        running[-1].wait()
    finally:
        for one in running:
            one.kill()
            one.wait()
    west.start()
    return compared(urls, folder, times), paths[1]


def compared(urls: list[str], folder: Path, times: tuple[float, float]) -> Round:
    """Ask the lost region, started again, what its journal had that the mirror's had not."""
    buses, kept, newest_kept, missing = [open_bus(url, folder) for url in urls], 0, 0, list[Slice]()
    for shard in range(SHARDS):
        had, there = ([stored.value for stored in read_all(bus, "journal", shard)] for bus in buses)
        pairs = enumerate(zip(had, there, strict=False))
        same = next((at for at, (one, other) in pairs if one != other), min(len(had), len(there)))
        kept += same
        newest_kept = max(newest_kept, decode_slice(had[same - 1]).as_of_us)
        missing += map(decode_slice, had[same:])
    for bus in buses:
        bus.close()
    fills = sum(len(piece.fills.id) for piece in missing if piece.fills is not None)
    newest = max((piece.as_of_us for piece in missing), default=newest_kept)
    return Round(len(missing), fills, (newest - newest_kept) / 1e6, *times, kept)


if __name__ == "__main__":
    app()
