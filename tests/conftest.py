"""Fixtures that tests share: a broker, finished runs, desks. And a run in which no test ran is a failed run."""

import functools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from seawall_testing.clusters.flink_cluster import FlinkRun
from seawall_testing.clusters.kafka_broker import Broker, open_broker
from seawall_testing.command_line import bus_contents
from seawall_testing.crisis import CrisisRun, CrisisRuns, finish_crisis
from seawall_testing.live_runs import LiveDesk
from seawall_testing.shared_runs import DemoRun, finish_demo, made_once

# Tests start some hundred processes. Where bytecode is not kept, each compiles the package anew: a third of its time.
# pytest compiles the tests themselves anew too, in each worker.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one takes its time over an example
hypothesis.settings.load_profile("any machine")

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

    They are read only, and all workers share them; a test that changes one takes a copy.
    """

    @functools.cache
    def finished(seconds: int = 3, **options: int) -> CrisisRun:
        words = [str(seconds), *(f"{name}={value}" for name, value in sorted(options.items()))]
        make = functools.partial(finish_crisis, seconds=seconds, **options)
        folder, took_s = made_once(tmp_path_factory, "-".join(["crisis", *words]), make)
        return CrisisRun(folder, bus_contents(folder), float(took_s))

    return finished


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """The demo at its end, run once a session. It is read only, and all workers share it."""
    folder, printed = made_once(tmp_path_factory, "demo", finish_demo)
    return DemoRun(folder / "demo", printed)


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
