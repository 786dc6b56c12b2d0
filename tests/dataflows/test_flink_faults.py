"""What goes wrong with Flink ends in one line that says what to do, or in a recovery that changes no byte."""

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seawall.ops.flink.artifacts import Home
from seawall.ops.flink.cluster import FlinkCluster
from seawall.ops.kafka.cluster import Cluster
from seawall.schemas.errors import SeawallError, UsageError
from seawall_testing import crisis
from seawall_testing.clusters.flink_cluster import JOB_S, FlinkRun, flink_home
from seawall_testing.clusters.kafka_broker import Broker, require_broker
from seawall_testing.command_line import wait_for
from seawall_testing.crisis import CrisisRuns

OUTAGE_S = float(os.environ.get("SEAWALL_OUTAGE_S", "120"))
STORE_KIB = 2048
pytestmark = [pytest.mark.flink, pytest.mark.timeout(400)]


class OldHome(Home):
    """A Flink environment whose Seawall writes states of a version that there never was."""

    def seawall(self) -> Path:
        """Return the folder of that Seawall."""
        folder = Path(os.environ["SEAWALL_TEST_OLD"])
        if not folder.exists():
            left_out = shutil.ignore_patterns("*.pyc", "package")  # in ops/package are links to the whole
            shutil.copytree(super().seawall() / "seawall", folder / "seawall", ignore=left_out)
            module = folder / "seawall" / "operators" / "core" / "pipeline.py"
            text = module.read_text()
            assert '"shard-risk/1"' in text
            module.unlink()  # where the copy is of links, what they name stays
            module.write_text(text.replace('"shard-risk/1"', '"shard-risk/0"'))
        return folder


class BareHome(Home):
    """A Flink environment without the connector."""

    @property
    def jars(self) -> Path:
        """An empty folder."""
        return self.folder / "share"


class OtherPython(FlinkCluster):
    """A cluster whose processes find a ``python`` first that has nothing of Flink's environment."""

    def _environment(self, conf: Path) -> dict[str, str]:
        other = self.folder / "bin" / "python"
        other.parent.mkdir(exist_ok=True)
        other.write_text("#!/bin/sh\nexit 1\n")
        other.chmod(0o755)
        found = super()._environment(conf)
        return found | {"PATH": f"{other.parent}:{found['PATH']}"}


