"""Topics of a cluster: which there are, whether one was deleted, and whether one is still the same.

- `TopicListing` asks now and then for topics and their partitions. A cluster that has answered before is waited for;
  one that never did is given ``IDS_CALL_S``, because a wrong address is to be reported soon.
- `PartitionLoss` tells a deleted partition from one that a broker does not name for the moment. A broker that starts
  again, or hears late of a topic or a new leader, answers for a while as if the topic did not exist. Only the time
  counts during which the cluster answered without it; after ``UNKNOWN_S`` of that the topic was deleted.
- `TopicIds` keeps the id of every topic that is followed in a file beside the run: of a topic that was deleted and made
  anew, offsets name other records. Who lost these files goes on at the offsets of before; that is logged.
"""

import contextlib
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._metadata import ClusterMetadata

from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import allowed_call_s, is_deadline_over
from seawall.connectors.files import write_atomically
from seawall.schemas.errors import BusError

# A partition that a client calls unknown: gone, or only not named for the moment.
#
# A broker that starts again, or hears late of a topic or a new leader, answers for a while as if the topic did not
# exist. Only the time counts during which the cluster answered, each time without it: no answer says nothing. After
# ``UNKNOWN_S`` of that the topic was deleted; before, whoever needs it waits and asks anew. To whoever follows a topic
# that is deleted the client says nothing at all: after ``SILENT_S`` without a record he has to ask.

UNKNOWN = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
UNKNOWN_S = 15.0  # brokers hear of topics one after the other: of new ones, and of all when they start again
SILENT_S = 15.0
ASK_AGAIN_S = 0.2
LOSS_CALL_S = 2.0


class PartitionLoss:
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
        """Ask the cluster, at most every ``IDS_ASK_AGAIN_S``; tell whether it names all of them."""
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
            found = client.list_topics(names.pop() if len(names) == 1 else None, timeout=LOSS_CALL_S).topics
            return {name: len(topic.partitions) for name, topic in found.items() if topic.error is None}
        return None


# Which topics a cluster has and how many partitions each: asked now and then by whoever follows new ones.
#
# A cluster that has answered before, whoever asked in this process, is waited for, as by everything else that reads and
# writes. One that never did is given ``IDS_CALL_S``: a wrong address, or a broker that nobody started, is to be told
# soon.

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


class TopicListing:
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
        absence = PartitionLoss((name, 0) for name in lost)
        while lost and not absence.is_final and not is_deadline_over(deadline):
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
            call_s = allowed_call_s(min(CALL_S, max(MOVING_S, deadline - time.monotonic())))
            try:
                found: ClusterMetadata = client.list_topics(topic, timeout=call_s)
            except KafkaException as error:
                waits = self._clients.address.servers in _answered and error.args[0].code() in MOVING
                if not waits or is_deadline_over(deadline):
                    raise self._clients.failed("topics cannot be listed", error, client) from error
                time.sleep(MOVING_S)
            else:
                _answered.add(self._clients.address.servers)
                return found

    def _deadline(self) -> float:
        return time.monotonic() + self._clients.address.terms.outage_s


# Whether a topic is still the one that was read: of one that was deleted and made anew, offsets name other records.
#
# A cluster gives every topic an id. It is kept beside the run, a file for each topic and reader, so that a run that
# begins again notices too. Who lost these files, or brought a run to another cluster, goes on at the offsets of before;
# that is logged.

log = logging.getLogger("seawall")
IDS_CALL_S = 10.0
IDS_ASKED_MAX, IDS_ASK_AGAIN_S = 3, 1.0  # of several brokers one may have heard late of what the others know
UNTOLD = "AAAAAAAAAAAAAAAAAAAAAA"  # what a cluster says that has no ids


class TopicIds:
    """The ids of topics that one reader follows.

    Parameters
    ----------
    clients
        Of the cluster.
    folder
        Where ids are kept, of this cluster and reader alone: another one may not have begun yet.
    """

    def __init__(self, clients: Clients, folder: Path) -> None:
        self._clients, self._folder = clients, folder
        self._admin: AdminClient | None = None

    def begin(self, name: str, begun: bool) -> None:
        """Check as below, before anything is read; where records were taken and none told of which topic, say so."""
        if begun and not (self._folder / name).exists():
            text = "%s is read on at the offsets of a run of before, but nothing in %s tells which topic that run read"
            text = f"{text}: of one made anew since, or on another cluster, the first records are passed over; give"
            log.warning(f"{text} such a topic another name", name, self._folder)
        self.check(name, begun)

    def check(self, name: str, begun: bool) -> None:
        """Compare the id of a topic with the one that was noted first; where the cluster does not answer, do nothing.

        Parameters
        ----------
        name
            What it is called on the cluster.
        begun
            Whether any record of it was taken; where none was, another id is noted.

        Raises
        ------
        BusError
            It was deleted and made anew since, or its id cannot be kept.
        """
        path, found = self._folder / name, b""
        for attempt in range(IDS_ASKED_MAX):
            time.sleep(IDS_ASK_AGAIN_S if attempt else 0)
            found = self._ask(name)
            try:
                noted = path.read_bytes() if path.exists() else b""
                if found and noted != found and not (noted and begun):
                    write_atomically([(path, found)])
                    return
            except OSError as error:
                raise BusError(f"{path} cannot be kept ({error.strerror}); make its folder writable") from error
            if found in (noted, b""):
                return
        then, now = noted.decode(errors="replace"), found.decode()
        text = f"the topic {name} was deleted and made anew since it was read (id {then} then, {now} now)"
        text = f"{text}, so its first records would be passed over; send them to a topic of another name, or, to go on"
        raise BusError(f"{text} at the offsets reached, remove {path}, and its like of other processes and hosts")

    def _ask(self, name: str) -> bytes:
        """Return the id that the cluster has for a topic now, empty where it does not tell."""
        if self._admin is None:
            self._admin = self._clients.admin()
        with contextlib.suppress(KafkaException, TimeoutError):
            asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=IDS_CALL_S)[name]
            found = str(asked.result(2 * IDS_CALL_S).topic_id)
            return b"" if found == UNTOLD else found.encode()
        return b""
