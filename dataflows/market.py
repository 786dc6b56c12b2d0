"""``market``: raw venue records in; one signal per instrument group and interval out.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.market:flow('desk.toml')"``.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

import seawall.operators as sw
from seawall.connectors.bus import RecordSink, engine_key, noting_failures, open_bus
from seawall.dataflows._inputs import clock_of
from seawall.dataflows._journal import load_compatible
from seawall.dataflows._market_inputs import MarketReader, Stopped
from seawall.dataflows._sources import Clock
from seawall.schemas.configuration import Configuration

POLL = timedelta(milliseconds=20)  # as often is a cluster asked for more; signals come so much later at most
# Within an epoch nothing holds a source back, so it reads no more than this between two snapshots.
EPOCH_EVENTS_MAX = 200_000


def flow(path: str) -> Dataflow:
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    return build(load_compatible(path), lambda: False)


def build(
    configuration: Configuration,
    stopped: Stopped,
    note: Callable[[int], None] = lambda events: None,
    clock: Clock | None = None,
) -> Dataflow:
    """Wire the market operator between the inputs and the topic ``signals``.

    Parameters
    ----------
    configuration
        The run's configuration.
    stopped
        Tells that the run is to stop now.
    note
        Is told, at the end, how many records were taken.
    clock
        Microseconds since the epoch; None: the machine's. With bounded inputs it decides only what lies in the future.
    """
    groups = configuration.market.groups
    dataflow = Dataflow("market")
    items = op.input("events", dataflow, _Source(configuration, stopped, note, clock or clock_of(configuration)))
    signals = sw.watch_market("market", items, configuration.market)
    by_partition = op.map("partition", signals, lambda item: (item[1][0].key, item[1]))
    sink = RecordSink(configuration.bus, "signals", groups, configuration.directory, stands=True)
    op.output("signals", by_partition, sink)
    return dataflow


class _Source(FixedPartitionedSource[Any, bytes]):
    """All inputs as one partition: their order is one, so that what follows depends on nothing else."""

    def __init__(
        self, configuration: Configuration, stopped: Stopped, note: Callable[[int], None], clock: Clock
    ) -> None:
        self._configuration, self._stopped, self._note, self._clock = configuration, stopped, note, clock

    def list_parts(self) -> list[str]:
        return ["events"]

    @noting_failures
    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> "_Part":
        bus = open_bus(self._configuration.bus, self._configuration.directory)
        return _Part(MarketReader(self._configuration, bus, resume_state, self._clock), self._stopped, self._note)


class _Part(StatefulSourcePartition[Any, bytes]):
    def __init__(self, reader: MarketReader, stopped: Stopped, note: Callable[[int], None]) -> None:
        self._reader, self._stopped, self._note = reader, stopped, note
        self._awake: datetime | None = None
        self._epoch_began = 0

    @noting_failures
    def next_batch(self) -> list[Any]:
        if self._stopped():
            raise StopIteration
        self._awake = None
        if self._reader.events - self._epoch_began >= EPOCH_EVENTS_MAX:
            self._awake = datetime.now(UTC) + POLL
            return []
        items = self._reader.read()
        if items is None:
            raise StopIteration
        if not items and self._reader.live:
            self._awake = datetime.now(UTC) + POLL
        return [(engine_key(group), (group, item)) for group, item in items]

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> bytes:
        self._epoch_began = self._reader.events
        return self._reader.snapshot()

    def close(self) -> None:
        self._note(self._reader.events)
        self._reader.close()