@contextmanager
def started(cluster: FlinkCluster) -> Iterator[FlinkCluster]:
    """Run a cluster."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def embedded(crisis_run: CrisisRuns) -> Path:
    """The folder of a finished run."""
    return crisis_run(240, per_second=60, shards=4).folder


def stopped_midway(cluster: FlinkCluster, run: FlinkRun) -> str:
    """Decide a third of a run; return the savepoint."""
    job = cluster.submit("risk", run.path)
    wait_for(lambda: run.decided() > run.audit // 3, JOB_S)
    return cluster.rest.stop(job)


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


def test_a_journal_that_another_environment_began_is_refused_where_a_job_is_submitted_and_where_it_runs(
    broker: Broker, tmp_path: Path
) -> None:
    run = FlinkRun(crisis.run_crisis(tmp_path / "embedded", 2, per_second=5).parent, tmp_path / "kafka", broker)
    right = run.path.read_text()
    wrong = f'environment = "test"\nprice_max_age_s = 60\n{right}'
    said = "environment is 'test' but the journal was begun with 'dev'"
    with started(FlinkCluster(flink_home(), tmp_path / "flink", task_managers=1)) as cluster:
        run.path.write_text(wrong)
        for dataflow in ("risk", "seal"):
            with pytest.raises(UsageError, match=said):
                cluster.submit(dataflow, run.path)
        for dataflow in ("risk", "seal"):
            cluster.kill(cluster.name(0))
            run.path.write_text(right)
            job = cluster.submit(dataflow, run.path)
            run.path.write_text(wrong)  # as on the host of a TaskManager that was given another file
            cluster.start()
            with pytest.raises(SeawallError, match=f"{said}.*where the tasks run is wrong"):
                cluster.rest.wait(job, JOB_S)
    assert run.decided() == 0


@pytest.mark.soak
def test_a_savepoint_of_another_version_ends_the_job_and_without_it_the_journal_is_replayed(
    flink_run: FlinkRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = flink_home()
    monkeypatch.setenv("SEAWALL_TEST_OLD", str(tmp_path / "old"))
    with started(FlinkCluster(OldHome(home.folder), tmp_path / "before", task_managers=1)) as cluster:
        savepoint = stopped_midway(cluster, flink_run)
    with started(FlinkCluster(home, tmp_path / "after", task_managers=1)) as cluster:
        job = cluster.submit("risk", flink_run.path, restore=savepoint)
        with pytest.raises(SeawallError, match=r"shard-risk/0 cannot be read as shard-risk/1.*submit without one"):
            cluster.rest.wait(job, JOB_S)
        flink_run.decide(cluster)
    assert flink_run.differences(sealed=False) == []


@pytest.mark.soak
def test_another_python_than_that_of_the_environment_ends_the_job_and_is_named(
    flink_run: FlinkRun, tmp_path: Path
) -> None:
    extra = {"python.executable": str(tmp_path / "flink" / "bin" / "python")}
    with started(OtherPython(flink_home(), tmp_path / "flink", task_managers=1, extra=extra)) as cluster:
        job = cluster.submit("risk", flink_run.path)
        with pytest.raises(SeawallError, match=r"`python` is not that of Flink's environment: set python\.executable"):
            cluster.rest.wait(job, JOB_S)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "store"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={STORE_KIB}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system of a given size can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.soak
def test_while_the_checkpoint_store_is_full_the_job_goes_on_deciding_and_afterwards_checkpoints_again(
    flink_run: FlinkRun, tmp_path: Path, store: Path
) -> None:
    extra = {"execution.checkpointing.dir": f"file://{store}", "execution.checkpointing.interval": "300 ms"}
    with started(FlinkCluster(flink_home(), tmp_path / "flink", task_managers=1, extra=extra)) as cluster:
        (store / "filler").write_bytes(bytes(STORE_KIB * 1024 - 64 * 1024))
        with pytest.raises(OSError, match="No space left"):
            (store / "rest").write_bytes(bytes(1024 * 1024))
        job = cluster.submit("risk", flink_run.path)
        wait_for(lambda: cluster.rest.failed_checkpoints(job) > 0 and flink_run.decided() >= flink_run.audit, JOB_S)
        assert cluster.rest.failure(job) == ""
        for name in ("filler", "rest"):
            (store / name).unlink()
        complete = cluster.rest.checkpoints(job)
        wait_for(lambda: cluster.rest.checkpoints(job) > complete, JOB_S)
        cluster.rest.stop(job)
    assert flink_run.differences(sealed=False) == []


@pytest.mark.soak
def test_a_task_manager_out_of_memory_is_replaced_and_no_byte_changes(flink_run: FlinkRun, tmp_path: Path) -> None:
    with started(FlinkCluster(flink_home(), tmp_path / "flink", task_managers=1)) as cluster:
        job = cluster.submit("risk", flink_run.path, "--bounded")
        wait_for(lambda: flink_run.decided() > flink_run.audit // 8, JOB_S)
        pid = cluster.pids()[cluster.name(0)]
        data_kib = int((Path("/proc") / str(pid) / "status").read_text().split("VmData:")[1].split()[0])
        resource.prlimit(pid, resource.RLIMIT_DATA, (data_kib * 1024, data_kib * 1024))  # it gets no more
        wait_for(lambda: cluster.name(0) not in cluster.pids() or cluster.rest.failure(job) != "", JOB_S)
        if cluster.name(0) in cluster.pids():  # only its task failed: whoever operates it ends the process
            cluster.kill(cluster.name(0))
        cluster.start()
        cluster.rest.wait(job, JOB_S)
    assert flink_run.differences(sealed=False) == []


@pytest.mark.soak
def test_a_broker_that_is_away_for_minutes_stops_nothing_for_good(embedded: Path, tmp_path: Path) -> None:
    require_broker()
    kafka = Cluster(tmp_path / "broker")
    kafka.start()
    try:
        run = FlinkRun(embedded, tmp_path / "kafka", Broker(kafka.address(), None))
        with started(FlinkCluster(flink_home(), tmp_path / "flink", task_managers=2)) as cluster:
            job = cluster.submit("risk", run.path, "--bounded", "--parallelism", "2")
            wait_for(lambda: run.decided() > run.audit // 8, JOB_S)
            kafka.kill(1)
            gone = time.monotonic()
            time.sleep(OUTAGE_S)  # the outage itself
            kafka.start()
            cluster.rest.wait(job, JOB_S)
            print(f"away for {time.monotonic() - gone:.0f} s with its start")
        assert run.differences(sealed=False) == []
    finally:
        kafka.stop()
