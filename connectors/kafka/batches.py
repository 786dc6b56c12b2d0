"""Gives records to a client so that no partition has more of them waiting than go in one batch.

librdkafka 2.16 sends the next batch of a partition once the one before was answered, and waits for that answer in a
loop without rest: a thread takes a whole core while the broker is slow, which on the broker's own machine makes it
slower (decision 0016). With nothing left to send it sleeps.
"""

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from seawall.connectors.kafka.outage import allowed_s, is_over
from seawall.schemas.errors import BusError

# Within what librdkafka puts in one batch: a megabyte and 10,000 records.
BATCH_BYTES, BATCH_RECORDS = 900 * 1024, 5_000
RECORD_BYTES = 64  # of a record beside its own bytes, about
CALL_S = 1.0
Headers = list[tuple[str, str | bytes | None]]


class Batches:
    """Records on their way to a cluster.

    Parameters
    ----------
    producer
        Whose ``linger.ms`` is long: what is given to it waits for ``flush``.
    what
        Is written, for messages.
    outage_s
        How long to wait for a cluster that does not answer, in seconds.
    """

    def __init__(self, producer: Producer, what: str, outage_s: float) -> None:
        self._producer, self._what, self._outage_s = producer, what, outage_s
        self._waiting: dict[tuple[str, int], tuple[int, int]] = {}

    def add(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        delivered: Callable[[KafkaError | None, Message], Any],
    ) -> None:
        """Take one record; wait until what is under way was answered where a batch is full.

        Raises
        ------
        BusError
            The cluster takes no records.
        KafkaException
            The client refuses the record.
        """
        place = topic, partition
        count, size = self._waiting.get(place, (0, 0))
        more = RECORD_BYTES + len(key) + len(value) + sum(len(name) + len(text or "") for name, text in headers)
        if count == BATCH_RECORDS or (count and size + more > BATCH_BYTES):
            self.flush()
            count = size = 0
        self._waiting[place] = count + 1, size + more
        try:
            self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)
        except BufferError:  # many partitions have their batches here
            self.flush()
            self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)

    def flush(self) -> None:
        """Wait until the cluster answered for all records; what it answered, callbacks were told.

        Raises
        ------
        BusError
            It did not answer in time.
        """
        self._waiting.clear()
        deadline = time.monotonic() + self._outage_s
        while left := self._producer.flush(allowed_s(CALL_S)):
            if is_over(deadline):
                text = f"{left} records were not taken by the cluster in time; bring it back, and run this again"
                raise BusError(f"{self._what} cannot be written: {text}")
