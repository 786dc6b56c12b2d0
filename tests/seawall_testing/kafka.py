"""A real broker for tests, and runs of a configuration on it."""

import itertools
import os
import shutil
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from seawall.ops.kafka.artifacts import missing
from seawall.ops.kafka.cluster import Cluster

CLIENTS = ("risk", "market", "sequence", "stranger")
USERS = {"risk": "risk-secret", "stranger": "stranger-secret"}
INPUTS = ("*.jsonl", "*.jsonl.gz", "limits.toml", "playbook.toml", "desk.toml", "keys")
_numbers = itertools.count()


class Broker:
    """Where tests find a broker; ``cluster`` is None where it is somebody else's, which nobody may kill."""

    def __init__(self, address: str, cluster: Cluster | None) -> None:
        self.address, self.cluster = address, cluster

    def url(self, name: str = "t") -> str:
        """Return the address of a bus with a prefix that no other test has."""
        return f"kafka://{self.address}/{name}-{os.getpid()}-{next(_numbers)}"

    def drop(self, url: str) -> None:
        """Delete the topics of a bus: a broker that is killed again and again reads all that it has at each start."""
        prefix, admin = url.rpartition("/")[2] + ".", AdminClient({"bootstrap.servers": self.address})
        topics = [topic for topic in admin.list_topics(timeout=60).topics if topic.startswith(prefix)]
        for deleted in admin.delete_topics(topics).values():
            deleted.result(60)

    def own(self) -> Cluster:
        """Return the cluster; skip where it may not be touched."""
        if self.cluster is None:
            pytest.skip("SEAWALL_TEST_KAFKA names somebody else's broker, which is not to be stopped")
        return self.cluster

    def close(self) -> None:
        """Stop what was started."""
        if self.cluster is not None:
            self.cluster.stop()


def open_broker(paths: pytest.TempPathFactory) -> Broker:
    """Return a broker; skip, or fail in continuous integration, where none can be had."""
    if given := os.environ.get("SEAWALL_TEST_KAFKA"):
        return Broker(given, None)
    require_broker()
    cluster = Cluster(paths.mktemp("kafka"), clients=CLIENTS, users=USERS)
    cluster.start()
    return Broker(cluster.address(), cluster)


def require_broker() -> None:
    """Skip where no broker can run; in continuous integration that is a failure."""
    if lacking := missing():
        report = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        report(f"no broker can run here: {lacking} is missing; set SEAWALL_TEST_KAFKA=host:port to use another")


def on_kafka(original: Path, folder: Path, url: str) -> Path:
    """Copy a configuration with its inputs and keys so that it runs on a cluster; return the configuration's path."""
    folder.mkdir(parents=True)
    for pattern in INPUTS:
        for path in original.glob(pattern):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    text = (original / ("desk.toml" if (original / "desk.toml").exists() else "run.toml")).read_text()
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("bus ="))
    (folder / "desk.toml").write_text(f'bus = "{url}"\n{text}')
    return folder / "desk.toml"
