"""``sequence``: raw records in; the journal and the rejects out.

The engine only drives: one partition steps the sequencer, and a sink takes nothing. Batching, transactions and recovery
are the sequencer's own, because its state is a fold of the journal (architecture.md, "The sequencer"); the dataflow
needs no recovery store.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.sequence:flow('desk.toml')"``.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from seawall.connectors.bus import open_bus
from seawall.dataflows._sequencer import Sequencer
from seawall.schemas.configuration import Configuration, load_configuration

LIVE_PAUSE = timedelta(milliseconds=5)


class _Part(StatelessSourcePartition[int]):
    def __init__(self, sequencer: Sequencer | None, live: bool) -> None:
        self._sequencer, self._live = sequencer, live

    def next_batch(self) -> list[int]:
        if self._sequencer is None or not self._sequencer.step():
            raise StopIteration
        return []

    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + LIVE_PAUSE if self._live else None

    def close(self) -> None:
        if self._sequencer is not None:
            self._sequencer.close()


class _Source(DynamicSource[int]):
    """Worker 0 sequences; there is one sequencer per journal."""

    def __init__(self, make: Callable[[], Sequencer], live: bool) -> None:
        self._make, self._live = make, live

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Part:
        return _Part(self._make() if worker_index == 0 else None, self._live)


class _NoSink(DynamicSink[int]):
    """The sequencer writes itself."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_NoPart":
        return _NoPart()


class _NoPart(StatelessSinkPartition[int]):
    def write_batch(self, items: list[int]) -> None:
        pass


def build(configuration: Configuration, make: Callable[[], Sequencer]) -> Dataflow:
    """Return the dataflow that steps the sequencer which ``make`` returns."""
    dataflow = Dataflow("sequence")
    steps = op.input("records", dataflow, _Source(make, bool(configuration.topics)))
    op.output("journal", steps, _NoSink())
    return dataflow


def flow(path: str) -> Dataflow:
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    configuration = load_configuration(path)
    return build(configuration, lambda: Sequencer(configuration, open_bus(configuration.bus, configuration.directory)))
