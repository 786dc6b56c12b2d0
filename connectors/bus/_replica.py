"""Hot replicas: every one computes every slice, one of them appends (architecture.md, "Exactly once").

Who appends holds the lease of a partition, which is being its writer. The others keep what they computed until the
audit confirms it: the audit record of a slice is chained to all before it and states the digest of every value that
went to the other topics, so one comparison covers them all. When the holder is gone, another becomes the writer, drops
what stands and appends the rest; it has computed it already.

- On the embedded bus the lease is a lock of the operating system, free the moment its process is dead. A holder that
  lives and hangs keeps it: end that process.
- On a cluster a holder that leaves a slice unappended for ``takeover_s`` is fenced by its successor, dead or not: its
  next transaction fails and writes nothing. Taking over from one that was only slow loses nothing and repeats nothing.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from bytewax.outputs import StatefulSinkPartition

from seawall.connectors.bus._engine import noting_failures
from seawall.connectors.bus._protocol import Bus, Writer, cluster_of
from seawall.schemas.errors import Divergence, PartitionLocked
from seawall.schemas.records import Stored

log = logging.getLogger("seawall")
TAKEOVER_S = 2.0
RETRY_S = 0.02  # between two looks at a lock, or at what the holder has appended
AHEAD_RECORDS = 500

Sink = StatefulSinkPartition[Any, None]


class Replica(NamedTuple):
    """How this process takes part.

    Parameters
    ----------
    name
        Of the process, in its recovery stores and what it logs.
    takeover_s
        After how many seconds a cluster's holder is overdue.
    stopped
        Tells that what only waits is to stop.
    overdue
        Tells that what was computed is to be left to the next run.
    """

    name: str
    takeover_s: float = TAKEOVER_S
    stopped: Callable[[], bool] = lambda: False
    overdue: Callable[[], bool] = lambda: False


class Patience:
    """Seconds that somebody else is given, which count only while this process looks on.

    A process that was held up itself (stopped, swapped out, its machine asleep) has not seen what the others did
    meanwhile: one that wakes would displace its successor.

    Parameters
    ----------
    seconds
        How long to wait; what lies between two looks counts at most for a quarter of it.

    Examples
    --------
    >>> patience = Patience(0.0)
    >>> patience.ends()
    True
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self.begin()

    def begin(self) -> None:
        """Wait anew."""
        self._looked, self._waited = self._clock(), 0.0

    def ends(self) -> bool:
        """Look, and tell whether the wait is over."""
        now = self._clock()
        self._waited += min(now - self._looked, self._seconds / 4)
        self._looked = now
        return self._waited >= self._seconds


class ReplicaPartition(StatefulSinkPartition[Any, None]):
    """Follows one partition of the derived topics until it may write them.

    Parameters
    ----------
    bus
        Where the holder appends.
    places
        The partitions of the lease, those of one number in every topic.
    begin
        Makes the sink that appends, of a writer.
    terms
        Of this replica.
    """

    def __init__(
        self, bus: Bus, places: list[tuple[str, int]], begin: Callable[[Writer], Sink], terms: Replica
    ) -> None:
        self._bus, self._places, self._begin, self._terms = bus, places, begin, terms
        self._partition, self._follower = places[0][1], bus.follow("audit")
        self._sink: Sink | None = None
        self._waiting: deque[Any] = deque()  # computed, and not seen in the audit yet
        self._ahead: deque[Stored] = deque()  # of the audit, beyond what was computed
        self._patience, self._tried = Patience(terms.takeover_s), time.monotonic()

    @noting_failures
    def write_batch(self, items: list[Any]) -> None:
        """Write as the holder; else keep what was computed and compare what the holder has appended."""
        if self._sink is None:
            if not self._waiting:
                self._patience.begin()
            self._waiting.extend(items)
            self._follow()
            return
        self._sink.write_batch(items)

    @noting_failures
    def snapshot(self) -> None:
        """Return once all that was computed stands: a state that is kept must not be ahead of the topics.

        Also when the run is to stop: what the holder leaves out then is appended here, or nobody would.
        """
        while self._sink is None and self._waiting and not self._terms.overdue():
            self._follow()
            if self._waiting:
                time.sleep(RETRY_S)
        if self._sink is not None:
            self._sink.snapshot()
        elif self._waiting:
            log.warning("replica %s stops before the holder of %d has caught up", self._terms.name, self._partition)

    def close(self) -> None:
        """Let the partitions go."""
        if self._sink is not None:
            self._sink.close()
        else:
            self._bus.close()

    def _follow(self) -> None:
        """Compare what arrived; where the holder owes something, become the writer if that may be."""
        self._compare(self._follower.poll)
        if not self._waiting:
            return
        if self._patience.ends() if cluster_of(self._bus).fences else time.monotonic() - self._tried > RETRY_S:
            self._tried = time.monotonic()
            self._take_over()

    def _compare(self, read: Callable[..., list[Stored]]) -> None:
        """Drop the slices whose audit stands, as this replica computed it; ``read`` reads the audit."""
        while self._waiting:
            last = self._waiting[0].records["audit"][-1]
            if not self._ahead or self._ahead[-1].offset < last.n:
                self._ahead = deque(read(self._partition, last.n, AHEAD_RECORDS))
            while self._ahead and self._ahead[0].offset < last.n:
                self._ahead.popleft()
            if not self._ahead:
                return
            found = self._ahead.popleft()
            if found.value != last.value:
                where = f"audit/{self._partition} offset {found.offset} holds {found.headers.get('seawall-id')}"
                text = f"{where}, which is not what replica {self._terms.name} computed for {last.id}"
                raise Divergence(f"{text}; run `seawall verify` and `seawall replay` to see which is wrong")
            self._waiting.popleft()
            self._patience.begin()

    def _take_over(self) -> None:
        """Become the writer and append what is missing; leave all as it is where the holder's lock still stands."""
        try:
            writer = self._bus.writer(self._places, take=True)
        except PartitionLocked:
            return
        self._sink = self._begin(writer)
        writer.end("audit", self._partition)  # from here on nobody else appends
        self._compare(
            partial(self._bus.read, "audit")
        )  # what came meanwhile, whose signatures may differ from those of this replica
        log.warning("replica %s appends to partition %d from now on", self._terms.name, self._partition)
        self._sink.write_batch(list(self._waiting))
        self._waiting.clear()
        self._ahead.clear()
