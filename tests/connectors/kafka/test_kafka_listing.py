"""A cluster that answered once is waited for; one that never did is told soon. By librdkafka's cluster of its own.

That one is a process that speaks the protocol; stopped, it does not answer, and goes on where it was.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from seawall.connectors.bus import TOPICS
from seawall.connectors.bus.kafka import Address, PointReader, _topics
from seawall.connectors.bus.kafka._clients import Clients
from seawall.connectors.bus.kafka._provision import topic_settings
from seawall.schemas.configuration import KafkaTerms
from seawall.schemas.errors import BusError

CLUSTER = """
import sys
from confluent_kafka import Producer

producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
producer.produce("fills", b"{}")
assert producer.flush(120) == 0
(broker,) = producer.list_topics(timeout=120).brokers.values()
print(f"{broker.host}:{broker.port}", flush=True)
sys.stdin.read()
"""
LIMIT_S = 0.5  # of one question
QUESTIONS = 4  # that an outage is long


class Mock:
    """A cluster with the topic ``fills``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # of a busy machine some threads go on for a moment

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mock]:
    monkeypatch.setattr(_topics, "_answered", set())  # an earlier one may have had its port
    found = Mock()
    yield found
    found.kill()


def open_reader(mock: Mock, outage_s: int = 300) -> PointReader:
    return PointReader(Clients(Address(mock.address, "x", KafkaTerms(outage_s=outage_s))))


@pytest.mark.parametrize("another", [False, True], ids=["who asked before", "another of the process"])
def test_a_cluster_that_answered_before_is_waited_for_longer_than_one_question_takes(
    mock: Mock, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    reader = open_reader(mock)
    before = reader.partitions("fills")
    if another:
        reader.close()
        reader = open_reader(mock)
    monkeypatch.setattr(_topics, "CALL_S", LIMIT_S)
    mock.pause()
    back = threading.Timer(QUESTIONS * LIMIT_S, mock.go_on)
    back.start()
    assert reader.partitions("fills") == before != {}
    back.join()
    reader.close()


def test_a_cluster_that_answered_before_is_given_up_after_outage_s(mock: Mock) -> None:
    reader = open_reader(mock, outage_s=1)
    while mock.address not in _topics._answered:  # of a busy machine the first question may take longer
        with contextlib.suppress(BusError):
            assert reader.partitions("fills")
    mock.kill()
    with pytest.raises(BusError, match=r"topics cannot be listed: .*start the cluster, or correct bus"):
        reader.partitions("fills")
    reader.close()


@pytest.mark.timeout(150)
def test_a_cluster_that_never_answered_is_asked_once(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be waited for 300 s else, twice the time that this test has."""
    monkeypatch.setattr(_topics, "CALL_S", LIMIT_S)
    mock.pause()
    reader = open_reader(mock)
    with pytest.raises(BusError, match="topics cannot be listed"):
        reader.partitions("fills")
    mock.go_on()
    reader.close()


def test_only_what_others_write_may_expire() -> None:
    """A run begins by asking how many records stand: of a topic whose every record expired nobody knows."""
    clients = Clients(Address("127.0.0.1:9", "x", KafkaTerms(retention_hours=24)))
    kept = {topic: topic_settings(clients, topic, 1)[1]["retention.ms"] for topic in TOPICS}
    assert kept == {**dict.fromkeys(TOPICS, "-1"), "acknowledgements": "86400000"}
