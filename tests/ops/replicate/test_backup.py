"""Backups: made while a run is at work, brought back into an empty place, and the run goes on byte for byte."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from seawall.connectors.bus import BackupStore, open_bus
from seawall.ops.replicate import back_up
from seawall.ops.replicate._backup import files_of
from seawall.schemas.configuration import load_configuration
from seawall_testing import crisis
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, bus_contents, differences, seawall
from seawall_testing.crisis import CrisisRun, CrisisRuns


@pytest.fixture(scope="module")
def uninterrupted(crisis_run: CrisisRuns) -> CrisisRun:
    """The inputs with their key, and what an uninterrupted run on the embedded bus makes of them."""
    return crisis_run(60, per_second=60, shards=4)


@pytest.fixture(scope="module")
def backed(uninterrupted: CrisisRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """A twin that was killed, its folder, and a backup made of it while it ran; how many backups that holds."""
    place = tmp_path_factory.mktemp("killed")
    path, backup = place / "run/desk.toml", place / "backup"
    shutil.copytree(
        uninterrupted.folder, path.parent, ignore=shutil.ignore_patterns("seawall.db*", "recovery*", "audit-*")
    )
    (path.parent / "run.toml").unlink(missing_ok=True)
    with subprocess.Popen([*CLI, "run", str(path)], stdout=subprocess.DEVNULL, start_new_session=True) as running:
        made, bus, configuration = 0, open_bus("sqlite:seawall.db", path.parent), load_configuration(path)
        while made < 3:
            assert running.poll() is None, "it ended before it was backed up"
            if sum(bus.end("audit", partition) for partition in range(5)) > 100 * made:
                made = back_up(configuration, backup).number
        os.killpg(running.pid, signal.SIGKILL)
    bus.close()
    return path, backup, made


def put_keys_back(original: Path, target: Path) -> None:
    shutil.copytree(original.parent / "keys", target / "keys", dirs_exist_ok=True)


def test_a_restored_run_goes_on_to_the_same_bytes(
    uninterrupted: CrisisRun, backed: tuple[Path, Path, int], tmp_path: Path
) -> None:
    path, backup, made = backed
    assert len(list((backup / "manifests").iterdir())) == made
    done = seawall("restore", backup, "--into", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    restored = bus_contents(tmp_path / "again")
    whole = uninterrupted.records
    assert 100 < sum(map(len, restored.values())) < sum(map(len, whole.values()))
    assert all(records == whole[place][: len(records)] for place, records in restored.items())
    assert not list((tmp_path / "again/keys").glob("*.pem"))
    refused = seawall("run", tmp_path / "again/desk.toml")
    assert (refused.returncode, "bring the key back" in refused.stderr) == (2, True)
    put_keys_back(path, tmp_path / "again")
    assert seawall("run", tmp_path / "again/desk.toml").returncode == 0
    assert differences(bus_contents(tmp_path / "again"), whole) == []
    assert seawall("verify", tmp_path / "again").returncode == 0


def test_a_whole_run_is_backed_up_again_only_by_what_is_new_and_is_verified_where_it_lies(
    crisis_run: CrisisRuns, tmp_path: Path
) -> None:
    path, whole = crisis_run().path, crisis_run().records
    first = json.loads(seawall("backup", path, "--to", tmp_path / "b", "--json").stdout)
    assert sum(first["records"].values()) == sum(map(len, whole.values()))
    second = json.loads(seawall("backup", path, "--to", tmp_path / "b", "--json").stdout)
    assert (second["number"], second["records"]) == (2, {})
    assert list(path.parent.glob("keys/*.pem"))
    assert b"PRIVATE" not in b"".join(file.read_bytes() for file in (tmp_path / "b/files").iterdir())
    reader = tmp_path / "reader"
    shutil.copytree(path.parent, reader, ignore=shutil.ignore_patterns("seawall.db*", "recovery*"))
    (reader / "run.toml").unlink(missing_ok=True)
    text = (reader / "desk.toml").read_text()
    (reader / "desk.toml").write_text(f'bus = "backup:{tmp_path / "b"}"\n{text}')
    for command in ("verify", "replay"):
        done = seawall(command, reader / "desk.toml")
        assert done.returncode == 0, done.stdout + done.stderr
    refused = seawall("run", reader / "desk.toml")
    assert (refused.returncode, "a backup is only read" in refused.stderr) == (2, True)


@pytest.mark.parametrize("harm", ["changed", "missing", "manifest", "cut"])
def test_a_harmed_backup_is_refused_and_the_object_named(
    backed: tuple[Path, Path, int], tmp_path: Path, harm: str
) -> None:
    shutil.copytree(backed[1], tmp_path / "b")
    victim = sorted((tmp_path / "b/topics/journal").rglob("*.gz"))[0]
    manifests = sorted((tmp_path / "b/manifests").iterdir())
    if harm == "changed":
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    elif harm == "missing":
        victim.unlink()
    elif harm == "cut":
        victim, _ = manifests[0], manifests[0].write_bytes(manifests[0].read_bytes()[:100])
    else:
        victim, _ = manifests[-1], manifests[-2].unlink()
    done = seawall("restore", tmp_path / "b", "--into", tmp_path / "again")
    assert done.returncode == 2
    assert victim.name in done.stderr


def test_what_is_not_empty_or_no_backup_is_refused(backed: tuple[Path, Path, int], desk: Path, tmp_path: Path) -> None:
    path, backup, _ = backed
    refused = seawall("restore", backup, "--into", path.parent)
    assert (refused.returncode, "is not empty" in refused.stderr) == (2, True)
    refused = seawall("restore", tmp_path, "--into", tmp_path / "again")
    assert (refused.returncode, "holds no backup" in refused.stderr) == (2, True)
    shutil.copytree(backup, tmp_path / "b")
    refused = seawall("backup", desk, "--to", tmp_path / "b")
    assert (refused.returncode, "is of another journal" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("update records set value = x'7b7d' {}", "audit/1 offset {} on the target is not what the source has"),
        ("delete from records {}", "more than the {} of the source"),
    ],
)
def test_a_bus_that_lost_or_changed_what_was_backed_up_is_not_added(
    uninterrupted: CrisisRun, tmp_path: Path, change: str, told: str
) -> None:
    shutil.copytree(uninterrupted.folder, tmp_path / "run")
    assert seawall("backup", tmp_path / "run", "--to", tmp_path / "b").returncode == 0
    last = len(uninterrupted.records["audit", 1]) - 1
    with sqlite3.connect(tmp_path / "run/seawall.db") as store:
        where = f"where topic = 'audit' and partition = 1 and offset = {last}"
        store.execute(change.format(where))
    store.close()
    done = seawall("backup", tmp_path / "run", "--to", tmp_path / "b")
    assert done.returncode == 2 and told.format(last) in done.stderr, done.stderr
    assert "is of another journal" in done.stderr
    assert len(list((tmp_path / "b/manifests").iterdir())) == 1


def test_a_backup_that_was_killed_is_not_there_and_the_next_one_is_whole(
    uninterrupted: CrisisRun, tmp_path: Path
) -> None:
    path, whole = uninterrupted.path, uninterrupted.records
    for after_s in (0.3, 0.5, 0.7):
        with subprocess.Popen(
            [*CLI, "backup", str(path), "--to", str(tmp_path / "b")], stdout=subprocess.DEVNULL
        ) as one:
            time.sleep(after_s)
            one.kill()
    assert seawall("backup", path, "--to", tmp_path / "b").returncode == 0
    assert BackupStore(tmp_path / "b").ends
    assert seawall("restore", tmp_path / "b", "--into", tmp_path / "again").returncode == 0
    assert differences(bus_contents(tmp_path / "again"), whole) == []


def test_secrets_that_a_configuration_names_are_not_backed_up(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "run", 5, per_second=20, shards=2)
    kafka = '\n[kafka]\ntls = true\nsasl = "PLAIN"\nusername = "risk"\npassword = "file:secret.txt"\n'
    path.write_text(f'bus = "kafka://broker:9092/desk"\n{path.read_text()}{kafka}')
    assert "[keys]" not in path.read_text()
    path.write_text(path.read_text() + '[keys]\nset = "sets"\nsigner = "file:sets/odd"\n')
    named = path.parent / "sets"
    named.mkdir()
    (path.parent / "secret.txt").write_text("open sesame")
    (named / "odd").write_text("open sesame, in no format that is known")
    (named / "private.json").write_text('{"kty":"OKP","crv":"Ed25519","x":"AA","d" : "open sesame"}')
    (named / "feed.json").write_text('{"d":1}')
    found, left_out = files_of(load_configuration(path))
    assert {"desk.toml", "limits.toml", "playbook.toml", "sets/feed.json"} <= found.keys()
    assert not any(b"open sesame" in data for data in found.values())
    assert len([line for line in left_out if line.endswith(": a secret")]) == 2, left_out


@pytest.mark.kafka
def test_a_backup_of_the_embedded_bus_is_restored_to_a_cluster_and_goes_on_there(
    uninterrupted: CrisisRun, backed: tuple[Path, Path, int], broker: Broker, tmp_path: Path
) -> None:
    url = broker.url("restored")
    done = seawall("restore", backed[1], "--into", tmp_path / "again", "--bus", url)
    assert done.returncode == 0, done.stderr
    put_keys_back(backed[0], tmp_path / "again")
    done = seawall("run", tmp_path / "again/desk.toml")
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(tmp_path / "again", url=url), uninterrupted.records) == []
