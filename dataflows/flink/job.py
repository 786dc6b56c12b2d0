"""Job for Flink: ``flink run -pym seawall.dataflows.flink.job risk|seal CONFIG [--bounded] …``.

The program runs where the job is submitted, looks for states that another engine left, and hands the dataflow to the
cluster. The state that a savepoint or a checkpoint holds takes precedence over all that. Records come from Flink's own
Kafka source: every partition from an offset on, committed records only.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pyflink.common import WatermarkStrategy
from pyflink.common.serialization import ByteArraySchema
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetResetStrategy,
    KafkaOffsetsInitializer,
    KafkaSource,
    KafkaTopicPartition,
)

from seawall.connectors.bus import Bus, KeptSnapshot, open_bus
from seawall.connectors.bus.kafka import Address, KafkaBus, PointReader, read_secret
from seawall.dataflows._journal import check_journal
from seawall.dataflows.flink import _dataflows
from seawall.dataflows.flink._dataflows import Plan
from seawall.operators.core.pipeline import FirmPipeline, ShardPipeline, UnsignedCommands
from seawall.schemas.configuration import Configuration, KafkaTerms, load_configuration
from seawall.schemas.errors import InvariantError, SnapshotError, UsageError

# Flink's own Kafka source on one of Seawall's topics: every partition from a place on, committed records only.


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


def topic_source(url: str, base: Path, topic: str, starts: dict[int, int], reader: PointReader, bounded: bool) -> Any:
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
    address = Address.parse(url, base)
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
        if password := read_secret(terms, "key_password"):
            found["ssl.key.password"] = password
    return found | (_sasl(terms) if terms.sasl else {})


def _sasl(terms: KafkaTerms) -> dict[str, str]:
    if terms.sasl == "OAUTHBEARER":
        raise UsageError("[kafka] sasl: OAUTHBEARER is not wired to Flink's source; use SCRAM or a certificate there")
    module = "scram.ScramLoginModule" if terms.sasl.startswith("SCRAM") else "plain.PlainLoginModule"
    name, password = json.dumps(terms.username), json.dumps(read_secret(terms, "password"))
    # The SQL connector carries Kafka's classes under a package of its own.
    package = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"
    login = f"{package}.{module} required username={name} password={password};"
    return {"sasl.mechanism": terms.sasl, "sasl.jaas.config": login}


def _path(terms: KafkaTerms, name: str) -> Path:
    return terms.directory / name


# The program that Flink is given: ``flink run -pym seawall.dataflows.flink.job risk|seal CONFIG [--bounded] …``.


def main(arguments: list[str] | None = None) -> None:
    """Submit a dataflow to the cluster that this program runs for."""
    parser = argparse.ArgumentParser(prog="job.py", description=__doc__)
    parser.add_argument("dataflow", choices=("risk", "seal"))
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--bounded", action="store_true", help="end at the end of what stands now")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--jar", action="append", default=[], help="the Kafka connector, where Flink's lib has none")
    given = parser.parse_args(arguments)
    environment = StreamExecutionEnvironment.get_execution_environment()
    check_mode(environment)
    environment.set_parallelism(given.parallelism)
    if given.jar:
        environment.add_jars(*(f"file://{Path(jar).absolute()}" for jar in given.jar))
    check_connector()
    configuration = load_configuration(given.configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    if not isinstance(bus, KafkaBus):
        raise UsageError(f'bus = "{configuration.bus}": Flink reads from Kafka; move there with seawall migrate')
    check_journal(bus, configuration)
    build(environment, given.dataflow, configuration, bus, given.bounded)
    environment.execute_async(f"seawall {given.dataflow}")


def check_mode(environment: StreamExecutionEnvironment) -> None:
    """Check that Python runs in thread mode.

    Raises
    ------
    UsageError
        It does not: a process-mode job finds no state of a thread-mode savepoint under its names, and begins empty.
    """
    settings = environment._j_stream_execution_environment.getConfiguration().toMap()
    if (mode := settings.get("python.execution-mode")) != "thread":
        raise UsageError(f"python.execution-mode is {mode or 'process'}: set it to thread, or states are not found")


def build(
    environment: StreamExecutionEnvironment, dataflow: str, configuration: Configuration, bus: KafkaBus, bounded: bool
) -> None:
    """Wire one dataflow from its topic on."""
    begins = begin_states(bus, configuration.shards) if dataflow == "risk" else ()
    topic = {"risk": "journal", "seal": "audit"}[dataflow]
    partitions = configuration.shards + (dataflow == "seal")
    starts = {partition: begins[partition] + 1 if begins else 0 for partition in range(partitions)}
    base = configuration.directory
    source = topic_source(configuration.bus, base, topic, starts, bus.reader, bounded)
    stream = environment.from_source(source, WatermarkStrategy.no_watermarks(), topic).uid(topic)
    path = str(configuration.path.absolute())
    if dataflow == "risk":
        _dataflows.build_risk(stream, Plan(path, begins), configuration)
    else:
        _dataflows.build_seal(stream, path, configuration)


def begin_states(bus: Bus, shards: int) -> tuple[int, ...]:
    """Return the places of the states on ``snapshots``, the second operator's last; none where they do not join.

    A run that was killed leaves states of different moments, or none: its successor begins at a checkpoint, or at the
    start of the journal.
    """
    try:
        found = [KeptSnapshot.latest(bus, partition) for partition in range(shards + 1)]
        kept = [one for one in found if one is not None]
        if len(kept) <= shards:
            return ()
        _check(kept, shards)
    except (SnapshotError, InvariantError):
        return ()
    return tuple(one.seq for one in kept)


def _check(kept: list[KeptSnapshot], shards: int) -> None:
    signer = UnsignedCommands()
    FirmPipeline.restore(kept[-1].data, signer).check_aligned(
        [ShardPipeline.restore(one.data, signer) for one in kept[:shards]]
    )


if __name__ == "__main__":
    main()
