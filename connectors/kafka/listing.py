"""Which topics a cluster has and how many partitions each: asked now and then by whoever follows new ones.

A cluster that has answered before, whoever asked in this process, is waited for, as by everything else that reads and
writes. One that never did is given ``CALL_S``: a wrong address, or a broker that nobody started, is to be told soon.
"""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin._metadata import ClusterMetadata

from seawall.connectors.kafka.absence import Absence
from seawall.connectors.kafka.clients import Clients
from seawall.connectors.kafka.outage import allowed_s, is_over

CALL_S = 30.0
MOVING = (
    # What Kafka's protocol calls retriable of a leader that changes, fails or is new.
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._DESTROY_BROKER,  # the client lets go of a broker that has died, and what was asked of it with it
)
MOVING_S = 0.1
_answered: set[str] = set()  # addresses of clusters that have answered: each dataflow of a run has a listing of its own


class Listing:
    """What one reader knows of the topics of a cluster.

    Parameters
    ----------
    clients
        Of the cluster.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._seen: set[str] = set()  # names on the cluster of topics that were asked for and had partitions

    def partitions(self, client: Consumer, topic: str | None = None) -> dict[str, int]:
        """Return how many partitions each topic has, or one of them, by its name on the cluster.

        What had some is looked for again for a while: a broker that has just started may not know of it yet.

        Parameters
        ----------
        client
            Who is asked.

        Raises
        ------
        BusError
            The cluster does not answer, refuses, or the one that is asked for was deleted.
        """
        found, deadline = self._listed(client, topic), self._deadline()  # which an outage before it takes nothing from
        lost = (self._seen if topic is None else self._seen & {topic}) - found.keys()
        absence = Absence((name, 0) for name in lost)
        while lost and not absence.is_final and not is_over(deadline):
            time.sleep(MOVING_S)
            if absence.is_over(client):
                found, lost = self._listed(client, topic), set()
        self._seen -= lost
        if topic in lost:
            gone = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
            raise self._clients.failed(f"the topic {topic} cannot be read", gone)
        if topic in found:
            self._seen.add(topic)
        return found

    def cluster(self, client: Consumer) -> str:
        """Return the id of the cluster, where it tells none our address of it."""
        return self._asked(client, None).cluster_id or self._clients.address.servers

    def _listed(self, client: Consumer, topic: str | None) -> dict[str, int]:
        """Return how many partitions each topic has by what the cluster says now."""
        found = self._asked(client, topic).topics
        for one in found.values():
            if one.error is not None and one.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise self._clients.failed(f"the topic {one.topic} cannot be read", one.error)
        return {name: len(one.partitions) for name, one in found.items() if one.error is None}

    def _asked(self, client: Consumer, topic: str | None) -> ClusterMetadata:
        """Ask until the cluster answers, at most ``outage_s``; once only where it never did."""
        deadline = self._deadline()
        while True:
            call_s = allowed_s(min(CALL_S, max(MOVING_S, deadline - time.monotonic())))
            try:
                found: ClusterMetadata = client.list_topics(topic, timeout=call_s)
            except KafkaException as error:
                waits = self._clients.address.servers in _answered and error.args[0].code() in MOVING
                if not waits or is_over(deadline):
                    raise self._clients.failed("topics cannot be listed", error, client) from error
                time.sleep(MOVING_S)
            else:
                _answered.add(self._clients.address.servers)
                return found

    def _deadline(self) -> float:
        return time.monotonic() + self._clients.address.terms.outage_s
