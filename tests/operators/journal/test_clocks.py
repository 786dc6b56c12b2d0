"""A clock that jumps stops a live run before it cuts anything by it."""

import logging
from pathlib import Path

import pytest

from seawall.dataflows import Sequencer
from seawall.dataflows._inputs import JUMP_MAX_S, SECOND_NS, WallClock, clock_of, wall_clock
from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.errors import ClockError
from seawall_testing.desk import MS, SECOND, T0, account, fill, instrument, lines, write_desk
from seawall_testing.pipeline import MemoryBus

DAY_S = 86_400


class Machine:
    """A machine's two clocks: one that somebody sets, and one that nobody does."""

    def __init__(self) -> None:
        self.wall, self.steady = T0 * 1000, 0
        self.clock = WallClock(lambda: self.wall, lambda: self.steady)

    def pass_ns(self, passed: int, set_ns: int = 0) -> None:
        self.wall += passed + set_ns
        self.steady += passed


@pytest.fixture
def live_configuration(tmp_path: Path) -> Configuration:
    path = write_desk(tmp_path, {}, shards=1)
    path.write_text(path.read_text().replace("events = []", 'topics = ["in"]'))
    return load_configuration(path)


def put(bus: MemoryBus, *records: object) -> None:
    writer = bus.writer([("in", 0)])
    for line in lines(*records).splitlines():
        writer.append("in", 0, "", line, {})
    writer.flush()


def follow(sequencer: Sequencer, machine: Machine, bus: MemoryBus, ticks: int) -> None:
    for _ in range(ticks):
        machine.pass_ns(100 * MS * 1000)
        put(bus, fill(machine.wall // 1000 - MS, f"f{machine.wall}"))
        sequencer.step()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_jump_is_an_error_and_what_a_time_service_does_is_none(sign: int) -> None:
    machine = Machine()
    for _ in range(10):
        machine.pass_ns(DAY_S * SECOND_NS, sign * JUMP_MAX_S * SECOND_NS)
        assert machine.clock() == machine.wall // 1000
    machine.pass_ns(1, sign * (JUMP_MAX_S + 1) * SECOND_NS)
    with pytest.raises(ClockError, match=r"jumped by [+-]61 s.*chronyc tracking.*run this again"):
        machine.clock()


def test_one_reading_a_day_ahead_stops_a_live_run_which_goes_on_when_it_is_started_again(
    live_configuration: Configuration,
) -> None:
    bus, machine = MemoryBus(), Machine()
    put(bus, instrument(), *account("a"))
    sequencer = Sequencer(live_configuration, bus, machine.clock)
    follow(sequencer, machine, bus, 20)
    stood = bus.end("journal", 0)
    machine.pass_ns(0, DAY_S * SECOND_NS)
    with pytest.raises(ClockError):
        sequencer.step()
    sequencer.close()
    machine.pass_ns(0, -DAY_S * SECOND_NS)
    sequencer = Sequencer(live_configuration, bus, WallClock(lambda: machine.wall, lambda: machine.steady))
    follow(sequencer, machine, bus, 20)
    assert bus.end("journal", 0) >= stood + 19
    sequencer.close()


def test_a_journal_that_is_ahead_of_the_clock_is_told_at_the_start(
    live_configuration: Configuration, caplog: pytest.LogCaptureFixture
) -> None:
    bus, machine = MemoryBus(), Machine()
    put(bus, instrument(), *account("a"))
    sequencer = Sequencer(live_configuration, bus, machine.clock)
    follow(sequencer, machine, bus, 20)
    sequencer.close()
    for behind_s, told in ((1, False), (3600, True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            Sequencer(
                live_configuration, bus, lambda behind_s=behind_s: machine.wall // 1000 - behind_s * SECOND
            ).close()  # type: ignore[misc]
        assert any("no slice is cut until it is there" in record.getMessage() for record in caplog.records) == told


def test_bounded_inputs_do_not_mind_what_the_clock_does(tmp_path: Path, live_configuration: Configuration) -> None:
    assert isinstance(clock_of(live_configuration), WallClock)
    assert clock_of(load_configuration(write_desk(tmp_path / "bounded", {}, shards=1))) is wall_clock
