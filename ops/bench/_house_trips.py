"""Trips of `house.py`: calls and files over the first 3,000 events of the demo, and of one trade and one command.

`house.py` loads it once the tests of the checkout that it measures are on the path. The imports are all that may be
called otherwise in that checkout; the rest knows only what these are.
"""

import sqlite3
import statistics
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import seawall
from seawall.connectors.bus import open_bus
from seawall.connectors.subscriber import sqlite_subscriber
from seawall.dataflows import Sequencer
from seawall.operators.core.market import GroupRecords, GroupState
from seawall.operators.core.pipeline import FirmPipeline, ShardPipeline, UnsignedCommands
from seawall.ops.demo.scenario import write_scenario
from seawall.schemas.configuration import MarketTerms, load_configuration
from seawall.schemas.records import decode_slice
from seawall_testing import desk, market_data, signing

BASE = str(Path(seawall.__file__).parent)
EVENTS = 3000


class Trip:
    """Counts the calls of Seawall's own functions, and the files that they lie in, while it is open.

    Python 3.12 has fewer calls than 3.11, because it makes none of a comprehension: compare figures of one version.
    """

    def __init__(self) -> None:
        self.calls, self.files = 0, set[str]()

    def __enter__(self) -> "Trip":
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: Any, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(BASE):
            self.calls += 1
            self.files.add(code.co_filename)


def trace() -> dict[str, float]:
    """Return how many trips there are of each kind, and the median of their calls and files."""
    trips: dict[str, list[Trip]] = defaultdict(list)
    for kind, trip in (*_slices(), _trade(), _command()):
        trips[kind].append(trip)
    found: dict[str, float] = {}
    for kind, gone in trips.items():
        found[f"{kind}: trips"] = len(gone)
        found[f"{kind}: calls, median"] = statistics.median(trip.calls for trip in gone)
        found[f"{kind}: files, median"] = statistics.median(len(trip.files) for trip in gone)
    return found


def _journal() -> tuple[int, list[bytes]]:
    """Return the number of shards and the slices that the sequencer makes of the demo's first events."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_scenario(folder, 7).configuration
        events = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "events.jsonl").write_bytes(b"".join(events[:EVENTS]))
        configuration = load_configuration(path)
        bus = open_bus(configuration.bus, folder)
        Sequencer(configuration, bus, lambda: 1_800_000_000_000_000).run(threading.Event())
        shards = range(configuration.shards)
        values = [stored.value for shard in shards for stored in bus.read("journal", shard, 0, 1_000_000, 1 << 40)]
        bus.close()
    return len(shards), values


def _slices() -> Iterator[tuple[str, Trip]]:
    """Yield the trip of each slice with fills, and of each empty second."""
    shards, values = _journal()
    pieces = [(decode_slice(value), value) for value in values]
    states = [ShardPipeline(shard, UnsignedCommands()) for shard in range(shards)]
    firm = FirmPipeline(shards, UnsignedCommands())
    for piece, value in sorted(pieces, key=lambda item: (item[0].as_of_us, item[0].shard)):
        with Trip() as trip:
            taken = states[piece.shard].step(value)
        if taken.message is not None:
            firm.step(taken.message)
        second = piece.as_of_us % 1_000_000 == 0
        if piece.marks is None and second is (piece.fills is None):
            yield "empty second" if second else "slice with fills", trip


def _trade() -> tuple[str, Trip]:
    (trade,) = market_data.decoded([market_data.trade(desk.T0, 100.0)])
    group = GroupState(0, MarketTerms(groups=1))
    with Trip() as trip:
        group.step(GroupRecords([trade]))
    return "first market trade", trip


def _command() -> tuple[str, Trip]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    subscriber = sqlite_subscriber(connection, signing.POLICY, signing.keys(), signing.RecordingEffects())
    value, headers = signing.record(signing.command())
    with Trip() as trip:
        subscriber.receive(value, headers, signing.NOW_US)
    return "first obeyed command", trip
