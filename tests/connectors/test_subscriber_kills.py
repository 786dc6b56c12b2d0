"""A subscriber killed with -9 at any moment: each command has its effect exactly once, and no mark is lost.

The runnable example (``ops/demo/order_gateway.py``) reads the commands of a real run again and again from their start,
is killed, and starts again on the same database, as a consumer does whose offset was not committed.
"""

import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from seawall_testing.command_line import seawall
from seawall_testing.crisis import CrisisRun, CrisisRuns

GATEWAY = [sys.executable, "-m", "seawall.ops.demo.order_gateway"]
KILLS = 5
STARTING_S = 0.2


@pytest.fixture(scope="module")
def finished(crisis_run: CrisisRuns) -> CrisisRun:
    """A run with many commands."""
    return crisis_run(60, per_second=60, shards=4)


@pytest.fixture(scope="module")
def command_folder(finished: CrisisRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dump of the commands of that run and its public keys."""
    found = tmp_path_factory.mktemp("commands")
    (found / "jwks.json").write_text(seawall("keys", "export", finished.folder).stdout)
    (found / "commands.jsonl").write_text(seawall("dump", finished.folder, "commands").stdout)
    return found


def gateway(run: Path, database: Path, after_s: float | None) -> bool:
    """Let the gateway read all commands; kill it after a while; return whether it was killed."""
    words = ["--jwks", run / "jwks.json", "--issuer", "risk/dev", "--environment", "dev", "--database", database]
    command = [*GATEWAY, *map(str, words), "--at", "event"]
    with (run / "commands.jsonl").open() as lines, subprocess.Popen(
        command, stdin=lines, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:  # fmt: skip
        try:
            _, err = process.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        assert process.returncode == 0, err.decode()
        return False


def effects(database: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(database)) as db:
        return list(db.execute("select command_id, type, target from gateway_effect order by at"))


def whole_read(run: Path, database: Path) -> float:
    """Return how long a read from start to end takes: of several the shortest counts, as others only add to it."""
    began = time.monotonic()
    gateway(run, database, None)
    return time.monotonic() - began


def kill_often(run: Path, folder: Path, kills: int, seed: int) -> None:
    """Kill at random moments of a read from start to end; begin on a new database whenever one was read through."""
    folder.mkdir()
    took = min(whole_read(run, folder / f"whole-{number}.db") for number in range(3))
    wanted = effects(folder / "whole-0.db")
    assert len(wanted) == len(set(wanted)) > 50
    dice, done, number = random.Random(seed), 0, 0
    while done < kills:
        if gateway(run, folder / f"{number}.db", dice.uniform(STARTING_S, took)):
            done += 1
        if done == kills or dice.random() < 0.3:
            gateway(run, folder / f"{number}.db", None)
            assert effects(folder / f"{number}.db") == wanted, f"seed {seed}, after {done} kills"
            number += 1


def test_a_subscriber_killed_at_random_moments_applies_each_effect_exactly_once(
    finished: CrisisRun, command_folder: Path, tmp_path: Path
) -> None:
    kill_often(command_folder, tmp_path / "few", KILLS, seed=1)
    ids = {record[3] for (topic, _), records in finished.records.items() if topic == "commands" for record in records}
    assert len(ids) >= len(effects(tmp_path / "few" / "whole-0.db"))


@pytest.mark.soak
@pytest.mark.skipif("SEAWALL_KILLS" not in os.environ, reason="SEAWALL_KILLS does not say how many kills")
@pytest.mark.timeout(3600)
def test_a_subscriber_killed_very_often_applies_each_effect_exactly_once(command_folder: Path, tmp_path: Path) -> None:
    kill_often(command_folder, tmp_path / "many", int(os.environ["SEAWALL_KILLS"]), seed=2)
