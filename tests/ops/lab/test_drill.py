"""Drills: real faults against a real run, and a record of them that shows tampering."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seawall.connectors.keys import Trust
from seawall.ops.cli._app import app
from seawall.ops.lab import load_drill, verify_drill_record
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError, VerificationError
from seawall_testing.desk import Json, instrument, lines
from seawall_testing.pipeline import write_configuration

MARGIN = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
LIMITS: list[Json] = [{"id": "margin", "scope": "account:*", "measure": "margin_ratio", "hard": 1.0}]
RESTRICT: Json = {"kind": "REDUCE_ONLY", "target": "account"}
PLAYBOOK: list[Json] = [{"id": "stop", "when": {"limit": "margin", "level": "hard"}, "commands": [RESTRICT]}]
HEAD = 'config = "desk.toml"\ntopic = "live"\ninstrument = "ETH-PERP"\n'


def write_drill(folder: Path, faults: str) -> Path:
    """Write a live desk and a drill against it."""
    first = {"reference.jsonl": lines(instrument(**MARGIN))}
    path = write_configuration(folder, first, LIMITS, PLAYBOOK, shards=2, mark_max_age_s=2)
    path.write_text(path.read_text().replace("[limits]", 'topics = ["live"]\n[limits]'))
    (folder / "drill.toml").write_text(HEAD + faults)
    return folder / "drill.toml"


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    """Kill -9 and a corrupted snapshot, in one drill."""
    folder = tmp_path_factory.mktemp("drill")
    faults = "within_s = 120\n[[fault]]\nkind = 'kill'\nhold_s = 0.5\nafter_s = 1.5\n"
    faults += (
        "[[fault]]\nkind = 'corrupt'\nhold_s = 0.5\nafter_s = 1.5\n[[fault]]\nkind = 'skew'\nhold_s = 0\nafter_s = 0\n"
    )
    path = write_drill(folder, faults)
    done = CliRunner().invoke(app, ["drill", str(path), "--dir", str(folder / "out"), "--json"])
    assert done.exit_code == 0, (done.output, (folder / "out" / "run.log").read_text()[-2000:])
    return folder, json.loads(done.stdout)


def test_a_killed_run_a_corrupted_snapshot_and_a_skewed_clock_are_noticed_and_recovered_from(
    drilled: tuple[Path, Json],
) -> None:
    _, found = drilled
    kill, corrupt, skew = found["faults"]
    assert (kill["starts"], corrupt["starts"]) == (2, 3)
    assert kill["detected_by"] == "the supervisor saw the process end"
    assert corrupt["detected_by"] == "the run set the store aside"
    assert skew["detected_by"] == "the record was rejected"
    for one in found["faults"]:
        assert one["command_s"] > 0
        assert one["recover_s"] >= one["held_s"]


def test_after_the_drill_the_run_verifies_and_replays(drilled: tuple[Path, Json]) -> None:
    _, found = drilled
    assert (found["good"], found["exit_code"], found["verified"], found["replayed"]) == (True, 0, True, True)


def test_the_record_has_every_fault_and_is_signed_by_the_runs_key(drilled: tuple[Path, Json]) -> None:
    folder, found = drilled
    keys = Trust.load(load_configuration(folder / "desk.toml")).issuers
    entries = verify_drill_record(folder / "out" / "drill.jsonl", keys)
    assert [entry["kind"] for entry in entries] == ["begun", "ready", "fault", "fault", "fault", "ended"]
    assert [entry["body"] for entry in entries[2:5]] == found["faults"]
    told = CliRunner().invoke(app, ["drill", str(folder / "out" / "drill.jsonl"), "--check", str(folder / "desk.toml")])
    assert "6 entries, unchanged and signed" in told.stdout


@pytest.mark.parametrize("how", ["changed", "removed", "swapped", "cut"])
def test_a_record_that_was_tampered_with_does_not_verify(drilled: tuple[Path, Json], tmp_path: Path, how: str) -> None:
    folder, _ = drilled
    keys = Trust.load(load_configuration(folder / "desk.toml")).issuers
    shutil.copytree(folder / "out", tmp_path / "out")
    path = tmp_path / "out" / "drill.jsonl"
    kept = path.read_bytes().splitlines()
    changed = {
        "changed": [*kept[:3], kept[3].replace(b'"good":true', b'"good":null'), *kept[4:]],
        "removed": [*kept[:3], *kept[4:]],
        "swapped": [*kept[:2], kept[3], kept[2], *kept[4:]],
        "cut": kept[:-1],
    }[how]
    path.write_bytes(b"".join(line + b"\n" for line in changed))
    with pytest.raises(VerificationError):
        verify_drill_record(path, keys)


@pytest.mark.soak
def test_a_cut_bus_is_ridden_out_and_a_frozen_feed_is_told_of(tmp_path: Path) -> None:
    faults = "within_s = 120\n[[fault]]\nkind = 'cut'\nhold_s = 2\n[[fault]]\nkind = 'freeze'\nhold_s = 6\n"
    path = write_drill(tmp_path, faults)
    done = CliRunner().invoke(app, ["drill", str(path), "--dir", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, (done.output, (tmp_path / "out" / "run.log").read_text()[-2000:])
    cut, freeze = json.loads(done.stdout)["faults"]
    assert cut["recover_s"] >= cut["held_s"]
    assert freeze["detected_by"] == "an alert says that the mark is stale"
    assert freeze["detect_s"] > 1
    assert freeze["command_s"] < freeze["recover_s"]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("[[fault]]\nkind = 'kil'\n", "must be one of corrupt, cut, freeze, kill, skew; did you mean 'kill'?"),
        ("[[fault]]\nkind = 'kill'\nhold = 2\n", "there is no key 'hold'; did you mean 'hold_s'?"),
        ("", "fault is missing; add it"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_what_to_do(tmp_path: Path, faults: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_drill(write_drill(tmp_path, faults))
    assert said in str(refused.value)


def test_a_topic_that_the_run_does_not_read_is_refused(tmp_path: Path) -> None:
    path = write_drill(tmp_path, "[[fault]]\nkind = 'kill'\n")
    path.write_text(path.read_text().replace('"live"', '"lve"'))
    with pytest.raises(UsageError, match="topic 'lve' is not one that the run reads; choose from live"):
        load_drill(path)
