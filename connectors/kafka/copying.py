"""Copying a partition of other people's records to a cluster, so that each stands at the offset that it had.

A journal names such records by their offsets. Transactions would put marks between them, so they are produced without:
idempotent, acknowledged by all replicas, and each delivery report is held against the offset that the record must get.
"""

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from seawall.connectors.kafka.batches import Batches, Headers
from seawall.connectors.kafka.clients import Clients
from seawall.schemas.errors import BusError


class CopyWriter:
    """The one writer of partitions that nobody else writes meanwhile; what it flushed stands.

    Parameters
    ----------
    clients
        Of the cluster.
    end_of
        Returns the offset after the last record of a partition.
    partitions
        Topic and partition.
    """

    def __init__(self, clients: Clients, end_of: Callable[[str, int], int], partitions: list[tuple[str, int]]) -> None:
        self._clients = clients
        self._ends = {place: end_of(*place) for place in partitions}
        self._names = {topic: clients.address.topic(topic) for topic, _ in partitions}
        self._producer, what = clients.plain_producer(), f"{partitions[0][0]}/{partitions[0][1]}"
        self._batches = Batches(self._producer, what, clients.address.terms.outage_s)
        self._failures: list[BusError] = []

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        """Hand one record to the client; ``flush`` says whether it stands, and where it must."""
        offset = self._ends[topic, partition]
        self._ends[topic, partition] = offset + 1
        pairs: Headers = [(name, text.encode()) for name, text in headers.items()]

        def delivered(error: KafkaError | None, message: Any) -> None:
            place = f"{topic}/{partition}"
            if error is not None:
                self._failures.append(self._clients.failed(f"{place} cannot be written", error))
            elif message.offset() != offset:
                text = f"record {offset} of {place} came to stand at {message.offset()}: somebody else writes there"
                self._failures.append(BusError(f"{text}; make the topic anew, and keep others from it until this ends"))

        try:
            self._batches.add(self._names[topic], partition, key.encode(), value, pairs, delivered)
        except KafkaException as error:
            raise self._clients.failed(f"{topic}/{partition} cannot be written", error) from error

    def submit(self) -> None:
        """Make everything appended durable, as ``flush``."""
        self.flush()

    def is_idle(self) -> bool:
        """Return True: ``submit`` waits for its records."""
        return True

    def flush(self) -> None:
        """Wait until everything appended stands where it must; raises BusError where it does not."""
        self._batches.flush()
        if self._failures:
            raise self._failures[0]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record, those not flushed yet included."""
        return self._ends[topic, partition]

    def close(self) -> None:
        """Let go of the client."""
        self._producer.purge()
        self._producer.flush(1)
