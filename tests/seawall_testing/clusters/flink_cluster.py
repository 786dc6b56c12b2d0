"""A Flink cluster for tests, and runs that one engine sequenced and Flink decides."""

import os
import shutil
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall.ops.flink.artifacts import Home, environment, missing
from seawall.ops.flink.cluster import FlinkCluster
from seawall.schemas.configuration import load_configuration
from seawall_testing.clusters.kafka_broker import Broker, on_kafka
from seawall_testing.command_line import Contents, bus_contents, differences, seawall, wait_for

JOB_S = 240


def flink_home() -> Home:
    """Return Flink's environment, made if need be; skip, or fail in continuous integration, where none can be had."""
    if lacking := missing():
        report = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        report(f"Flink cannot run here: {lacking} is missing")
    return environment()


class FlinkRun:
    """A configuration on Kafka whose journal is whole, and what an embedded run made of the same inputs.

    Parameters
    ----------
    embedded
        The folder of a run that has ended.
    folder
        Where the run on Kafka goes.
    broker
        The cluster it goes to.
    """

    def __init__(self, embedded: Path, folder: Path, broker: Broker) -> None:
        self.path = on_kafka(embedded, folder, broker.url("flink"))
        self.wanted = bus_contents(embedded)
        shutil.copytree(embedded / "keys", folder / "keys", dirs_exist_ok=True)
        done = seawall("run", self.path, "--only", "market", "--only", "sequence", timeout=600)
        assert done.returncode == 0, done.stderr
        self.configuration = load_configuration(self.path)
        self.bus = open_bus(self.configuration.bus, folder)

    def decided(self) -> int:
        """Return how many audit records stand."""
        return sum(self.bus.end("audit", partition) for partition in range(self.configuration.shards + 1))

    @property
    def audit(self) -> int:
        """How many audit records there are to be."""
        return sum(len(records) for (topic, _), records in self.wanted.items() if topic == "audit")

    @property
    def slices(self) -> int:
        """How many slices the journal holds."""
        return sum(len(records) for (topic, _), records in self.wanted.items() if topic == "journal")

    def differences(self, *, sealed: bool = True) -> list[str]:
        """Return where the topics differ from those of the embedded run; states of engines are not compared."""
        found = bus_contents(self.path.parent, url=self.configuration.bus)
        assert {"journal", "audit"} <= {topic for topic, _ in found}
        return differences(self._compared(found, sealed), self._compared(self.wanted, sealed))

    def decide(self, cluster: FlinkCluster, *options: str, dataflow: str = "risk", seconds: float = JOB_S) -> None:
        """Run one dataflow to its end."""
        job = cluster.submit(dataflow, self.path, "--bounded", *options)
        cluster.rest.wait(job, seconds)

    def resume(self, cluster: FlinkCluster, restore: str, *options: str) -> None:
        """Go on from a savepoint or a checkpoint until all is decided, then stop.

        Flink's Kafka source never ends where it was restored from one, so this job is not a bounded one.
        """
        job = cluster.submit("risk", self.path, *options, restore=restore)
        wait_for(lambda: cluster.rest.checkpoints(job) > 0, JOB_S)  # until then there is nothing to stop
        wait_for(lambda: self.decided() >= self.audit, JOB_S)
        cluster.rest.stop(job)

    @staticmethod
    def _compared(found: Contents, sealed: bool) -> Contents:
        return {
            place: records
            for place, records in found.items()
            if place[0] != "snapshots" and (sealed or place[0] != "checkpoints")
        }
