"""Hot standby: processes that wait beside the one that writes, and take over when it is gone.

``risk`` computes along and appends what is missing (``connectors/bus/_replica.py``); ``sequence`` and ``seal`` wait,
because what they would write depends on when they do it. The wait ends on the embedded bus when the writer's lock is
free, which it is as soon as its process is dead; on a cluster when nothing was written for ``takeover_s`` although it
was due: a live journal grows every second, and what was audited is to be sealed.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from seawall.connectors.bus import Bus, Patience, Replica, cluster_of
from seawall.connectors.transparency_log import last_checkpoint
from seawall.dataflows import Sequencer, check_compatibility, fold_journal
from seawall.operators.core.journal import JournalState
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import PartitionLocked

LOOK_S = 0.1
RETRY_S = 0.02  # between two looks at a lock

log = logging.getLogger("seawall")


class StandbySequencer:
    """Waits for the journal to be nobody's, then cuts it.

    Parameters
    ----------
    configuration, bus
        As of ``Sequencer``.
    replica
        This process's name, and when a cluster's sequencer is overdue.
    begun
        Is called when this process has become the sequencer.
    """

    def __init__(
        self, configuration: Configuration, bus: Bus, replica: Replica, begun: Callable[[], None] = lambda: None
    ) -> None:
        self._configuration, self._bus, self._replica, self._begun = configuration, bus, replica, begun
        self._sequencer: Sequencer | None = None
        self._standing: JournalState | None = None

    @property
    def slices(self) -> int:
        """Slices that this process has cut."""
        return 0 if self._sequencer is None else self._sequencer.slices

    @property
    def events(self) -> int:
        """Records that this process has taken."""
        return 0 if self._sequencer is None else self._sequencer.events

    def run(self, stop: threading.Event) -> None:
        """Wait, folding the journal as it grows, then work until ``stop`` is set."""
        shards = range(self._configuration.shards)
        overdue = Overdue(lambda: sum(self._bus.end("journal", shard) for shard in shards), self._replica.takeover_s)
        follower, fences = self._bus.follow("journal"), cluster_of(self._bus).fences
        while not stop.is_set():
            self._standing = fold_journal(self._bus, len(shards), self._standing, follower)
            if fences and not overdue():
                stop.wait(LOOK_S)
                continue
            try:
                check_compatibility(self._bus, self._configuration)
                self._sequencer = Sequencer(self._configuration, self._bus, take=True, standing=self._standing)
            except PartitionLocked:
                stop.wait(LOOK_S)
                continue
            log.warning("replica %s cuts the journal from now on", self._replica.name)
            self._begun()
            self._sequencer.run(stop)
            return

    def close(self) -> None:
        """Let the journal go."""
        if self._sequencer is not None:
            self._sequencer.close()


class Overdue:
    """Tells that a number has not changed for some seconds; ``due`` tells whether it should have.

    Examples
    --------
    >>> overdue = Overdue(lambda: 7, 0.0)
    >>> overdue(), overdue()
    (False, True)
    """

    def __init__(self, number: Callable[[], int], after_s: float, due: Callable[[], bool] = lambda: True) -> None:
        self._number, self._due = number, due
        self._last, self._patience = -1, Patience(after_s)

    def __call__(self) -> bool:
        """Look again."""
        number = self._number()
        if number != self._last or not self._due():
            self._last = number
            self._patience.begin()
            return False
        return self._patience.ends()


def wait_to_seal(
    configuration: Configuration,
    bus: Bus,
    replica: Replica,
    finished: Callable[[], bool] | None,
    stopped: Callable[[], bool],
) -> bool:
    """Return True when nobody seals: no writer of checkpoints lives, or what was audited stays unsealed.

    False when this process is to stop. One that has decided on all that it will (``finished``) stops once that is
    sealed, by whomever: were it the last one, nobody else would seal what it has audited.
    """
    partitions = range(configuration.shards + 1)
    places = [("checkpoints", partition) for partition in partitions]
    fences = cluster_of(bus).fences
    left: int | None = None  # what is to be sealed before this process may stop

    def sealed() -> int:
        found = [last_checkpoint(bus, partition)[1] for partition in partitions]
        return sum(checkpoint.size for checkpoint in found if checkpoint is not None)

    def audited() -> int:
        return sum(bus.end("audit", partition) for partition in partitions)

    # Several find it overdue at the same moment; who opens the logs last fences the others.
    overdue = Overdue(
        sealed,
        replica.takeover_s * random.uniform(1.0, 2.0),
        lambda: audited() > sealed(),
    )
    while not stopped() and not replica.overdue():
        if finished is not None and finished():
            left = audited() if left is None else left
            if sealed() >= left:
                return False
        if fences and overdue():
            return True
        if not fences:
            try:
                bus.writer(places, take=True).close()
                return True
            except PartitionLocked:
                pass
        time.sleep(RETRY_S)
    return False
