"""The sink of all topics: when what it was given is on the bus."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from seawall.connectors.bus import RecordSink, _bytewax, open_bus
from seawall.schemas.errors import BusError, Gap
from seawall.schemas.records import Record
from seawall_testing.command_line import wait_for


class Desk:
    """A sink of partition 0, and the bus that it writes."""

    def __init__(self, folder: Path) -> None:
        self.bus = open_bus("sqlite:bus.db", folder)
        self.part = RecordSink("sqlite:bus.db", None, 2, folder).build_part("out", "0", None)
        self._counts = dict.fromkeys(("exposures", "audit", "commands", "breaches", "alerts", "state"), 0)

    def write(self, *topics: str) -> None:
        """Write a slice with one record of each topic."""
        records = {}
        for topic in topics:
            n = self._counts[topic]
            self._counts[topic] = n + 1
            records[topic] = [Record("0", b"%d" % n, f"0-{n}-0", n)]
        self.part.write_batch([SimpleNamespace(records=records)])

    def stands(self, topic: str) -> int:
        return self.bus.end(topic, 0)


@pytest.fixture
def sink_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(_bytewax, "QUIET_S", 3600)
    found = Desk(tmp_path)
    found.write("exposures", "audit")
    return found


def test_a_first_slice_is_written_at_once(sink_desk: Desk) -> None:
    assert (sink_desk.stands("exposures"), sink_desk.stands("audit")) == (1, 1)


def test_slices_that_nobody_acts_on_wait_for_the_next_that_somebody_does(sink_desk: Desk) -> None:
    for topic in ("commands", "breaches", "alerts", "state"):
        before = sink_desk.stands("audit")
        sink_desk.write("exposures", "audit")
        sink_desk.write("audit")
        assert sink_desk.stands("audit") == before
        sink_desk.write("exposures", "audit", topic)
        assert (sink_desk.stands("audit"), sink_desk.stands(topic)) == (before + 3, 1)
        assert sink_desk.stands("exposures") == sink_desk._counts["exposures"]


def test_a_quiet_slice_is_written_when_the_last_transaction_is_long_ago(
    sink_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink_desk.write("audit")
    assert sink_desk.stands("audit") == 1
    monkeypatch.setattr(_bytewax, "QUIET_S", 0)
    sink_desk.write("audit")
    assert sink_desk.stands("audit") == 3


def test_a_quiet_slice_that_none_follows_is_written_in_time(sink_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bytewax, "QUIET_S", 0.2)
    for written in (2, 3):
        sink_desk.write("audit")
        assert sink_desk.stands("audit") == written - 1
        wait_for(lambda written=written: sink_desk.stands("audit") == written)
    sink_desk.part.close()


def test_what_the_late_writing_meets_is_raised_by_the_next_call(
    sink_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_bytewax, "QUIET_S", 0.05)
    writer, tried = sink_desk.part._writer, threading.Event()

    def refuse() -> None:
        tried.set()
        raise BusError("the disk is full")

    monkeypatch.setattr(writer, "submit", refuse)
    monkeypatch.setattr(writer, "flush", refuse)
    sink_desk.write("audit")
    assert tried.wait(60)
    with pytest.raises(BusError, match="the disk is full"):
        sink_desk.part.snapshot()
    monkeypatch.undo()
    sink_desk.part.snapshot()
    assert sink_desk.stands("audit") == 2
    sink_desk.part.close()


def test_nothing_of_a_slice_that_is_refused_is_written_late(sink_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bytewax, "QUIET_S", 0.05)
    sink_desk.write("exposures", "audit")
    sink_desk.write("exposures", "audit")  # waits, and is to be written at the end of the 50 ms
    sink_desk._counts["audit"] += 1
    with pytest.raises(Gap, match="records are missing"):
        sink_desk.write("exposures", "audit")
    time.sleep(0.2)
    assert sink_desk.stands("exposures") == sink_desk.stands("audit")


def test_a_snapshot_finds_everything_written(sink_desk: Desk) -> None:
    sink_desk.write("exposures", "audit")
    sink_desk.part.snapshot()
    assert (sink_desk.stands("exposures"), sink_desk.stands("audit")) == (2, 2)


def test_a_sink_of_one_topic_writes_at_once(tmp_path: Path) -> None:
    part = RecordSink("sqlite:bus.db", "exposures", 1, tmp_path).build_part("out", "0", None)
    bus = open_bus("sqlite:bus.db", tmp_path)
    for n in range(3):
        part.write_batch([[Record("0", b"x", f"0-{n}-0", n)]])
        assert bus.end("exposures", 0) == n + 1
