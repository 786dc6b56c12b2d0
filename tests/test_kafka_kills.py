"""Whatever is killed at whatever moment, on Kafka: files give the same bytes, topics lose and repeat nothing.

`SEAWALL_KAFKA_KILLS=200` sets how many kills each test makes; a few by default. Run with ``-s`` it tells each one.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from seawall.ops.kafka.cluster import Cluster
from seawall_testing import crisis, kafka_live
from seawall_testing.kafka import Broker, on_kafka
from seawall_testing.runs import CLI, Contents, contents, differences, seawall

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(7200 if "SEAWALL_KAFKA_KILLS" in os.environ else 300)]
KILLS = int(os.environ.get("SEAWALL_KAFKA_KILLS", "3"))
WAYS: list[list[str]] = [[], ["--workers", "2"], ["--processes", "2"], ["--processes", "2", "--workers", "2"]]
SEED = os.environ.get("SEAWALL_KAFKA_SEED", "")  # a campaign of several parts kills at other moments in each
PACE = float(os.environ.get("SEAWALL_KAFKA_PACE", "1"))  # of a busy machine, on which a start takes longer
# In a campaign, which is alone on its machine, the broker has the processors first: while it is away, workers of
# several processes wait busily (`ops/docs/manual/kafka.md`).
YIELDING = ("nice", "-n", "10") if "SEAWALL_KAFKA_KILLS" in os.environ else ()
STARTING_S = 0.5  # before that no process has opened anything
DOWN_S = 2.0
CHANGED = 0.5  # of the runs that a killed broker leaves alive: another way meets the next kill
ENDING_S = 60.0 * PACE
# risk starts later than the sequencer, and falls behind it where it is killed again and again
CATCH_UP_S = (90 + KILLS) * PACE
BEHIND_MAX = 40  # slices: a clean stop decides on them


class Running:
    """A run in a process group of its own, to be killed; ``program`` stands for the command line."""

    def __init__(self, path: Path, options: list[str], program: list[str] = CLI) -> None:
        self.options = options
        self.errors = path.with_suffix(".err").open("ab+")
        command = [*YIELDING, *program, "run", str(path), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.errors, process_group=0)

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit code, None where it is alive after a while."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill every process of the run with -9, where any is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def kill_one(self, rng: random.Random) -> None:
        """Kill one process of the run with -9; the others are to end by themselves."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(self._alive() or [self._process.pid]), signal.SIGKILL)
        deadline = time.monotonic() + ENDING_S
        while self.wait(0.05) is None or self._alive():
            assert time.monotonic() < deadline, f"{self._alive()} live on\n{self.said()}"

    def stop(self) -> int:
        """Stop it cleanly, a moment after its start too; return the exit code."""
        deadline = time.monotonic() + ENDING_S
        while not self._listens() and self.wait(0.05) is None:
            assert time.monotonic() < deadline, f"it never listened to SIGTERM\n{self.said()}"
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(ENDING_S)

    def _listens(self) -> bool:
        """Tell whether a handler of its own catches SIGTERM; before, the signal ends it, and nothing has begun."""
        command = ["ps", "-o", "caught=", "-p", str(self._process.pid)]
        mask = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return bool(int(mask or "0", 16) >> (signal.SIGTERM - 1) & 1)

    def _alive(self) -> list[int]:
        """Return the processes of the run, those left out that have ended and nobody asked after."""
        found = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
        rows = [line.split() for line in found.stdout.splitlines()]
        return [int(pid) for pid, group, state in rows if int(group) == self._process.pid and state[0] != "Z"]

    def said(self) -> str:
        """Return what it wrote to standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


def tell(what: str, running: Running, kills: int) -> None:
    """Say which kill this was; a long campaign counts these lines (``pytest -s``)."""
    print(f"killed {what} {' '.join(running.options) or '--workers 1'}: {kills}", flush=True)


def restart(cluster: Cluster, rng: random.Random) -> None:
    """Kill the broker with -9 and start it again a moment later."""
    cluster.kill()
    time.sleep(rng.uniform(0, DOWN_S))
    cluster.start()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """The inputs with their key, and what an uninterrupted run on the embedded bus makes of them."""
    path = crisis.write_crisis(tmp_path_factory.mktemp("whole") / "run", 60, per_second=60, shards=4)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    return path.parent, contents(path.parent)


@pytest.mark.parametrize("victim", ["process", "broker"])
def test_kills_at_random_moments_leave_every_topic_of_files_byte_for_byte(
    wanted: tuple[Path, Contents], broker: Broker, tmp_path: Path, victim: str
) -> None:
    original, whole = wanted
    rng, kills, attempt = random.Random(f"{victim} {SEED}"), 0, 0
    cluster = broker.own() if victim == "broker" else None
    url, path = "", Path()
    while kills < KILLS:
        if not url:
            url, attempt = broker.url("kills"), attempt + 1
            path = on_kafka(original, tmp_path / str(attempt), url)
        running = Running(path, rng.choice(WAYS))
        code = running.wait(rng.uniform(STARTING_S, 8 * PACE))
        if code is None and cluster is not None:
            restart(cluster, rng)
            kills, code = kills + 1, running.wait(180 * PACE)
            tell("broker, files", running, kills)
            assert code in (0, 2), running.said()
        elif code is None:
            running.kill() if rng.random() < 0.5 else running.kill_one(rng)
            kills += 1
            tell("process, files", running, kills)
        else:
            assert code == 0, running.said()
        if code == 0 and kills < KILLS:  # it finished: begin the next round anew
            assert differences(contents(path.parent, url=url), whole) == []
            broker.drop(url)
            url = ""
    done = seawall("run", path, *rng.choice(WAYS), timeout=250 * PACE)
    assert done.returncode == 0, done.stderr
    assert differences(contents(path.parent, url=url), whole) == []
    assert seawall("verify", path).returncode == 0


@pytest.mark.parametrize("victim", ["process", "broker"])
def test_every_record_of_live_topics_is_journaled_exactly_once_whatever_is_killed(
    broker: Broker, tmp_path: Path, victim: str
) -> None:
    rng, kills = random.Random(f"live {victim} {SEED}"), 0
    cluster = broker.own() if victim == "broker" else None
    url = broker.url("live")
    path = kafka_live.write_live(tmp_path / "run", url)
    feed, running = kafka_live.Feed(url, per_second=100), Running(path, rng.choice(WAYS))
    feed.start()
    try:
        while kills < KILLS:
            code = running.wait(rng.uniform(STARTING_S, 6 * PACE))
            if code is None and cluster is not None:
                restart(cluster, rng)
            elif code is None:
                running.kill() if rng.random() < 0.5 else running.kill_one(rng)
            assert code in (None, 2), running.said()
            if code is None:
                kills += 1
                tell(f"{victim}, topics", running, kills)
            if running.wait(0) is None and cluster is not None and rng.random() < CHANGED:
                assert running.stop() in (0, 2), running.said()
            if running.wait(0) is not None:
                running = Running(path, rng.choice(WAYS))
        feed.finish()
        deadline = time.monotonic() + CATCH_UP_S
        while (
            kafka_live.journaled_fills(url, path.parent).total() < len(feed.sent)
            or kafka_live.undecided(url, path.parent) > BEHIND_MAX
        ):
            assert time.monotonic() < deadline, running.said()
            if running.wait(0.2) is not None:
                running = Running(path, [])
        assert running.stop() == 0, running.said()
    finally:
        feed.finish()
        if running.wait(0) is None:
            running.kill()
    found = kafka_live.journaled_fills(url, path.parent)
    assert set(found) == set(feed.sent)
    assert set(found.values()) == {1}
    poison = kafka_live.rejected(url, path.parent)
    assert len(poison) == feed.bad and set(poison.values()) == {1}
    for command in ("verify", "replay"):
        done = seawall(command, path)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
