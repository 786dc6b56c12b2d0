"""Whatever is killed at whatever moment, on Kafka: files give the same bytes, topics lose and repeat nothing.

`SEAWALL_KAFKA_KILLS=200` sets how many kills each test makes; a few by default. Run with ``-s`` it tells each one.
"""

import os
import random
import time
from pathlib import Path

import pytest

from seawall.ops.kafka.cluster import Cluster
from seawall_testing.clusters import kafka_broker
from seawall_testing.clusters.kafka_broker import Broker, on_kafka
from seawall_testing.command_line import (
    PACE,
    RunProcess,
    bus_contents,
    differences,
    seawall,
)
from seawall_testing.crisis import CrisisRun, CrisisRuns

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(7200 if "SEAWALL_KAFKA_KILLS" in os.environ else 300)]
KILLS = int(os.environ.get("SEAWALL_KAFKA_KILLS", "3"))
WAYS: list[list[str]] = [[], ["--workers", "2"], ["--processes", "2"], ["--processes", "2", "--workers", "2"]]
SEED = os.environ.get("SEAWALL_KAFKA_SEED", "")  # a campaign of several parts kills at other moments in each
STARTING_S = 0.5  # before that no process has opened anything
DOWN_S = 2.0
CHANGED = 0.5  # of the runs that a killed broker leaves alive: another way meets the next kill
# risk starts later than the sequencer, and falls behind it where it is killed again and again
CATCH_UP_S = (90 + KILLS) * PACE
BEHIND_MAX = 40  # slices: a clean stop decides on them


def tell(what: str, running: RunProcess, kills: int) -> None:
    """Say which kill this was; a long campaign counts these lines (``pytest -s``)."""
    print(f"killed {what} {' '.join(running.options) or '--workers 1'}: {kills}", flush=True)


def restart(cluster: Cluster, rng: random.Random) -> None:
    """Kill the broker with -9 and start it again a moment later."""
    cluster.kill()
    time.sleep(rng.uniform(0, DOWN_S))
    cluster.start()


@pytest.fixture(scope="module")
def uninterrupted(crisis_run: CrisisRuns) -> CrisisRun:
    """The inputs with their key, and what an uninterrupted run on the embedded bus makes of them."""
    return crisis_run(60, per_second=60, shards=4)


@pytest.mark.parametrize("victim", ["process", "broker"])
def test_kills_at_random_moments_leave_every_topic_of_files_byte_for_byte(
    uninterrupted: CrisisRun, broker: Broker, tmp_path: Path, victim: str
) -> None:
    original, whole = uninterrupted.folder, uninterrupted.records
    rng, kills, attempt = random.Random(f"{victim} {SEED}"), 0, 0
    cluster = broker.own() if victim == "broker" else None
    url, path = "", Path()
    while kills < KILLS:
        if not url:
            url, attempt = broker.url("kills"), attempt + 1
            path = on_kafka(original, tmp_path / str(attempt), url)
        running = RunProcess(path, rng.choice(WAYS))
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
            assert differences(bus_contents(path.parent, url=url), whole) == []
            broker.drop(url)
            url = ""
    done = seawall("run", path, *rng.choice(WAYS), timeout=250 * PACE)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent, url=url), whole) == []
    assert seawall("verify", path).returncode == 0


@pytest.mark.parametrize("victim", ["process", "broker"])
def test_every_record_of_live_topics_is_journaled_exactly_once_whatever_is_killed(
    broker: Broker, tmp_path: Path, victim: str
) -> None:
    rng, kills = random.Random(f"live {victim} {SEED}"), 0
    cluster = broker.own() if victim == "broker" else None
    url = broker.url("live")
    path = kafka_broker.write_kafka_desk(tmp_path / "run", url)
    feed, running = kafka_broker.Feed(url, per_second=100), RunProcess(path, rng.choice(WAYS))
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
                running = RunProcess(path, rng.choice(WAYS))
        feed.finish()
        deadline = time.monotonic() + CATCH_UP_S
        while (
            kafka_broker.journaled_fills(url, path.parent).total() < len(feed.sent)
            or kafka_broker.undecided(url, path.parent) > BEHIND_MAX
        ):
            assert time.monotonic() < deadline, running.said()
            if running.wait(0.2) is not None:
                running = RunProcess(path, [])
        assert running.stop() == 0, running.said()
    finally:
        feed.finish()
        if running.wait(0) is None:
            running.kill()
    found = kafka_broker.journaled_fills(url, path.parent)
    assert set(found) == set(feed.sent)
    assert set(found.values()) == {1}
    poison = kafka_broker.rejected(url, path.parent)
    assert len(poison) == feed.bad and set(poison.values()) == {1}
    for command in ("verify", "replay"):
        done = seawall(command, path)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
