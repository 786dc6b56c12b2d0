"""The endpoint of a run says that it is stuck when it is, why, and that it is well again afterwards."""

import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.connectors.bus import Replica, cluster_of, open_bus
from seawall.ops.run._health import LagTrend, Monitor
from seawall.ops.run._health_server import HealthServer
from seawall.ops.run._worker_progress import WorkerProgress
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, run_command, wait_for
from seawall_testing.desk import Json, fill, lines
from seawall_testing.live_runs import (
    WAIT_S,
    Start,
    ask_endpoint,
    metric_value,
    send,
    starting_runs,
    wait_for_endpoint,
    write_live,
)


@pytest.fixture
def started() -> Iterator[Start]:
    with starting_runs() as start:
        yield start


def fills(count: int) -> list[Json]:
    return [fill(time.time_ns() // 1000, f"f{at}") for at in range(count)]


def test_a_run_whose_bus_hangs_is_stuck_and_alive_again_once_it_does_not(tmp_path: Path, started: Start) -> None:
    path = write_live(tmp_path)
    process = started(path)
    wait_for_endpoint(path, "ready", lambda code, _: code == 200)
    send(tmp_path, "fills", *fills(50))
    with sqlite3.connect(tmp_path / "seawall.db", isolation_level=None) as other:
        other.execute("begin immediate")  # a backup that never ends, or a disk that does not answer
        text = wait_for_endpoint(path, "live", lambda code, _: code == 503)
        assert "the journal has not moved for" in text
        wait_for_endpoint(path, "metrics", lambda code, text: metric_value(text, "seawall_live") == 0)
        other.execute("rollback")
    wait_for_endpoint(path, "live", lambda code, _: code == 200)
    wait_for_endpoint(path, "ready", lambda code, _: code == 200)
    text = wait_for_endpoint(
        path,
        "metrics",
        lambda _, text: metric_value(text, "seawall_consumer_lag_records", dataflow="sequence", topic="fills") == 0,
    )
    assert metric_value(text, "seawall_live") == metric_value(text, "seawall_ready") == 1
    for what in ("the epoch of risk", "the epoch of seal"):  # one that has just begun anew is not told yet
        wait_for_endpoint(
            path, "metrics", lambda _, text, what=what: metric_value(text, "seawall_standstill_seconds", what=what) < 30
        )
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    assert ask_endpoint(path, "live") == (0, "")


def test_a_worker_process_that_stands_still_holds_up_the_epoch_and_is_noticed(tmp_path: Path, started: Start) -> None:
    path = write_live(tmp_path)
    process = started(path, "--processes", "2")
    wait_for_endpoint(path, "ready", lambda code, _: code == 200)
    wait_for_endpoint(path, "metrics", lambda _, text: "the epoch of risk" in text)
    worked = {"stage": "exposure"}  # in the worker processes, which hand their numbers over
    wait_for_endpoint(path, "metrics", lambda _, text: metric_value(text, "seawall_stage_slices_total", **worked) > 0)
    worker = worker_of(process)
    os.kill(worker, signal.SIGSTOP)
    told = ("the epoch of risk has not moved", "the audit has not moved")  # on a busy machine the journal may be first
    wait_for_endpoint(path, "live", lambda code, text: code == 503 and any(one in text for one in told))
    os.kill(worker, signal.SIGCONT)
    wait_for_endpoint(path, "live", lambda code, _: code == 200)


def worker_of(process: "subprocess.Popen[bytes]") -> int:
    """Return a worker process of a run."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return next(int(one) for one in children if b"seawall.ops.run.worker" in Path(f"/proc/{one}/cmdline").read_bytes())


def test_a_stand_in_whose_epochs_stand_still_is_noticed_while_the_holder_goes_on(
    tmp_path: Path, started: Start
) -> None:
    """Journal and audit move, because the holder writes them: only the stand-in's own store says that it is stuck."""
    path = write_live(tmp_path)
    holders = path.with_name("holder.toml")
    holders.write_text(path.read_text().partition("[health]")[0])
    started(holders, "--only", "sequence", "--only", "risk", "--replica", "holder")
    until_decided(tmp_path)
    process = started(path, "--only", "risk", "--replica", "other", "--processes", "2")
    wait_for_endpoint(path, "ready", lambda code, _: code == 200)
    wait_for_endpoint(path, "metrics", lambda _, text: "the epoch of risk" in text)
    worker = worker_of(process)
    os.kill(worker, signal.SIGSTOP)
    wait_for_endpoint(path, "live", lambda code, text: code == 503 and "the epoch of risk has not moved for" in text)
    os.kill(worker, signal.SIGCONT)
    wait_for_endpoint(path, "live", lambda code, _: code == 200)


def until_decided(folder: Path) -> None:
    """Wait until the audit of a run has a record."""
    bus = open_bus("sqlite:seawall.db", folder)
    wait_for(lambda: bus.end("audit", 0) > 0, WAIT_S)
    bus.close()


def test_a_dataflow_that_is_behind_is_alive_but_not_ready_until_it_has_caught_up(
    tmp_path: Path, started: Start
) -> None:
    path = write_live(tmp_path, lag_max=3)
    process = started(path, "--only", "sequence", "--only", "market")
    wait_for_endpoint(path, "live", lambda code, _: code == 200)
    bus = open_bus("sqlite:seawall.db", tmp_path)
    deadline = time.monotonic() + WAIT_S
    while bus.end("journal", 0) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    bus.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    configuration = load_configuration(path)
    monitor = Monitor(configuration, {"risk"}, [], lambda: False)
    monitor.look()
    stuck, behind = monitor.answers()
    assert stuck == [] and behind[0].startswith("risk is ") and "more than 3" in behind[0]
    assert behind[-1] == "the audit has not grown yet since this process began"
    started(path)
    wait_for_endpoint(path, "ready", lambda code, _: code == 200)


def test_a_sealer_that_stands_still_is_stuck_but_not_one_of_several(tmp_path: Path, started: Start) -> None:
    path = write_live(tmp_path)
    process = started(path)
    wait_for_endpoint(path, "metrics", lambda _, text: "the epoch of seal" in text)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    for replica, wanted in ((None, ["the epoch of seal has not moved for 60 s, more than 3"]), (Replica("one", 5), [])):
        now = [100.0]
        monitor = Monitor(load_configuration(path), {"seal"}, [], lambda: False, lambda: now[0], replica)  # noqa: B023
        monitor.look()
        assert monitor.answers()[0] == []
        now[0] += 60
        monitor.look()
        assert monitor.answers()[0] == wanted


def test_a_thread_that_ended_while_inputs_are_live_is_named(tmp_path: Path) -> None:
    thread = threading.Thread(target=str, name="market")
    thread.start()
    thread.join()
    for stopping, wanted in ((False, ["the thread market has ended"]), (True, [])):
        monitor = Monitor(load_configuration(write_live(tmp_path)), set(), [thread], lambda: stopping)  # noqa: B023
        monitor.look()
        assert monitor.answers()[0] == wanted


def test_a_look_that_never_comes_back_is_a_reason_too(tmp_path: Path) -> None:
    now = [100.0]
    monitor = Monitor(load_configuration(write_live(tmp_path)), {"sequence"}, [], lambda: False, lambda: now[0])
    assert monitor.answers() == ([], ["the run is starting"])
    monitor.look()
    assert monitor.answers() == ([], ["the journal has not grown yet since this process began"])
    now[0] += 60
    assert monitor.answers()[0] == ["the last look at the run began 60 s ago and did not end"]


def test_a_first_look_that_never_comes_back_is_one_as_well(tmp_path: Path) -> None:
    now = [100.0]
    monitor = Monitor(load_configuration(write_live(tmp_path)), {"sequence"}, [], lambda: False, lambda: now[0])
    now[0] += 60
    assert monitor.answers()[0] == ["the first look at the run began 60 s ago and did not end"]


def test_a_look_that_fails_is_followed_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, again = list[int](), threading.Event()

    def ask(frontier: WorkerProgress) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise OSError(24, "Too many open files")
        again.set()

    monkeypatch.setattr(WorkerProgress, "__call__", ask)
    monitor = Monitor(load_configuration(write_live(tmp_path)), {"risk"}, [], lambda: False)
    monitor.start()
    assert again.wait(WAIT_S)
    monitor.end()
    monitor.join()
    assert monitor.answers()[0] == []


def test_a_bus_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    path = write_live(tmp_path)
    (tmp_path / "seawall.db").write_bytes(b"no database at all" * 1000)
    monitor = Monitor(load_configuration(path), {"risk"}, [], lambda: False)
    monitor.look()
    assert "the bus cannot be read" in monitor.answers()[0][0]


def test_a_lag_that_rises_over_the_window_grows_and_one_that_comes_and_goes_does_not() -> None:
    lag = LagTrend(10.0)
    for second in range(40):
        lag.look(150 if second % 3 else 10, float(second))
        assert lag.growth() == 0
    lag = LagTrend(10.0)
    for second in range(30):
        lag.look(50 * second, float(second))
    assert lag.growth() == 500
    lag.look(0, 30.0)
    assert lag.growth() == 0


@pytest.mark.parametrize("listen", ["127.0.0.1:99999", "no.such.host.invalid:80"])
def test_an_address_that_cannot_be_listened_on_is_said_in_one_line(listen: str, tmp_path: Path) -> None:
    monitor = Monitor(load_configuration(write_live(tmp_path)), set(), [], lambda: False)
    with pytest.raises(UsageError, match="cannot be listened on"):
        HealthServer(listen, monitor)


def test_a_wrong_key_of_the_table_is_answered_with_the_nearest(tmp_path: Path) -> None:
    path = write_live(tmp_path)
    path.write_text(path.read_text().replace("stuck_s", "stuk_s"))
    done = run_command("run", path)
    assert done.returncode == 2 and "did you mean 'stuck_s'?" in done.stderr


@pytest.mark.kafka
def test_lags_on_a_cluster_are_those_of_the_run(broker: Broker, tmp_path: Path) -> None:
    path = write_live(tmp_path)
    topic = broker.url("fills").rpartition("/")[2]
    path.write_text(f'bus = "{broker.url("health")}"\n{path.read_text()}'.replace('"fills"', f'"{topic}"'))
    configuration = load_configuration(path)
    bus = open_bus(configuration.bus, tmp_path)
    cluster_of(bus).provide({topic: 2}, make=True)
    writer = cluster_of(bus).copier([(topic, 1)])
    for at in range(7):
        writer.append(topic, 1, "", lines(fill(time.time_ns() // 1000, f"f{at}")).strip(), {})
    writer.flush()
    process = subprocess.Popen([*CLI, "run", str(path)], start_new_session=True)
    wait_for_endpoint(path, "ready", lambda code, _: code == 200)
    lag = {"dataflow": "sequence", "topic": topic, "partition": "1"}
    wait_for_endpoint(path, "metrics", lambda _, text: metric_value(text, "seawall_consumer_lag_records", **lag) == 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0
    writer.append(topic, 1, "", b"{}", {})
    writer.flush()
    monitor = Monitor(configuration, {"sequence", "risk"}, [], lambda: False)
    monitor.look()
    not_begun = [f"the {what} has not grown yet since this process began" for what in ("journal", "audit")]
    assert monitor.answers() == ([], not_begun)
    assert monitor.lags()["sequence", topic, 1] == 1
    assert all(records == 0 for (dataflow, *_), records in monitor.lags().items() if dataflow == "risk")


HELD = """
import fcntl, sys
with open(sys.argv[1], "r+b") as store:
    try:
        fcntl.lockf(store, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(0)
sys.exit(1)
"""


def test_to_ask_how_far_an_engine_has_come_lets_go_of_no_lock_of_its_process(tmp_path: Path) -> None:
    store = tmp_path / "part-0.sqlite3"
    with contextlib.closing(sqlite3.connect(store)) as made, made:
        made.execute("create table exs (ex_num)")
        made.execute("create table fronts (ex_num, worker_frontier)")
        made.execute("insert into exs values (3)")
        made.executemany("insert into fronts values (3, ?)", [(8,), (7,)])
    ask = WorkerProgress(store)
    with store.open("r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_SH)  # as the engine's own SQLite does
        assert ask() == ask() == (3, 7)
        assert subprocess.run([sys.executable, "-c", HELD, str(store)], check=False).returncode == 0
        fcntl.lockf(held, fcntl.LOCK_UN)
    ask.close()
    nothing = WorkerProgress(tmp_path / "none")
    assert nothing() is None
    nothing.close()
