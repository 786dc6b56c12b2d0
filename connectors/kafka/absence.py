"""A partition that a client calls unknown: gone, or only not named for the moment.

A broker that starts again, or hears late of a topic or a new leader, answers for a while as if the topic did not exist.
Only the time counts during which the cluster answered, each time without it: no answer says nothing. After
``UNKNOWN_S`` of that the topic was deleted; before, whoever needs it waits and asks anew. To whoever follows a topic
that is deleted the client says nothing at all: after ``SILENT_S`` without a record he has to ask.
"""

import contextlib
import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

UNKNOWN = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
UNKNOWN_S = 15.0  # brokers hear of topics one after the other: of new ones, and of all when they start again
SILENT_S = 15.0
ASK_AGAIN_S = 0.2
CALL_S = 2.0


class Absence:
    """Watches partitions that a client called unknown.

    Parameters
    ----------
    places
        Names on the cluster, and partitions.
    """

    def __init__(self, places: Iterable[tuple[str, int]]) -> None:
        self._places = frozenset(places)
        self._answered_at: float | None = None
        self._lasted_s = 0.0
        self._asked_at = -ASK_AGAIN_S

    @property
    def is_final(self) -> bool:
        """Whether the cluster has answered without one of them for so long that it was deleted."""
        return self._lasted_s > UNKNOWN_S

    def is_over(self, client: Consumer | Producer) -> bool:
        """Ask the cluster, at most every ``ASK_AGAIN_S``; tell whether it names all of them."""
        if time.monotonic() - self._asked_at < ASK_AGAIN_S:
            return False
        found = self._partitions(client)
        self._asked_at = now = time.monotonic()
        if found is None:
            self._answered_at = None
            return False
        if all(partition < found.get(name, 0) for name, partition in self._places):
            self._lasted_s, self._answered_at = 0.0, None
            return True
        self._lasted_s += now - self._answered_at if self._answered_at is not None else 0.0
        self._answered_at = now
        return False

    def _partitions(self, client: Consumer | Producer) -> dict[str, int] | None:
        """Return how many partitions each topic has by what the cluster says now; None where it does not answer."""
        names = {name for name, _ in self._places}
        with contextlib.suppress(KafkaException):
            found = client.list_topics(names.pop() if len(names) == 1 else None, timeout=CALL_S).topics
            return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}
        return None
