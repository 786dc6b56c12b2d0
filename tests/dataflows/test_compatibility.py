"""A run starts only with a state, a journal and outputs that join; what does not is named, with what to do."""

import logging
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from seawall.ops.run import _run as runner
from seawall.ops.run._parts import Stop
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import Gap
from seawall_testing import crisis
from seawall_testing.command_line import bus_contents, differences, run_command
from seawall_testing.desk import T0, account, fill, instrument, lines, write_desk


def grown(path: Path) -> Path:
    with (path.parent / "book.jsonl").open("ab") as file:
        file.write(lines(*(fill(T0 + 9_000_000 + at * 1000, f"more{at}") for at in range(20))))
    return path


def test_a_state_of_another_journal_is_set_aside_and_the_journal_replayed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    path = crisis.write_crisis(ours, 2)
    assert run_command("run", path).returncode == 0
    shutil.copytree(ours, tmp_path / "whole")
    book = (ours / "book.jsonl").read_text()
    shutil.copytree(ours, other, ignore=shutil.ignore_patterns("seawall.db*", "recovery*", "tiles"))
    (other / "book.jsonl").write_text(book.replace('"price": "9', '"price":"8'))
    assert run_command("run", other / "desk.toml").returncode == 0
    assert len(bus_contents(other, ["journal"])["journal", 0]) == len(bus_contents(ours, ["journal"])["journal", 0])
    shutil.rmtree(ours / "recovery")
    shutil.copytree(other / "recovery", ours / "recovery")  # it fits, but for what it has taken
    with caplog.at_level(logging.WARNING, "seawall"):
        assert run_command("run", grown(path)).returncode == 0
    assert "they do not join" in caplog.text and "the journal is replayed" in caplog.text
    assert (ours / "recovery.unsound-1").is_dir()
    assert run_command("run", grown(tmp_path / "whole" / "desk.toml")).returncode == 0
    assert differences(bus_contents(ours), bus_contents(tmp_path / "whole")) == []
    assert run_command("verify", ours).returncode == 0


def test_a_live_journal_that_is_shorter_than_its_decisions_is_refused_untouched(tmp_path: Path) -> None:
    path = write_desk(tmp_path, {"reference.jsonl": lines(instrument(), account("a"))}, shards=2)
    path.write_text(path.read_text() + 'topics = ["fills"]\n')
    live(path, 4)
    with sqlite3.connect(tmp_path / "seawall.db") as store:
        store.execute("delete from records where topic = 'journal' and \"offset\" >= 2")
    shutil.rmtree(tmp_path / "recovery")
    before = bus_contents(tmp_path)
    with pytest.raises(Gap, match=r"audit/0 has decided on slice \d+, but journal/0 ends before 2: they do not join"):
        runner.run(load_configuration(path))
    assert bus_contents(tmp_path) == before


def live(path: Path, slices: int) -> None:
    """Run live until some slices were decided on, then stop as a signal does."""
    from unittest.mock import patch

    stops: list[Stop] = []

    class Told(Stop):
        def __init__(self) -> None:
            super().__init__()
            stops.append(self)

    def stop() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.2)
            if len(bus_contents(path.parent, ["audit"]).get(("audit", 0), [])) > slices:
                break
        stops[0].event.set()

    with patch.object(runner, "Stop", Told):
        thread = threading.Thread(target=stop)
        thread.start()
        runner.run(load_configuration(path))
        thread.join()
