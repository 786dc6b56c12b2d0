"""A run in which no test ran is a failed run: all skipped or deselected proves nothing."""

import pytest

RAN = ("passed", "failed", "error", "xfailed", "xpassed")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Exit as pytest does when it collects nothing, where every test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(session.config, "workerinput") or reporter is None or session.config.option.collectonly:
        return
    if exitstatus == pytest.ExitCode.OK and not any(reporter.stats.get(outcome) for outcome in RAN):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
