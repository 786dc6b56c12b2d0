"""Provision of a cluster: the topics of a journal, and who may do what with them.

Partitions follow from the configuration: one per shard for the journal, one more for what the firm step writes, one per
group for signals. A topic that exists with another number of partitions is refused, because a shard's records would go
elsewhere; so is one that compacts, or that lets a write count which only one of several brokers has.

`grants` lists the access control entries that a journal needs, role by role, and none beyond. Every role of Seawall may
read all topics of its journal, because it compares what it writes with what is stored; each may write only its own,
under transactions of its own names. Subscribers read what is signed, and write acknowledgements.
"""

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus._protocol import ANY_PARTITIONS, TOPICS
from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._cluster import Address, is_numbered
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.tables import nearest

# Topics of a journal on a cluster: made with the right partitions, and refused where they would lose records.

MESSAGE_BYTES = 1024 * 1024
CALL_S = 30.0


class TopicFinding(NamedTuple):
    """What is wrong with a topic, and what to do."""

    topic: str
    what: str


def topic_settings(clients: Clients, topic: str, brokers: int) -> tuple[int, dict[str, str]]:
    """Return the replication and the settings that a topic of ours is to have."""
    terms = clients.address.terms
    replication = terms.replication or min(3, brokers)
    in_sync = terms.min_insync_replicas or max(1, min(2, replication))
    # Of a topic of ours whose every record expired nobody knows how many there were: no run could start again.
    kept = terms.retention_hours and not is_numbered(topic)
    return replication, {
        "cleanup.policy": "delete",
        "retention.ms": str(terms.retention_hours * 3_600_000) if kept else "-1",
        "retention.bytes": "-1",
        "min.insync.replicas": str(in_sync),
        "max.message.bytes": str(MESSAGE_BYTES),
        # By the writer's clock a broker whose own is an hour behind refuses records.
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }


def provide_topics(
    clients: Clients, standing: Mapping[str, int], partitions: Mapping[str, int], make: bool
) -> list[str]:
    """Check that topics exist with so many partitions; with ``make``, make them where none does, and name these.

    Where only some are missing they were deleted, or are new in this version: a person decides (``topics create``).

    Parameters
    ----------
    standing
        Partitions by name on the cluster of what exists.
    partitions
        What is wanted, by our names; ``ANY`` of topics that others make.

    Raises
    ------
    UsageError
        A topic is missing, or has other partitions.
    """
    names = {topic: clients.address.topic(topic) for topic in partitions}
    missing = [topic for topic, name in names.items() if name not in standing]
    others = [names[topic] for topic in missing if partitions[topic] == ANY_PARTITIONS]
    if others:
        raise UsageError(f"the cluster has no topic {', '.join(others)}; correct [inputs] topics, or make it")
    deleted = make and 0 < len(missing) < sum(1 for count in partitions.values() if count != ANY_PARTITIONS)
    if missing and (deleted or not make):
        listed = ", ".join(names[topic] for topic in missing)
        raise UsageError(f"the cluster has no topic {listed}; make them with: seawall topics create CONFIG.toml")
    for topic, name in names.items():
        found = standing.get(name, partitions[topic])
        if found != partitions[topic] != ANY_PARTITIONS:
            text = f"{name} has {found} partitions where the configuration needs {partitions[topic]}"
            raise UsageError(f"{text}: set shards or groups back, or use another prefix in bus")
    if missing:
        create_topics(clients, {topic: partitions[topic] for topic in missing})
    return [names[topic] for topic in missing]


def create_topics(clients: Clients, partitions: Mapping[str, int]) -> None:
    """Make topics.

    Raises
    ------
    BusError
        The cluster refuses.
    """
    admin = clients.admin()
    brokers = len(_cluster(clients, admin).brokers)
    wanted = []
    for topic, count in partitions.items():
        replication, settings = topic_settings(clients, topic, brokers)
        wanted.append(NewTopic(clients.address.topic(topic), count, replication, config=settings))
    for name, made in admin.create_topics(wanted, operation_timeout=CALL_S).items():
        try:
            made.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # else another process was faster
                raise clients.failed(f"the topic {name} cannot be made", error) from error
    _await_leaders(clients, admin, {clients.address.topic(topic): count for topic, count in partitions.items()})


