"""Flink gives the topics that Bytewax gives: values, keys, headers, offsets; whoever is killed, however many work."""

import importlib.util
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.ops.flink.cluster import MANAGER, FlinkCluster
from seawall.schemas.errors import BusError
from seawall_testing import crisis
from seawall_testing.clusters.flink_cluster import JOB_S, FlinkRun, flink_home
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, bus_contents, differences, seawall, wait_for
from seawall_testing.crisis import CrisisRuns
from seawall_testing.paths import SHARED
from seawall_testing.stores import extend, unpacked

HYPERLIQUID = SHARED / "tools" / "acceptance" / "hyperliquid.py"
TASK_KILLS = int(os.environ.get("SEAWALL_TASK_KILLS", "50"))
JOB_KILLS = int(os.environ.get("SEAWALL_JOB_KILLS", "10"))
pytestmark = [pytest.mark.flink, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    often = {"restart-strategy.exponential-delay.max-backoff": "1 s"}  # it is killed again and again
    found = FlinkCluster(flink_home(), tmp_path_factory.mktemp("flink"), extra=often)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def embedded(crisis_run: CrisisRuns) -> Path:
    """The folder of a finished run."""
    return crisis_run(40, per_second=60, shards=4).folder


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 9,612 slices: long enough to be stopped in its middle on any machine."""
    return crisis.run_crisis(tmp_path_factory.mktemp("long") / "embedded", 240, per_second=60, shards=4).parent


@pytest.fixture
def long_run(long: Path, broker: Broker, tmp_path: Path) -> FlinkRun:
    return FlinkRun(long, tmp_path / "kafka", broker)


def test_risk_and_seal_on_flink_give_the_topics_of_the_embedded_run_and_verify_and_replay_accept_them(
    cluster: FlinkCluster, flink_run: FlinkRun
) -> None:
    flink_run.decide(cluster, "--parallelism", "2")
    flink_run.decide(cluster, dataflow="seal")
    assert flink_run.differences() == []
    for command in ("verify", "replay"):
        done = seawall(command, flink_run.path)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def killed_at(cluster: FlinkCluster, run: FlinkRun, kills: int, seed: int) -> None:
    """Run risk; kill one of its TaskManagers at random places of the audit; each time another starts."""
    chance = random.Random(seed)
    job = cluster.submit("risk", run.path, "--bounded", "--parallelism", "2")
    for number in range(kills):
        standing = run.decided()
        target = standing + chance.randrange(max(1, (run.audit - standing) // (kills - number)))
        wait_for(lambda target=target: kept_up(cluster, job) != "" and run.decided() >= target, JOB_S)
        cluster.kill(cluster.name(chance.randrange(2)))
        wait_for(lambda: kept_up(cluster, job) in ("RUNNING", "FINISHED"), JOB_S)
    wait_for(lambda: kept_up(cluster, job) == "FINISHED", JOB_S)


def kept_up(cluster: FlinkCluster, job: str) -> str:
    """Start again what has ended, as an orchestrator does; return the state of a job.

    When it loses another one, a TaskManager of Flink 2.2 sometimes ends itself: an exception while it cleans up a task
    counts as fatal there.
    """
    return cluster.rest.state(job) if is_up(cluster) else ""


def is_up(cluster: FlinkCluster) -> bool:
    """Start what has ended; tell whether all have registered."""
    try:
        cluster.start()
    except BusError:  # one ended while this waited; the next call starts it
        return False
    return True


def test_task_managers_killed_at_random_places_change_no_byte(cluster: FlinkCluster, flink_run: FlinkRun) -> None:
    killed_at(cluster, flink_run, 2, seed=1)
    assert flink_run.differences(sealed=False) == []


def job_manager_killed(cluster: FlinkCluster, run: FlinkRun, kills: int, seed: int) -> None:
    """Run risk; kill the JobManager at random places, start it again and the job from its last checkpoint."""
    chance, checkpoint = random.Random(seed), ""
    for number in range(kills):
        standing = run.decided()
        target = standing + chance.randrange(max(1, (run.audit - standing) // (kills - number)))
        job = cluster.submit("risk", run.path, "--parallelism", "2", restore=checkpoint)
        wait_for(lambda target=target: run.decided() >= target, JOB_S)
        cluster.kill(MANAGER)
        checkpoint = cluster.checkpoint(job) or checkpoint
        wait_for(lambda: is_up(cluster), JOB_S)
    run.resume(cluster, checkpoint, "--parallelism", "2")


@pytest.mark.soak
def test_a_job_stopped_at_a_savepoint_goes_on_with_two_subtasks_instead_of_one(
    cluster: FlinkCluster, long_run: FlinkRun
) -> None:
    run = long_run
    job = cluster.submit("risk", run.path, "--parallelism", "1")
    wait_for(lambda: run.decided() > run.audit // 3, JOB_S)
    savepoint = cluster.rest.stop(job)
    assert 0 < run.decided() < run.audit
    run.resume(cluster, savepoint, "--parallelism", "2")
    assert run.differences(sealed=False) == []


@pytest.mark.soak
def test_a_run_half_on_bytewax_then_on_flink_and_back_gives_the_topics_of_one_run(
    cluster: FlinkCluster, long_run: FlinkRun
) -> None:
    run = long_run
    on_bytewax = subprocess.Popen([*CLI, "run", str(run.path), "--only", "risk"], stderr=subprocess.DEVNULL)
    wait_for(lambda: run.decided() > run.audit // 2, JOB_S)
    on_bytewax.send_signal(signal.SIGTERM)
    on_bytewax.communicate(timeout=120)
    assert 0 < run.decided() < run.audit
    done = seawall("migrate", run.path, "--to", "flink")
    assert done.returncode == 0, done.stderr
    moved_at = run.decided()
    job = cluster.submit("risk", run.path, "--parallelism", "2")
    wait_for(lambda: run.decided() > moved_at + (run.audit - moved_at) // 4, JOB_S)
    cluster.rest.stop(job, drain=True)
    assert cluster.rest.read(job) < run.slices  # not from zero
    moved_back_at = run.decided()
    done = seawall("migrate", run.path, "--to", "bytewax", "--json")
    assert done.returncode == 0, done.stderr
    done = seawall("run", run.path, "--only", "risk", "--only", "seal", timeout=600)
    assert done.returncode == 0, done.stderr
    assert not list(run.path.parent.glob("recovery.unsound-2"))  # what was moved was good
    assert run.differences() == []
    print(f"to Flink at audit record {moved_at:,}, back at {moved_back_at:,}, of {run.audit:,}")


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_the_demo_on_flink_equals_the_demo(cluster: FlinkCluster, broker: Broker, tmp_path: Path) -> None:
    done = seawall("demo", "--dir", tmp_path / "demo", timeout=600)
    assert done.returncode == 0, done.stderr
    whole(cluster, FlinkRun(tmp_path / "demo", tmp_path / "kafka", broker))


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not HYPERLIQUID.exists(), reason="the account data of Hyperliquid is not here")
def test_the_hyperliquid_accounts_on_flink_equal_the_embedded_run(
    cluster: FlinkCluster, broker: Broker, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("hyperliquid", HYPERLIQUID)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path / "embedded"
    folder.mkdir()
    module.write(folder, None if os.environ.get("SEAWALL_ACCOUNTS") else 5_000)  # the whole export takes minutes
    done = seawall("run", folder / "desk.toml", timeout=900)
    assert done.returncode == 0, done.stderr
    whole(cluster, FlinkRun(folder, tmp_path / "kafka", broker))


def whole(cluster: FlinkCluster, run: FlinkRun) -> None:
    """Decide and seal a run on Flink, and compare every topic."""
    began = time.monotonic()
    run.decide(cluster, "--parallelism", "2", seconds=1000)
    decided = time.monotonic() - began
    run.decide(cluster, dataflow="seal", seconds=1000)
    assert run.differences() == []
    print(f"{run.slices} slices, {run.audit} audit records: decided in {decided:.0f} s, the start of the job included")


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_task_managers_killed_at_many_places_change_no_byte(cluster: FlinkCluster, long_run: FlinkRun) -> None:
    began = time.monotonic()
    killed_at(cluster, long_run, TASK_KILLS, seed=int(os.environ.get("SEAWALL_SEED", "3")))
    assert long_run.differences(sealed=False) == []
    print(f"{TASK_KILLS} TaskManagers killed in {time.monotonic() - began:.0f} s")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_job_managers_killed_at_many_places_go_on_from_the_last_checkpoint_and_change_no_byte(
    cluster: FlinkCluster, long_run: FlinkRun
) -> None:
    began = time.monotonic()
    job_manager_killed(cluster, long_run, JOB_KILLS, seed=int(os.environ.get("SEAWALL_SEED", "4")))
    assert long_run.differences(sealed=False) == []
    print(f"{JOB_KILLS} JobManagers killed in {time.monotonic() - began:.0f} s")


def test_flink_goes_on_with_a_journal_that_an_earlier_version_decided(
    cluster: FlinkCluster, broker: Broker, tmp_path: Path
) -> None:
    run, _ = unpacked("201e2b7", tmp_path)
    desk, moved, url = run / "desk.toml", run / "moved.toml", broker.url("carried")
    moved.write_text(f'bus = "{url}"\n{desk.read_text()}')
    before = bus_contents(run)
    assert seawall("migrate", desk, moved).returncode == 0
    (run / "migration.json").unlink()  # the bus of before goes on too, to compare with
    for path in (desk, moved):
        done = seawall("migrate", path, "--to", "0.2")
        assert done.returncode == 0, done.stderr
    extend(run, coins=True)
    assert seawall("run", desk).returncode == 0
    done = seawall("run", moved, "--only", "market", "--only", "sequence")
    assert done.returncode == 0, done.stderr
    cluster.rest.wait(cluster.submit("risk", moved, "--bounded", "--parallelism", "2"), JOB_S)
    topics = [topic for topic, _ in before if topic != "checkpoints"]
    assert differences(bus_contents(run, topics, url), bus_contents(run, topics)) == []
