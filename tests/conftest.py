"""A run in which no test ran is a failed run: all skipped or deselected proves nothing. And a broker for a session."""

from collections.abc import Iterator

import pytest

from seawall_testing.kafka import Broker, open_broker

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