def _cluster(clients: Clients, admin: AdminClient) -> ClusterMetadata:
    """Return which brokers and topics there are."""
    try:
        return admin.list_topics(timeout=CALL_S)
    except KafkaException as error:
        raise clients.failed("topics cannot be listed", error, admin) from error


def _await_leaders(clients: Clients, admin: AdminClient, wanted: Mapping[str, int]) -> None:
    """Wait until every partition has a leader: before that it cannot be read or written."""
    deadline = time.monotonic() + CALL_S
    while time.monotonic() < deadline:
        topics = _cluster(clients, admin).topics
        led = {name: sum(part.leader >= 0 for part in topic.partitions.values()) for name, topic in topics.items()}
        if all(led.get(name) == count for name, count in wanted.items()):
            return
        time.sleep(0.05)


def check_topics(clients: Clients, standing: Mapping[str, int], partitions: Mapping[str, int]) -> list[TopicFinding]:
    """Return what is unsafe about topics: other partitions, records that are lost by age, size or compaction."""
    admin = clients.admin()
    names = {topic: clients.address.topic(topic) for topic, count in partitions.items() if count != ANY_PARTITIONS}
    found = [TopicFinding(names[topic], "does not exist") for topic in names if names[topic] not in standing]
    there = {topic: name for topic, name in names.items() if name in standing}
    if not there:
        return found
    cluster = _cluster(clients, admin)
    resources = {topic: ConfigResource(ResourceType.TOPIC, name) for topic, name in there.items()}
    described = admin.describe_configs(list(resources.values()), request_timeout=CALL_S)
    for topic, name in there.items():
        try:
            settings = {key: entry.value for key, entry in described[resources[topic]].result().items()}
        except KafkaException as error:
            raise clients.failed(f"settings of the topic {name} cannot be read", error) from error
        if standing[name] != partitions[topic]:
            found.append(TopicFinding(name, f"has {standing[name]} partitions, {partitions[topic]} are needed"))
        replicas = min(len(one.replicas) for one in cluster.topics[name].partitions.values())
        found += [
            TopicFinding(name, what) for what in _unsafe(clients, topic, settings, replicas, len(cluster.brokers))
        ]
    return found


def _unsafe(clients: Clients, topic: str, settings: dict[str, str], replicas: int, brokers: int) -> list[str]:
    replication, wanted = topic_settings(clients, topic, brokers)
    found = []
    if replicas < replication:
        found.append(f"has {replicas} replicas, {replication} are needed")
    if "compact" in settings["cleanup.policy"]:
        found.append("is compacted: records would vanish from the middle; set cleanup.policy=delete")
    if settings["message.timestamp.type"] != "LogAppendTime":
        found.append("refuses records when clocks differ by an hour: set message.timestamp.type=LogAppendTime")
    for name in ("retention.ms", "retention.bytes"):
        kept, needed = int(settings[name]), int(wanted[name])
        if kept != -1 and (needed == -1 or kept < needed):
            found.append(f"loses records: set {name}={needed}")
    if int(settings["min.insync.replicas"]) < int(wanted["min.insync.replicas"]):
        found.append(f"takes writes that one broker alone has: set min.insync.replicas={wanted['min.insync.replicas']}")
    if int(settings["max.message.bytes"]) < MESSAGE_BYTES:
        found.append(f"is too narrow for our records: set max.message.bytes={MESSAGE_BYTES}")
    if settings["unclean.leader.election.enable"] == "true":
        found.append("may lose what was written: set unclean.leader.election.enable=false")
    return found


# Access control lists, role by role: those that a journal needs, and none beyond.

