"""``seal``: audit in, the transparency log over it out: tiles, and checkpoints on a topic and in files.

Run by ``seawall run``, or on its own: ``python -m bytewax.run "seawall.dataflows.seal:flow('desk.toml')"``.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

import seawall.operators as sw
from seawall.connectors.bus import JournalSource, failures, noting_failures
from seawall.connectors.keys import SEALER_KEYS_FILE, open_signer
from seawall.dataflows._journal import load_compatible
from seawall.dataflows._log_publishing import LogPublisher
from seawall.operators.core.audit import Sealed
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError
from seawall.schemas.evidence import Signer

# The sealed logs as a Bytewax sink (`seawall.dataflows._log_publishing`).

log = logging.getLogger("seawall")


class LogSink(FixedPartitionedSink[Sealed, None]):
    """Writes what ``sw.seal_log`` gives: tiles, checkpoints on the topic ``checkpoints``, the file ``checkpoint``.

    Parameters
    ----------
    configuration
        Of the run: bus, folder, names of the logs, shards, witnesses.
    signer
        Returns the sealer's key, where it is used.
    take
        Fence whoever writes these, where the bus can.

    Raises
    ------
    Divergence, Gap
        A checkpoint stands on the topic that these records do not give.
    """

    def __init__(self, configuration: Configuration, signer: Callable[[], Signer], take: bool = False) -> None:
        self._configuration, self._signer, self._take = configuration, signer, take

    def list_parts(self) -> list[str]:
        """Return the partitions as text."""
        return [str(partition) for partition in range(self._configuration.shards + 1)]

    def part_fn(self, item_key: str) -> int:
        """Return the partition of an item: its key names it, as a number or as ``engine_key`` writes it."""
        return int(item_key.rstrip("."))

    @noting_failures
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_LogPartition":
        """Become the writer of one log."""
        return _LogPartition(LogPublisher.open(self._configuration, int(for_part), self._signer(), self._take))


class _LogPartition(StatefulSinkPartition[Sealed, None]):
    def __init__(self, publisher: LogPublisher) -> None:
        self._publisher = publisher

    @noting_failures
    def write_batch(self, items: list[Sealed]) -> None:
        """Publish what some records gave."""
        self._publisher.publish(items)

    def snapshot(self) -> None:
        """Return nothing: the topic itself says what stands on it."""
        return

    def close(self) -> None:
        """Ask the witnesses once more, and let the partition go.

        What goes wrong is noted and told, because the engine aborts the process where this raises. What was sealed
        stands before: all that can be missing is a cosignature.
        """
        try:
            self._publisher.close()
        except SeawallError as error:
            failures.append(error)
            log.warning("the file checkpoint stays as it was: %s", error)


# ``seal``: audit in, the transparency log over it out: tiles, and checkpoints on a topic and in files.

POLL = timedelta(milliseconds=50)  # a batch has costs of its own (files, a transaction): a few records are not worth it


def flow(path: str) -> Dataflow:
    """Return the dataflow of a configuration file, for ``bytewax.run``."""
    return build(load_compatible(path), None, lambda: False)


def build(
    configuration: Configuration,
    finished: Callable[[], bool] | None,
    stopped: Callable[[], bool],
    take: bool = False,
) -> Dataflow:
    """Wire the sealer between the audit and its logs.

    Parameters
    ----------
    configuration
        The run's configuration.
    finished
        Tells that the audit is complete; None: it is where a record says so, and never with live topics.
    stopped
        Tells that the run is to stop now.
    take
        Fence whoever seals, where the bus can.
    """
    base, partitions = configuration.directory, configuration.shards + 1
    follow = bool(configuration.topics)
    audit = JournalSource(configuration.bus, "audit", partitions, base, finished, stopped, follow, POLL)
    dataflow = Dataflow("seal")
    records = op.input("audit", dataflow, audit)
    sealed = sw.seal_log("seal", records, configuration.issuer, configuration.environment, configuration.shards)
    sink = LogSink(configuration, lambda: open_signer(configuration.sealer, base, SEALER_KEYS_FILE), take)
    op.output("log", sealed, sink)
    return dataflow
