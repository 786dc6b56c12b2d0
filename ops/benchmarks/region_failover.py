"""Loss of a region: what is lost, and how long until the desk goes on in the other one.

    python ops/benchmarks/region_failover.py [--rounds 5] [--rate 1000] [--seconds 30]

Each round starts two clusters of one broker, a live run on the first into which RATE fills a second go, and
``seawall mirror --follow`` to the second. After SECONDS the broker, the run and the mirror are killed with -9 at once,
and the same configuration is started on the second cluster with the next epoch.

- Recovery point: slices and fills that the first region's journal held and the mirror's did not, and the event time
  between the newest slice of each; the broker is started again afterwards to be asked.
- Recovery time: from the kill until the second region's journal grows, and until its audit does.

At the end of a round ``verify`` and ``replay`` must hold on the second cluster; otherwise this exits with 1. Both
brokers, the run, the sender and the mirror share this machine; its load is told.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from failover import CLI, SHARDS, TOPIC, VERIFIED, Feed, ends, write_desk

from seawall.connectors.bus import open_bus, read_all
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.slices import Slice, decode_slice

WAIT_S = 180.0


class Round(NamedTuple):
    """What one loss cost: records, seconds of event time, and seconds until journal and audit grew again."""

    slices: int
    fills: int
    event_s: float
    journal_s: float
    audit_s: float
    history: int


def start(*words: object, log: Path) -> "subprocess.Popen[bytes]":
    """Start a command of the command line."""
    return subprocess.Popen([*CLI, *map(str, words)], stderr=log.open("ab"), stdout=subprocess.DEVNULL)


def begin(stack: ExitStack, folder: Path, name: str, topic: str, epoch: int) -> tuple[Cluster, str, Path]:
    """Start a region; return its cluster, the bus there, and the configuration of the desk on it."""
    cluster = Cluster(folder / f"{name}-kafka")
    stack.callback(cluster.stop)
    cluster.start()
    url = f"kafka://{cluster.address()}/desk"
    (folder / name).mkdir()
    path = write_desk(folder / name, url)
    path.write_text(f"epoch = {epoch}\n{path.read_text().replace(TOPIC, topic)}")
    bus = open_bus(url, folder)
    bus.provide({topic: 1}, make=True)
    bus.close()
    return cluster, url, path


def recover(url: str, path: Path, stood: tuple[int, int], began: float) -> tuple[float, float]:
    """Wait until journal and audit grow; return the seconds since ``began``."""
    times = [0.0, 0.0]
    while not all(times):
        now = ends(url, path.parent)
        for at in range(2):
            if not times[at] and now[at] > stood[at]:
                times[at] = time.monotonic() - began
        if time.monotonic() - began > WAIT_S:
            raise SystemExit(f"the second region did not go on; see the logs in {path.parent}")
        time.sleep(0.05)
    return times[0], times[1]


def measure(folder: Path, rate: int, seconds: float) -> tuple[Round, bool]:
    """Lose a region once; return what it cost, and whether verify and replay hold in the other one."""
    with ExitStack() as stack:
        first, west, path = begin(stack, folder, "west", TOPIC, 1)
        _, east, standby = begin(stack, folder, "east", f"{TOPIC}-east", 2)
        subprocess.run([*CLI, "keys", "new", str(path.parent / "keys/dev.pem")], check=True, stdout=subprocess.DEVNULL)
        running = [start("run", path, log=folder / "west.log")]
        stack.callback(lambda: [(one.kill(), one.wait()) for one in running])
        feed = Feed(west, folder, rate)
        feed.daemon = True
        feed.start()
        while not ends(west, folder)[1]:
            time.sleep(0.2)
        shutil.copytree(path.parent / "keys", standby.parent / "keys")  # the run has made the sealer's
        running.append(start("mirror", path, "--to", east, "--follow", log=folder / "mirror.log"))
        time.sleep(seconds)
        feed.over.set()  # what it is about to send is never journaled
        began = time.monotonic()
        for one in running:
            one.kill()
        first.kill_all()
        running.append(start("run", standby, log=folder / "east.log"))
        stood = ends(east, folder)
        times = recover(east, standby, stood, began)
        running[-1].terminate()
        running[-1].wait()
        return compare(first, west, east, folder, times), holds(standby)


def compare(first: Cluster, west: str, east: str, folder: Path, times: tuple[float, float]) -> Round:
    """Ask the lost region, started again, what its journal had that the mirror's had not."""
    first.start()
    buses = [open_bus(url, folder) for url in (west, east)]
    kept, newest_kept, lost = 0, 0, list[Slice]()
    for shard in range(SHARDS):
        had, there = ([stored.value for stored in read_all(bus, "journal", shard)] for bus in buses)
        same = next((at for at, pair in enumerate(zip(had, there, strict=False)) if pair[0] != pair[1]), None)
        same = min(len(had), len(there)) if same is None else same
        kept += same
        newest_kept = max(newest_kept, decode_slice(had[same - 1]).as_of_us)
        lost += map(decode_slice, had[same:])
    for bus in buses:
        bus.close()
    fills = sum(len(piece.fills.id) for piece in lost if piece.fills is not None)
    newest = max((piece.as_of_us for piece in lost), default=newest_kept)
    return Round(len(lost), fills, (newest - newest_kept) / 1e6, *times, kept)


def holds(path: Path) -> bool:
    """Tell whether verify and replay hold."""
    codes = [
        subprocess.run([*CLI, word, str(path)], check=False, stdout=subprocess.DEVNULL).returncode for word in VERIFIED
    ]
    return codes == [0, 0]


def main() -> None:
    """Measure, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    rounds = []
    for number in range(1, given.rounds + 1):
        with tempfile.TemporaryDirectory() as place:
            found, good = measure(Path(place), given.rate, given.seconds)
        rounds.append(found)
        print(f"round {number}: {found} load {os.getloadavg()[0]:.1f}, verify and replay hold: {good}", flush=True)
        if not good:
            raise SystemExit(1)
    for at, what in enumerate(Round._fields):
        values = sorted(one[at] for one in rounds)
        print(f"{what:10} least {values[0]:.2f}, median {statistics.median(values):.2f}, most {values[-1]:.2f}")


if __name__ == "__main__":
    main()
