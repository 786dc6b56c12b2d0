"""Flink's own Kafka source on one of Seawall's topics: every partition from a place on, committed records only."""

import json
from pathlib import Path
from typing import Any

from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetResetStrategy,
    KafkaOffsetsInitializer,
    KafkaSource,
    KafkaTopicPartition,
)

from seawall.connectors.kafka.address import Address, parse_address
from seawall.connectors.kafka.clients import secret
from seawall.connectors.kafka.reader import Reader
from seawall.schemas.errors import UsageError
from seawall.schemas.kafka import KafkaTerms


def check_connector() -> None:
    """Check that Java finds the Kafka connector.

    Raises
    ------
    UsageError
        It does not.
    """
    try:
        KafkaSource.builder()
    except TypeError as error:  # what PyFlink makes of a Java class that is not there
        text = "the Kafka connector is not on the class path: --jar=PATH, or put it into Flink's lib"
        raise UsageError(text) from error


def topic_source(url: str, base: Path, topic: str, starts: dict[int, int], reader: Reader, bounded: bool) -> Any:
    """Return a source of values.

    Parameters
    ----------
    url, base
        The bus, and the folder that its settings are relative to.
    topic
        Seawall's name of the topic.
    starts
        By partition the first record that is needed; some before it may come as well. All partitions are listed.
    reader
        Finds records on the cluster.
    bounded
        End at what the cluster holds now, instead of never.
    """
    address = parse_address(url, base)
    name = address.topic(topic)
    offsets = {
        KafkaTopicPartition(name, partition): reader.locate(topic, partition, start)[0] if start else 0
        for partition, start in starts.items()
    }
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(address.servers)
        .set_group_id(f"seawall-flink-{name}")
        .set_partitions(set(offsets))
        .set_starting_offsets(KafkaOffsetsInitializer.offsets(offsets, KafkaOffsetResetStrategy.NONE))
        .set_value_only_deserializer(ByteArraySchema())
    )
    for key, text in _properties(address).items():
        builder = builder.set_property(key, text)
    if bounded:
        builder = builder.set_bounded(KafkaOffsetsInitializer.latest())
    return builder.build()


def _properties(address: Address) -> dict[str, str]:
    """Return the Java client's properties that mean what ``[kafka]`` says."""
    terms = address.terms
    encrypted = terms.tls or bool(terms.ca or terms.certificate)
    protocol = ("SASL_" if terms.sasl else "") + ("SSL" if encrypted else "PLAINTEXT")
    found = {
        "isolation.level": "read_committed",
        "commit.offsets.on.checkpoint": "false",  # where a job stands is in its checkpoints, and nowhere else
        "partition.discovery.interval.ms": "-1",
        "security.protocol": protocol,
    }
    if terms.ca:
        found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(_path(terms, terms.ca))}
    if terms.certificate:
        chain, key = (_path(terms, name).read_text() for name in (terms.certificate, terms.key))
        found |= {"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": chain, "ssl.keystore.key": key}
        if password := secret(terms, "key_password"):
            found["ssl.key.password"] = password
    return found | (_sasl(terms) if terms.sasl else {})


def _sasl(terms: KafkaTerms) -> dict[str, str]:
    if terms.sasl == "OAUTHBEARER":
        raise UsageError("[kafka] sasl: OAUTHBEARER is not wired to Flink's source; use SCRAM or a certificate there")
    module = "scram.ScramLoginModule" if terms.sasl.startswith("SCRAM") else "plain.PlainLoginModule"
    name, password = json.dumps(terms.username), json.dumps(secret(terms, "password"))
    # The SQL connector carries Kafka's classes under a package of its own.
    package = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
    login = f"{package}.{module} required username={name} password={password};"
    return {"sasl.mechanism": terms.sasl, "sasl.jaas.config": login}


def _path(terms: KafkaTerms, name: str) -> Path:
    return terms.directory / name
