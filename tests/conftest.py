"""Fixtures that tests share: a broker, finished runs, desks. And a run in which no test ran is a failed run."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall_testing.clusters.flink_cluster import FlinkRun
from seawall_testing.clusters.kafka_broker import Broker, open_broker
from seawall_testing.crisis import CrisisRun, CrisisRuns, finish_crisis
from seawall_testing.live_runs import LiveDesk

RAN = ("passed", "failed", "error", "xfailed", "xpassed")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Exit as pytest does when it collects nothing, where every test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(session.config, "workerinput") or reporter is None or session.config.option.collectonly:
        return
    if exitstatus == pytest.ExitCode.OK and not any(reporter.stats.get(outcome) for outcome in RAN):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One real broker for the session: `SEAWALL_TEST_KAFKA=host:port`, or one that is started here."""
    found = open_broker(tmp_path_factory)
    yield found
    found.close()


@pytest.fixture(scope="session")
def crisis_run(tmp_path_factory: pytest.TempPathFactory) -> CrisisRuns:
    """Finished runs of the small crisis, each made once a session: ``crisis_run(60, per_second=60, shards=4)``.

    They are read only; a test that changes one takes a copy.
    """

    @functools.cache
    def finished(seconds: int = 3, **options: int) -> CrisisRun:
        return finish_crisis(tmp_path_factory.mktemp("crisis") / "run", seconds, **options)

    return finished


@pytest.fixture
def desk(crisis_run: CrisisRuns, tmp_path: Path) -> Path:
    """The configuration of a finished run of the crisis, in a copy that the test may change."""
    shutil.copytree(crisis_run().folder, tmp_path / "desk")
    return tmp_path / "desk" / "desk.toml"


@pytest.fixture
def flink_run(embedded: Path, broker: Broker, tmp_path: Path) -> FlinkRun:
    """A run on Kafka that Flink decides, of the inputs of the module's fixture ``embedded``."""
    return FlinkRun(embedded, tmp_path / "kafka", broker)


@pytest.fixture
def live_desk(tmp_path: Path) -> Iterator[LiveDesk]:
    """A desk that follows topics of the embedded bus, which are being written."""
    with LiveDesk(tmp_path) as made:
        yield made
