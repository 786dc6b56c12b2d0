"""A kill -9 at any moment, and a restart with any number of workers and processes, changes no byte of any topic."""

import os
import random
import shutil
from pathlib import Path

import pytest

from seawall_testing.command_line import bus_contents, differences, run_and_kill, seawall
from seawall_testing.crisis import CrisisRun, CrisisRuns

INPUTS = ("reference.jsonl", "book.jsonl", "marks.jsonl", "limits.toml", "playbook.toml", "desk.toml")
WAYS: list[list[str]] = [[], ["--workers", "2"], ["--processes", "2"], ["--processes", "2", "--workers", "2"]]
STARTING_S = 0.2  # before that no process has opened anything


@pytest.fixture(scope="module")
def uninterrupted(crisis_run: CrisisRuns) -> CrisisRun:
    """The inputs with their key, and what an uninterrupted run on the embedded bus makes of them."""
    return crisis_run(60, per_second=60, shards=4)


@pytest.fixture(scope="module")
def longer(crisis_run: CrisisRuns) -> CrisisRun:
    """The same of a longer crisis, for the many kills."""
    return crisis_run(100, per_second=60, shards=4)


def twin(original: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in INPUTS:
        shutil.copy(original / name, folder / name)
    shutil.copytree(original / "keys", folder / "keys")
    return folder / "desk.toml"


def run_with_kills(original: Path, folder: Path, ways: list[list[str]], kills: int, took: float, seed: int) -> Path:
    """Run with kills at random moments, then to the end; return the folder."""
    rng, path = random.Random(seed), twin(original, folder)
    done = 0
    for _ in range(10 * kills):
        if done == kills:
            break
        alive = run_and_kill(path, rng.choice(ways), rng.uniform(STARTING_S, STARTING_S + took))
        done += alive
        if not alive and done < kills:  # it finished: begin the next round anew
            assert differences(bus_contents(path.parent), bus_contents(original)) == []
            path = twin(original, folder.with_name(f"{folder.name}-{rng.randrange(10**9)}"))
    assert done == kills
    last = seawall("run", path, *rng.choice(ways))
    assert last.returncode == 0, last.stderr
    return path.parent


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param(WAYS[:1], id="1 worker", marks=pytest.mark.soak),
        pytest.param(WAYS[1:2], id="2 workers", marks=pytest.mark.soak),
        pytest.param(WAYS[2:3], id="2 processes"),
        pytest.param(WAYS, id="mixed", marks=pytest.mark.soak),
    ],
)
def test_kills_at_random_moments_leave_every_topic_byte_for_byte(
    uninterrupted: CrisisRun, tmp_path: Path, ways: list[list[str]]
) -> None:
    original, whole, took = uninterrupted
    folder = run_with_kills(original, tmp_path / "run", ways, 3, took, seed=len(ways))
    assert differences(bus_contents(folder), whole) == []
    assert seawall("verify", folder).returncode == 0
    assert seawall("replay", folder).returncode == 0


@pytest.mark.soak
@pytest.mark.skipif("SEAWALL_KILLS" not in os.environ, reason="SEAWALL_KILLS does not say how many kills")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_many_kills_leave_every_topic_byte_for_byte(longer: CrisisRun, tmp_path: Path, seed: int) -> None:
    original, whole, took = longer
    kills = int(os.environ["SEAWALL_KILLS"])
    folder = run_with_kills(original, tmp_path / "run", WAYS, kills, took, seed=100 + seed)
    assert differences(bus_contents(folder), whole) == []
