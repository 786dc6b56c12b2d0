"""Every core state passes one suite of properties, and whole runs do not depend on how and where they ran.

Resume equals uninterrupted; batch split, keys, workers, processes, hash seeds and CPU features have no effect; replay
is byte-identical.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import _key_files
from seawall.operators.core.holdings import shard_of
from seawall.ops.verify import replay
from seawall.schemas.records import decode_slice
from seawall_testing import book_digest, crisis, desk
from seawall_testing.command_line import Contents, bus_contents, differences, seawall
from seawall_testing.core_states import StateCase, cases_by_name
from seawall_testing.paths import TESTS
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.state_checks import CHECKS

SHARDS = 2
NAMES = [f"{kind}-{key}" for key in ("0", "1", "all") for kind in ("exposure", "limits", "mitigation", "audit")]
NAMES = ["firm" if name == "exposure-all" else name for name in NAMES] + ["conduct-0", "conduct-1"]
KEEN = {"level": 0.2, "persistence": 1, "refractory_s": 0.2, "warm_up": 2, "window_s": 1}


@pytest.fixture(scope="module")
def crisis_pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    folder = tmp_path_factory.mktemp("core")
    files = {"limits": crisis.LIMITS, "playbook": crisis.PLAYBOOK}
    return run_pipeline(folder, *crisis.records(2), **files, shards=SHARDS, conduct=KEEN)


@pytest.fixture(scope="module")
def known(crisis_pipeline: PipelineRun) -> dict[str, StateCase]:
    return cases_by_name(crisis_pipeline, SHARDS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_every_core_state(known: dict[str, StateCase], name: str, check: Callable[[StateCase], None]) -> None:
    check(known[name])


def test_every_state_of_risk_is_among_the_subjects(known: dict[str, StateCase]) -> None:
    assert set(known) == set(NAMES)
    assert all(len(subject.items) > 2 for subject in known.values())


def test_the_watch_over_accounts_has_something_to_say_in_every_shard(crisis_pipeline: PipelineRun) -> None:
    alerts = [alert["shard"] for alert in crisis_pipeline.topic("alerts") if alert["kind"] == "unusual_conduct"]
    assert set(alerts) == set(range(SHARDS))


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_isolated(crisis_pipeline: PipelineRun) -> None:
    """A shard says the same whether the others are there or not, in whatever order their slices come between."""
    for seed in range(3):
        queues = {
            s: [v for v, p in zip(crisis_pipeline.values, crisis_pipeline.slices, strict=True) if p.shard == s]
            for s in range(SHARDS)
        }
        rng, order = random.Random(seed), []
        while any(queues.values()):
            order.append(queues[rng.choice([shard for shard, queue in queues.items() if queue])].pop(0))
        mixed = PipelineRun(order, SHARDS)
        for shard in (*range(SHARDS), SHARDS):
            wanted = [audited for audited in crisis_pipeline.audited if audited.moment.partition == shard]
            assert [audited for audited in mixed.audited if audited.moment.partition == shard] == wanted


def test_a_shard_is_silent_about_accounts_of_others(crisis_pipeline: PipelineRun) -> None:
    for record in crisis_pipeline.topic("exposures"):
        if record["shard"] == "all":
            continue
        for row in record["accounts"]:
            party = row["account"] if row["account"] in crisis.CLIENTS else "hub"
            assert shard_of(party, SHARDS) == record["shard"]


def test_memory_is_bounded_by_what_is_remembered_and_held(tmp_path: Path) -> None:
    """Ten times as many fills on the same positions leave a state of the same size."""

    def size(count: int) -> int:
        records = crisis.reference()
        records += [
            desk.fill(desk.T0 + at * 100, f"f{at:06}", quantity="1", side="sell" if at % 2 else "buy")
            for at in range(count)
        ]
        found = run_pipeline(tmp_path / str(count), *records, fill_memory=1000)
        return len(found.exposures[0].snapshot())

    assert size(40_000) < 1.1 * size(4_000)


# --- processes, seeds and processors ----------------------------------------------------------------------------------


def run_digest(**environment: str) -> tuple[str, int, int]:
    command = [sys.executable, "-m", "seawall_testing.book_digest"]
    env = {**os.environ, "PYTHONPATH": str(TESTS), **environment}
    done = subprocess.run(command, env=env, cwd=TESTS, capture_output=True, text=True, check=True, timeout=120)
    text, count, positions = done.stdout.split()
    return text, int(count), int(positions)


@pytest.fixture(scope="module")
def digest_here() -> tuple[str, int, int]:
    return book_digest.digest()


def test_the_large_book_takes_the_vector_paths(digest_here: tuple[str, int, int]) -> None:
    _, count, positions = digest_here
    assert positions > 20_000
    assert count > 100


@pytest.mark.parametrize("seed", ["0", "1"])
def test_hash_seeds_have_no_effect(digest_here: tuple[str, int, int], seed: str) -> None:
    assert run_digest(PYTHONHASHSEED=seed) == digest_here


def test_the_processors_features_have_no_effect(digest_here: tuple[str, int, int]) -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    features = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    if not features:
        pytest.skip("numpy dispatches to no feature of this processor")
    assert run_digest(NPY_DISABLE_CPU_FEATURES=" ".join(features)) == digest_here


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Contents]]:
    path = crisis.write_crisis(tmp_path_factory.mktemp("run"), 3, shards=4)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    yield path.parent, bus_contents(path.parent)


def twin(original: Path, folder: Path) -> Path:
    """Return the configuration of a run of the same inputs and key in another folder."""
    folder.mkdir()
    for name in ("reference.jsonl", "book.jsonl", "marks.jsonl", "limits.toml", "playbook.toml", "desk.toml"):
        shutil.copy(original / name, folder / name)
    shutil.copytree(original / "keys", folder / "keys")
    return folder / "desk.toml"


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--workers", 2],
        ["--processes", 2],
        ["--processes", 2, "--workers", 2],
    ],
    ids=lambda options: " ".join(map(str, options)) or "again",
)
def test_workers_processes_and_folders_have_no_effect(
    uninterrupted: tuple[Path, Contents], tmp_path: Path, options: list[object]
) -> None:
    original, wanted = uninterrupted
    path = twin(original, tmp_path / "elsewhere")
    done = seawall("run", path, *options, env={"PYTHONHASHSEED": "3"})
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent), wanted) == []


def test_the_dataflows_run_one_after_the_other_write_the_same(
    uninterrupted: tuple[Path, Contents], tmp_path: Path
) -> None:
    original, wanted = uninterrupted
    path = twin(original, tmp_path / "elsewhere")
    for name in ("market", "sequence", "risk", "seal"):
        done = seawall("run", path, "--only", name)
        assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent), wanted) == []


def test_replay_equals_run(uninterrupted: tuple[Path, Contents]) -> None:
    folder, found = uninterrupted
    public = _key_files.public_keys(folder / "keys" / "dev.pem")
    report, slices, _ = replay(open_bus("sqlite:seawall.db", folder), public, 4)
    assert report.good, [str(finding) for finding in [*report.findings, *report.behind]]
    assert slices == sum(len(records) for (topic, _), records in found.items() if topic == "journal")
    derived = ("exposures", "alerts", "breaches", "commands", "audit")
    assert {t: report.records[t] for t in derived} == {
        t: sum(len(records) for (topic, _), records in found.items() if topic == t) for t in derived
    }


def test_a_run_holds_records_of_every_topic_that_the_dataflows_write(uninterrupted: tuple[Path, Contents]) -> None:
    topics = {topic for topic, _ in uninterrupted[1]}
    assert topics == {
        "signals",
        "journal",
        "exposures",
        "alerts",
        "breaches",
        "commands",
        "audit",
        "rejects",
        "state",
        "checkpoints",
    }
    ends = [decode_slice(records[-1][3]).end for (topic, _), records in uninterrupted[1].items() if topic == "journal"]
    assert ends == [True] * 4
    levels = {json.loads(r[3])["level"] for (t, _), rs in uninterrupted[1].items() if t == "breaches" for r in rs}
    assert {"soft", "hard"} <= levels
