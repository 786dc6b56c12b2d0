"""The properties of each broker: KRaft, controller and broker in one process, four listeners, access control lists.

Decides the names of the listeners: ``PLAIN`` (everybody there is a super user: this machine only), ``TLS`` (client
certificates required, the common name is the user), ``SASL`` (SCRAM-SHA-256 or OAUTHBEARER over TLS) and
``CONTROLLER``. On ``TLS`` and ``SASL`` nobody may do anything that no access control list allows.
"""

from pathlib import Path

LISTENERS = ("PLAIN", "TLS", "SASL", "CONTROLLER")
HOST = "127.0.0.1"
SCRAM = "SCRAM-SHA-256"
_PRINCIPAL = r"RULE:^CN=([^,]+).*$/$1/,DEFAULT"
_COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # A broker that was killed may come back when its session is over: nine seconds otherwise.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.segment.delete.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "transaction.max.timeout.ms": "900000",
    "transaction.state.log.num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    "ssl.client.auth": "none",
    "listener.name.tls.ssl.client.auth": "required",
    "ssl.principal.mapping.rules": _PRINCIPAL,
    "sasl.enabled.mechanisms": f"{SCRAM},OAUTHBEARER",
    "listener.name.sasl.scram-sha-256.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "listener.name.sasl.oauthbearer.sasl.jaas.config": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "false",
}


def server_properties(folder: Path, node: int, ports: list[dict[str, int]], extra: dict[str, str]) -> str:
    """Return the text of a broker's properties.

    Parameters
    ----------
    folder
        Of the cluster; certificates stand in ``tls`` there, each broker's data in ``data-NODE``.
    node
        Number of the broker, from 1.
    ports
        The ports of each broker by name of the listener.
    extra
        What goes beyond, or other than, what stands here.
    """
    brokers, mine = len(ports), ports[node - 1]
    listeners = ",".join(f"{name}://{HOST}:{port}" for name, port in mine.items())
    advertised = ",".join(f"{name}://{HOST}:{port}" for name, port in mine.items() if name != "CONTROLLER")
    voters = ",".join(f"{number}@{HOST}:{one['CONTROLLER']}" for number, one in enumerate(ports, 1))
    in_sync = str(min(2, brokers))
    settings = {
        **_COMMON,
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "listeners": listeners,
        "advertised.listeners": advertised,
        "log.dirs": str(folder / f"data-{node}"),
        "ssl.keystore.location": str(folder / "tls" / "broker.pem"),
        "ssl.truststore.location": str(folder / "tls" / "ca.pem"),
        "default.replication.factor": str(brokers),
        "offsets.topic.replication.factor": str(brokers),
        "transaction.state.log.replication.factor": str(brokers),
        "transaction.state.log.min.isr": in_sync,
        "min.insync.replicas": in_sync,
        **extra,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
