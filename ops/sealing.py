"""The ``seal`` part of ``seawall run``: the sealer on Bytewax in a thread beside the others.

Before it starts, what stands is looked at: where audit records or tiles are missing, or the recovery store is of
another bus, the recovery store is set aside, and the log is built again from its start and compared with what was
sealed. What is still missing at the end stops the run.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from seawall.connectors.bus import Bus
from seawall.connectors.failures import failures, own_error
from seawall.connectors.logs import check_whole, is_standing
from seawall.connectors.recovery import open_recovery, set_aside, store_error
from seawall.connectors.replica import Replica
from seawall.ops.preparing import SEAL_RECOVERY, store_of
from seawall.ops.standby import wait_to_seal
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import PartitionLocked, SnapshotError

log = logging.getLogger("seawall")
EPOCH = timedelta(seconds=1)


class SealThread(threading.Thread):
    """Seals until the audit is complete or the run stops.

    Parameters
    ----------
    finished
        Tells that no more audit records will come; None: records say so themselves.
    stopped
        Tells that the run is to stop.
    failed
        Is told what went wrong.
    replica
        Wait until nobody else seals.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        finished: Callable[[], bool] | None,
        stopped: Callable[[], bool],
        failed: Callable[[BaseException], None],
        replica: Replica | None = None,
    ) -> None:
        super().__init__(name="seal")
        self._configuration, self._bus = configuration, bus
        self._finished, self._stopped, self._failed = finished, stopped, failed
        self._replica = replica
        self._store = store_of(configuration, replica, SEAL_RECOVERY)
        self.seconds = 0.0
        if replica is None:
            _check_recovery(self._store, configuration, bus)

    def run(self) -> None:
        """Run the dataflow."""
        started = time.thread_time()
        try:
            if self._replica is None:
                self._seal_whole()
            else:
                self._take_turns(self._replica)
        except BaseException as error:
            self._failed(error)
        self.seconds = round(time.thread_time() - started, 3)

    def _take_turns(self, replica: Replica) -> None:
        """Wait until nobody seals, and seal; who is displaced waits again, because it may have been only slow."""
        while wait_to_seal(self._configuration, self._bus, replica, self._finished, self._stopped):
            _check_recovery(self._store, self._configuration, self._bus)
            try:
                self._seal_whole()
                return
            except BaseException as error:
                displaced = own_error(error)
                if not isinstance(displaced, PartitionLocked):
                    raise
                if displaced in failures:
                    failures.remove(displaced)
                log.warning("replica %s seals no longer: %s", replica.name, displaced)

    def _seal_whole(self) -> None:
        """Seal; a recovery store that cannot be read is set aside once and the log is sealed again."""
        try:
            self._seal()
        except SnapshotError as error:
            kept = set_aside(self._store).name
            log.warning("%s; it is kept as %s and the log is sealed again", error, kept)
            self._seal()

    def _seal(self) -> None:
        from bytewax.run import cli_main

        from seawall.dataflows.seal import build

        recovery = open_recovery(self._store)
        flow = build(self._configuration, self._finished, self._stopped, self._replica is not None)
        try:
            cli_main(flow, epoch_interval=EPOCH, recovery_config=recovery)
        except BaseException as error:
            if own_error(error) is None and (failed := store_error(self._store, error)) is not None:
                raise failed from error
            raise
        for partition in range(0 if self._stopped() else self._configuration.shards + 1):
            check_whole(self._bus, partition)


def _check_recovery(folder: Path, configuration: Configuration, bus: Bus) -> None:
    """Set the recovery store aside where it does not go with what stands."""
    partitions = range(configuration.shards + 1)
    sound = all(is_standing(bus, configuration.directory, partition) for partition in partitions)
    if folder.exists() and not (sound and bus.topics()):
        log.warning("the logs are sealed again from their start; the old recovery store is %s", set_aside(folder).name)
