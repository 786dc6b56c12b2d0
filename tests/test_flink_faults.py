"""What cannot work on Flink is refused when it is submitted, in one line that says what to do."""

from pathlib import Path

import pytest

from seawall.ops.flink.artifacts import Home
from seawall.ops.flink.cluster import FlinkCluster
from seawall.schemas.errors import UsageError
from seawall_testing import crisis
from seawall_testing.flink import flink_home

pytestmark = [pytest.mark.flink, pytest.mark.timeout(600)]


class BareHome(Home):
    """A Flink environment without the connector."""

    @property
    def jars(self) -> Path:
        """An empty folder."""
        return self.folder / "share"


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose broker nobody ever asks."""
    return crisis.write_crisis(tmp_path_factory.mktemp("nowhere"), 1, bus="kafka://127.0.0.1:9/nowhere")


def test_a_job_in_process_mode_is_refused_before_it_can_begin_empty(nowhere: Path, tmp_path: Path) -> None:
    cluster = FlinkCluster(flink_home(), tmp_path / "flink")  # the program ends before it needs one that runs
    with pytest.raises(UsageError, match="execution-mode is process: set it to thread"):
        cluster.submit("risk", nowhere, settings={"python.execution-mode": "process"})


def test_a_missing_connector_is_named_when_the_job_is_submitted(nowhere: Path, tmp_path: Path) -> None:
    cluster = FlinkCluster(BareHome(flink_home().folder), tmp_path / "flink")
    with pytest.raises(UsageError, match="the Kafka connector is not on the class path: --jar="):
        cluster.submit("risk", nowhere)
