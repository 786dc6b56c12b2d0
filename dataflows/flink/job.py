"""The program that Flink is given: ``flink run -pym seawall.dataflows.flink.job risk|seal CONFIG [--bounded] …``.

It runs where the job is submitted, looks what states another engine left, and hands the dataflow to the cluster. The
state that a savepoint or a checkpoint holds goes before all that.
"""

import argparse
from pathlib import Path

from pyflink.common import WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment

from seawall.connectors.bus import Bus, open_bus
from seawall.connectors.kafka.bus import KafkaBus
from seawall.connectors.snapshots import Kept, latest
from seawall.dataflows.flink import risk, seal
from seawall.dataflows.flink.risk import Plan
from seawall.dataflows.flink.source import check_connector, topic_source
from seawall.dataflows.joins import check_journal
from seawall.operators.core.keyed_risk import FirmRisk, ShardRisk, check_join
from seawall.operators.core.risk import Unsigned
from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.errors import InvariantError, SnapshotError, UsageError


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
        risk.build(stream, Plan(path, begins), configuration)
    else:
        seal.build(stream, path, configuration)


def begin_states(bus: Bus, shards: int) -> tuple[int, ...]:
    """Return the places of the states on ``snapshots``, the second operator's last; none where they do not join.

    A run that was killed leaves states of different moments, or none: its successor begins at a checkpoint, or at the
    start of the journal.
    """
    try:
        found = [latest(bus, partition) for partition in range(shards + 1)]
        kept = [one for one in found if one is not None]
        if len(kept) <= shards:
            return ()
        _check(kept, shards)
    except (SnapshotError, InvariantError):
        return ()
    return tuple(one.seq for one in kept)


def _check(kept: list[Kept], shards: int) -> None:
    signer = Unsigned()
    check_join([ShardRisk.restore(one.data, signer) for one in kept[:shards]], FirmRisk.restore(kept[-1].data, signer))


if __name__ == "__main__":
    main()