# What each role writes; its transactions are named after the first partition that a writer of it has.
WRITES = {
    "market": ("signals",),
    "sequence": ("journal", "rejects"),
    "risk": ("exposures", "alerts", "breaches", "commands", "audit", "rejects", "state", "forecasts"),
    "seal": ("checkpoints",),
    "redrive": ("redrive",),  # whoever gives rejected records back
}
FOLLOWS_INPUTS = ("market", "sequence")
SIGNED = ("commands", "state", "checkpoints")
# On the cluster that a mirror writes it stands for all of them; on the one that it reads, ``verify`` is enough.
MIRRORS = ("signals", "redrive", "journal", "exposures", "checkpoints")
ROLES = (*WRITES, "mirror", "verify", "provision", "subscriber", "producer")
ELSEWHERE = "mirror"  # of the other region's cluster: on a run's own nobody may write everything


class Grant(NamedTuple):
    """One line of a list: who may do what to which topic, transactional id or cluster."""

    role: str
    operation: str
    resource: str
    name: str
    pattern: str = "literal"

    def command(self, servers: str, principal: str) -> str:
        """Return the command of Kafka's own tool that grants it."""
        where = {"topic": "--topic", "transactional_id": "--transactional-id"}.get(self.resource, "--cluster")
        what = [where] if self.resource == "cluster" else [where, f"'{self.name}'"]
        pattern = ["--resource-pattern-type", "prefixed"] if self.pattern == "prefixed" else []
        head = ["kafka-acls.sh", "--bootstrap-server", servers, "--add", "--allow-principal", f"'User:{principal}'"]
        return " ".join([*head, "--operation", self.operation, *what, *pattern])

    def binding(self, principal: str) -> AclBinding:
        """Return it as confluent-kafka's admin client takes it."""
        return AclBinding(
            ResourceType[self.resource.upper() if self.resource != "cluster" else "BROKER"],
            self.name,
            ResourcePatternType[self.pattern.upper()],
            f"User:{principal}",
            "*",
            AclOperation[_SNAKE.get(self.operation, self.operation.upper())],
            AclPermissionType.ALLOW,
        )


_SNAKE = {"DescribeConfigs": "DESCRIBE_CONFIGS"}


def grants(address: Address, configuration: Configuration, role: str = "") -> list[Grant]:
    """Return what a role of a configuration needs, or each one on the run's own cluster.

    Raises
    ------
    UsageError
        There is no such role.
    """
    if role and role not in ROLES:
        raise UsageError(f"--role {role}: there is no such role; did you mean {nearest(role, ROLES)!r}?")
    wanted = {role} if role else set(ROLES) - {ELSEWHERE}
    return [grant for grant in _all_grants(address, configuration) if grant.role in wanted]


def _all_grants(address: Address, configuration: Configuration) -> list[Grant]:
    ours = [address.topic(name) for name in TOPICS]
    inputs = [address.topic(name) for name in configuration.topics]
    found = []
    for role in (*WRITES, "verify"):
        found += [Grant(role, "Read", "topic", name) for name in ours]
        found += [Grant(role, "Write", "topic", address.topic(name)) for name in WRITES.get(role, ())]
        names = [f"{address.topic(WRITES[role][0])}-"] if role in WRITES else []
        found += [Grant(role, act, "transactional_id", name, "prefixed") for name in names for act in _TRANSACT]
        found += [Grant(role, "Read", "topic", name) for name in inputs if name not in ours and role in FOLLOWS_INPUTS]
        found += [Grant(role, "Describe", "topic", name) for name in inputs if role not in (*FOLLOWS_INPUTS, "verify")]
    found += [Grant("mirror", act, "topic", name) for name in ours for act in ("Read", "Write")]
    names = [f"{address.topic(name)}-" for name in MIRRORS]
    found += [Grant("mirror", act, "transactional_id", name, "prefixed") for name in names for act in _TRANSACT]
    for operation in ("Create", "Describe", "DescribeConfigs", "Alter"):
        found += [Grant("provision", operation, "topic", name) for name in ours]
    found += [Grant("provision", "Describe", "topic", name) for name in inputs]
    found += [Grant("subscriber", "Read", "topic", address.topic(name)) for name in SIGNED]
    found.append(Grant("subscriber", "Write", "topic", address.topic("acknowledgements")))
    return found + [Grant("producer", "Write", "topic", name) for name in inputs]


_TRANSACT = ("Write", "Describe")
