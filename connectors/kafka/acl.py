"""Who may do what on a cluster, role by role: the access control lists that a journal needs, and none beyond.

Every role of Seawall may read all topics of its journal, because it compares what it writes with what stands; each may
write only its own, under transactions of its own names. Subscribers read what is signed, and write acknowledgements.
"""

from typing import NamedTuple

from confluent_kafka.admin._acl import AclBinding, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from seawall.connectors.bus import TOPICS
from seawall.connectors.kafka.address import Address
from seawall.schemas.configuration import Configuration

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
ELSEWHERE = ("mirror",)  # of the other region's cluster: on a run's own nobody may write everything


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


def grants(address: Address, configuration: Configuration) -> list[Grant]:
    """Return what each role of a configuration needs."""
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
