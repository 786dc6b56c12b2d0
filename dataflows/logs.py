"""The sealed logs as a Bytewax sink (`seawall.dataflows.publishing`)."""

import logging
from collections.abc import Callable

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from seawall.connectors.failures import failures, noted
from seawall.dataflows.publishing import LogPublisher, open_log
from seawall.operators.core.sealing import Sealed
from seawall.schemas.configuration import Configuration
from seawall.schemas.dsse import Signer
from seawall.schemas.errors import SeawallError

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

    @noted
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_LogPartition":
        """Become the writer of one log."""
        return _LogPartition(open_log(self._configuration, int(for_part), self._signer(), self._take))


class _LogPartition(StatefulSinkPartition[Sealed, None]):
    def __init__(self, publisher: LogPublisher) -> None:
        self._publisher = publisher

    @noted
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
