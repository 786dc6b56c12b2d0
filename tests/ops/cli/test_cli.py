"""The command line: exit 0 good, 1 a negative finding, 2 bad usage or input; errors are one understandable line.

Every command here runs in a process of its own, as a user's does, except those of the three long tables of mistakes and
of the pages of help: they are given in this one, and the tests beside them show that a process ends in the same way.
"""

import json
import os
import pickle
import shlex
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall_testing import crisis, desk, pipeline
from seawall_testing.command_line import CLI, CommandResult, bus_contents, differences, run_command, seawall, wait_for
from seawall_testing.crisis import CrisisRuns
from seawall_testing.desk import SECOND, T0, lines, mark

INPUTS = ("reference.jsonl", "book.jsonl", "marks.jsonl", "limits.toml", "playbook.toml", "desk.toml")


@pytest.fixture(scope="module")
def finished(crisis_run: CrisisRuns) -> Path:
    """A finished run; tests copy it."""
    return crisis_run(2, per_second=10).folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return crisis.write_crisis(tmp_path / "run", 1, per_second=10).parent


Completed = subprocess.CompletedProcess[str] | CommandResult


def assert_refused(done: Completed, *words: str, code: int = 2) -> None:
    """Assert exit 2 and one line on standard error that holds all words."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    last = done.stderr.strip().splitlines()
    assert len(last) == 1, done.stderr
    assert last[0].startswith("seawall: ")
    for word in words:
        assert word in last[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("shards = 2", "shrads = 2", ["'shrads'", "'shards'", "desk.toml"]),
        ("[inputs]", "[inptus]", ["'inputs'"]),
        ("events =", "evnets =", ["'events'"]),
        ("file =", "fle =", ["'file'"]),
        ("shards = 2", "shards = 2\nenvironment = 'prdo'", ["'prod'"]),
        ("shards = 2", "shards = [", ["TOML"]),
        ("shards = 2", "bus = 'sqlight:x.db'", ["sqlite:seawall.db"]),
        ("marks.jsonl", "mraks.jsonl", ["mraks.jsonl", "does not exist"]),
        ("limits.toml", "limit.toml", ["limit.toml", "does not exist"]),
    ],
)
def test_a_mistake_in_the_configuration_is_named_with_the_nearest_right_word(
    fresh: Path, old: str, new: str, words: list[str]
) -> None:
    edit(fresh / "desk.toml", old, new)
    assert_refused(run_command("run", fresh / "desk.toml"), *words)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("limits.toml", '"margin_ratio"', '"margin_ration"', ["margin_ration", "'margin_ratio'", "limits.toml"]),
        ("limits.toml", '"account:*"', '"acount:*"', ["'account'"]),
        ("limits.toml", "dwell_s", "dwel_s", ["'dwell_s'"]),
        ("playbook.toml", '"CALL_MARGIN"', '"CALL_MARGINS"', ["'CALL_MARGIN'", "playbook.toml"]),
        ("playbook.toml", 'limit = "margin"', 'limit = "margins"', ["'margin'"]),
    ],
)
def test_a_mistake_in_limits_or_playbook_is_named_with_the_nearest_right_word(
    fresh: Path, file: str, old: str, new: str, words: list[str]
) -> None:
    edit(fresh / file, old, new)
    assert_refused(run_command("run", fresh / "desk.toml"), *words)


def test_a_configuration_that_does_not_exist_is_named(tmp_path: Path) -> None:
    for command in ("run", "verify", "replay"):
        assert_refused(seawall(command, tmp_path / "desk.toml"), "desk.toml", "does not exist")
    assert_refused(seawall("verify", tmp_path), "run.toml")


@pytest.mark.parametrize("name", ["marks.jsonl", "limits.toml", "desk.toml"])
def test_a_directory_instead_of_a_file_is_named(fresh: Path, name: str) -> None:
    (fresh / name).unlink()
    (fresh / name).mkdir()
    assert_refused(seawall("run", fresh / "desk.toml"), "desk.toml" if name == "desk.toml" else name)


def test_an_empty_file_is_no_mistake(fresh: Path) -> None:
    (fresh / "marks.jsonl").write_bytes(b"")
    done = seawall("run", fresh / "desk.toml")
    assert done.returncode == 0, done.stderr


def test_all_files_empty_is_a_run_of_nothing_that_verifies(fresh: Path) -> None:
    for name in ("reference.jsonl", "book.jsonl", "marks.jsonl"):
        (fresh / name).write_bytes(b"")
    assert seawall("run", fresh / "desk.toml").returncode == 0
    assert seawall("verify", fresh).returncode == 0
    assert seawall("replay", fresh).returncode == 0


def test_a_file_that_may_not_be_read_is_named(fresh: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (fresh / "marks.jsonl").chmod(0)
    assert_refused(seawall("run", fresh / "desk.toml"), "marks.jsonl")


BAD = [
    b"{",
    b'{"type": "fil"}',
    b"[1]",
    b'{"type": "mark", "event_time_us": 1, "instrument": "ETH-PERP", "price": "NaN"}',
]


def test_bad_records_are_kept_and_counted_and_only_strict_makes_them_exit_2(fresh: Path) -> None:
    before = (fresh / "book.jsonl").read_bytes().replace(b'"unheard-of"', b'"mark"')
    (fresh / "book.jsonl").write_bytes(before + lines(*BAD))
    done = seawall("run", fresh / "desk.toml", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    dumped = [json.loads(line) for line in seawall("dump", fresh, "rejects").stdout.splitlines()]
    assert found["rejected"] == len(dumped) > len(BAD)
    originals = {json.loads(record["value"]).get("original", "").encode() for record in dumped}
    assert set(BAD) <= originals
    assert "records rejected" in done.stderr
    again = seawall("run", fresh / "desk.toml", "--strict")
    assert again.returncode == 2
    assert "Traceback" not in again.stderr


def test_strict_without_rejects_is_exit_0(tmp_path: Path) -> None:
    path = pipeline.write_configuration(tmp_path, {"a.jsonl": lines(desk.instrument(), mark(T0, "1"))})
    assert seawall("run", path, "--strict").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], []),
        (["rnu", "x"], ["rnu"]),
        (["run"], ["CONFIG.toml"]),
        (["run", "desk.toml", "--wrokers", "2"], ["--wrokers"]),
        (["run", "desk.toml", "--workers", "0"], ["workers"]),
        (["run", "desk.toml", "--workers", "two"], ["--workers", "integer"]),
        (["run", "desk.toml", "--workers", "257"], ["--workers", "256"]),
        (["run", "desk.toml", "--processes", "9" * 30], ["--processes", "256"]),
        (["run", "desk.toml", "--only", "riks"], ["riks", "risk"]),
        (["dump", "desk.toml"], ["topic"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_exit_2_in_one_line(fresh: Path, arguments: list[str], words: list[str]) -> None:
    done = run_command(*arguments, cwd=fresh)
    if not arguments:
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        return
    assert_refused(done, *words)


@pytest.mark.parametrize(
    "command", ["run", "dump", "verify", "replay", "demo", "doctor", "keys", "keys new", "keys export"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run_command(*command.split(), "--help")
    assert done.returncode == 0
    assert command == "keys" or f"Example: seawall {command}" in " ".join(done.stdout.split())


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_first_run_makes_a_key_that_only_its_owner_reads(folder: Path) -> None:
    assert stat.S_IMODE((folder / "keys" / "dev.pem").stat().st_mode) == 0o600


def test_a_world_readable_key_is_refused(folder: Path) -> None:
    (folder / "keys" / "dev.pem").chmod(0o644)
    assert_refused(seawall("run", folder / "desk.toml"), "dev.pem", "chmod 600")


def test_a_missing_key_is_not_made_anew_when_topics_have_records(folder: Path) -> None:
    (folder / "keys" / "dev.pem").unlink()
    assert_refused(seawall("run", folder / "desk.toml"), "dev.pem", "does not exist")
    assert not (folder / "keys" / "dev.pem").exists()


@pytest.mark.parametrize("environment", ["test"])
def test_a_missing_key_is_never_made_outside_dev(fresh: Path, environment: str) -> None:
    edit(fresh / "desk.toml", "shards = 2", f"shards = 2\nenvironment = '{environment}'\nprice_max_age_s = 60")
    assert_refused(seawall("run", fresh / "desk.toml"), "dev.pem", "does not exist")
    assert not (fresh / "keys").exists()


def test_a_key_that_is_no_key_is_named(folder: Path) -> None:
    (folder / "keys" / "dev.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert_refused(seawall("run", folder / "desk.toml"), "dev.pem")


def test_verify_and_replay_need_the_public_keys_only(folder: Path) -> None:
    (folder / "keys" / "dev.pem").unlink()
    for command in ("verify", "replay"):
        done = seawall(command, folder)
        assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_made_shown_and_exported(folder: Path) -> None:
    made = seawall("keys", "new", folder / "keys" / "next.pem")
    shown = seawall("keys", "show", folder)
    exported = json.loads(seawall("keys", "export", folder).stdout)
    assert made.returncode == shown.returncode == 0
    assert made.stdout.strip() in {jwk["kid"] for jwk in exported["keys"]}
    assert {line.split()[0] for line in shown.stdout.splitlines()} == {jwk["kid"] for jwk in exported["keys"]}
    assert all("d" not in jwk for jwk in exported["keys"])
    assert_refused(seawall("keys", "new", folder / "keys" / "next.pem"), "next.pem")


# --- stores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "verify", "replay", "dump"])
def test_a_corrupted_database_is_named(folder: Path, command: str) -> None:
    for name in ("seawall.db-wal", "seawall.db-shm"):
        (folder / name).unlink(missing_ok=True)
    (folder / "seawall.db").write_bytes(b"this is no database" * 1000)
    where = folder / "desk.toml"
    assert_refused(seawall(command, where, *(["audit"] if command == "dump" else [])), "seawall.db")


def garbage(store: Path) -> None:
    (store / "part-0.sqlite3").write_bytes(b"garbage" * 5000)


def cut(store: Path) -> None:
    for name in ("part-0.sqlite3-wal", "part-0.sqlite3-shm"):
        (store / name).unlink(missing_ok=True)
    size = (store / "part-0.sqlite3").stat().st_size
    os.truncate(store / "part-0.sqlite3", size // 2)


def empty(store: Path) -> None:
    shutil.rmtree(store)
    store.mkdir()


def foreign(store: Path) -> None:
    """Replace every snapshot of a state by one of another version, in a store that is sound."""
    with sqlite3.connect(store / "part-0.sqlite3") as opened:
        opened.execute("PRAGMA trusted_schema = ON")
        rows = opened.execute("select rowid, ser_change from snaps where step_id like 'risk.pipeline.%'").fetchall()
        assert rows
        for rowid, _ in rows:
            opened.execute("update snaps set ser_change = ? where rowid = ?", (pickle.dumps(b"SWS0old"), rowid))


@pytest.mark.parametrize("damage", [garbage, cut, empty, foreign], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("options", [[], ["--processes", 2]], ids=["one process", "two processes"])
def test_a_corrupted_recovery_store_is_set_aside_and_the_journal_replayed(
    folder: Path, damage: Callable[[Path], None], options: list[object]
) -> None:
    before = bus_contents(folder)
    damage(folder / "recovery")
    done = seawall("run", folder / "desk.toml", *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "recovery.unsound-1").is_dir()
    assert differences(bus_contents(folder), before) == []


def test_a_recovery_store_that_is_gone_loses_nothing(folder: Path) -> None:
    before = bus_contents(folder)
    shutil.rmtree(folder / "recovery")
    assert seawall("run", folder / "desk.toml").returncode == 0
    assert differences(bus_contents(folder), before) == []


def test_an_older_recovery_store_put_back_changes_no_byte(folder: Path) -> None:
    shutil.copytree(folder / "recovery", folder / "older")
    with (folder / "marks.jsonl").open("ab") as file:
        file.write(lines(mark(T0 + 30 * SECOND, "50")))
    assert seawall("run", folder / "desk.toml").returncode == 0
    wanted = bus_contents(folder)
    shutil.rmtree(folder / "recovery")
    (folder / "older").rename(folder / "recovery")
    assert seawall("run", folder / "desk.toml").returncode == 0
    assert differences(bus_contents(folder), wanted) == []
    assert seawall("verify", folder).returncode == 0


def test_a_bus_that_is_gone_beside_a_recovery_store_is_written_anew(folder: Path) -> None:
    """The store of another bus is set aside: it stands at offsets that the new one does not have."""
    before = bus_contents(folder)
    for name in ("seawall.db", "seawall.db-wal", "seawall.db-shm"):
        (folder / name).unlink(missing_ok=True)
    done = seawall("run", folder / "desk.toml")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert bus_contents(folder) == before
    assert list(folder.glob("recovery.unsound-*"))


def test_a_record_changed_on_the_bus_stops_a_run_that_replays_and_is_named(folder: Path) -> None:
    with sqlite3.connect(folder / "seawall.db") as opened:
        opened.execute("update records set value = cast('{}' as blob) where topic = 'breaches' and offset = 1")
    shutil.rmtree(folder / "recovery")
    done = seawall("run", folder / "desk.toml")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "offset 1 of breaches" in done.stderr


# --- running again ----------------------------------------------------------------------------------------------------


def test_a_finished_run_does_nothing_when_run_again(folder: Path) -> None:
    before = bus_contents(folder)
    for options in ([], ["--workers", 2]):
        done = seawall("run", folder / "desk.toml", *options)
        assert done.returncode == 0, done.stderr
        assert differences(bus_contents(folder), before) == []


def test_a_copied_folder_verifies_and_replays_where_it_lies(folder: Path) -> None:
    assert seawall("verify", folder, cwd=folder.parent).returncode == 0
    done = seawall("replay", "run", "--json", cwd=folder.parent)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert set(found["dataflows"]["risk"]) == {"slices", "events", "seconds"}
    assert found["rejected"] > 0


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("shards = 2", "shards = 3", "shards"),
        ("shards = 2", "shards = 1", "shards"),
        ("shards = 2", "shards = 2\nslice_ms = 200", "slice_ms"),
        ("shards = 2", "shards = 2\nenvironment = 'test'\nprice_max_age_s = 60", "environment"),
        ("shards = 2", "shards = 2\nissuer = 'risk/other'", "issuer"),
    ],
)
def test_what_never_may_change_is_refused_and_the_run_stays_what_it_was(
    folder: Path, old: str, new: str, word: str
) -> None:
    before = bus_contents(folder)
    edit(folder / "desk.toml", old, new)
    assert_refused(seawall("run", folder / "desk.toml"), word)
    assert differences(bus_contents(folder), before) == []
    verified = run_command("verify", folder)  # run.toml still describes the journal
    assert verified.returncode == 0, verified.stdout


def test_changed_limits_are_journaled_and_everything_still_verifies(folder: Path) -> None:
    edit(folder / "limits.toml", "hard = 1.0", "hard = 2.0")
    with (folder / "marks.jsonl").open("ab") as file:
        file.write(lines(mark(T0 + 30 * SECOND, "50")))
    assert seawall("run", folder / "desk.toml").returncode == 0
    audited = [json.loads(json.loads(line)["value"]) for line in seawall("dump", folder, "audit").stdout.splitlines()]
    versions = [a["body"]["limits"]["version"] for a in audited if a["kind"] == "configuration" and a["shard"] == 0]
    assert versions == [1, 2]
    for command in ("verify", "replay"):
        done = seawall(command, folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["one process", "two processes"])
def test_a_second_run_while_one_is_alive_is_refused_and_a_signal_ends_the_first(
    fresh: Path, options: list[str]
) -> None:
    edit(fresh / "desk.toml", "[inputs]", '[inputs]\ntopics = ["signals"]')
    with subprocess.Popen(
        [*CLI, "run", str(fresh / "desk.toml"), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        try:
            wait_for(lambda: (fresh / "seawall.db").exists() and bool(bus_contents(fresh, ["audit"])))
            assert_refused(seawall("run", fresh / "desk.toml"), str(first.pid))
        finally:
            first.send_signal(signal.SIGTERM)
        out, err = first.communicate(timeout=120)
    assert first.returncode == 0, out + err
    assert "Traceback" not in err
    assert seawall("verify", fresh).returncode == 0


def test_a_run_that_is_refused_leaves_the_store_of_the_one_that_is_alive_where_it_is(folder: Path) -> None:
    """Somebody seals: what he has just sealed may not be on the disk yet, which looks like a log that was lost."""
    writer = open_bus("sqlite:seawall.db", folder).writer([("journal", 0)])
    tile = next(path for path in sorted((folder / "tiles").rglob("*")) if path.is_file() and path.parent != folder)
    tile.unlink()
    assert_refused(seawall("run", folder / "run.toml"), "partition 0 of journal", str(os.getpid()))
    assert not list(folder.glob("recovery*.unsound-*"))
    writer.close()


@pytest.mark.parametrize("options", [[], ["--processes", "2"]], ids=["one process", "two processes"])
def test_what_is_journaled_when_a_signal_comes_is_decided_on_and_sealed_before_a_live_run_ends(
    tmp_path: Path, options: list[str]
) -> None:
    path = crisis.write_crisis(tmp_path / "run", 24, per_second=20)
    edit(path, "[inputs]", '[inputs]\ntopics = ["signals"]')
    with subprocess.Popen([*CLI, "run", str(path), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live:
        try:
            wait_for((path.parent / "seawall.db").exists)
            bus = open_bus("sqlite:seawall.db", path.parent)
            wait_for(lambda: bus.end("journal", 1) > 0)  # long before risk has read all of it
        finally:
            live.send_signal(signal.SIGTERM)
        _, err = live.communicate(timeout=120)
    assert live.returncode == 0, err
    done = seawall("verify", path.parent)
    assert done.returncode == 0, done.stdout


# --- looking at a run -------------------------------------------------------------------------------------------------


def test_dump_prints_exact_values_in_order_of_partition_and_offset(folder: Path) -> None:
    done = seawall("dump", folder, "commands")
    assert done.returncode == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["partition"], r["offset"]) for r in found] == sorted((r["partition"], r["offset"]) for r in found)
    stored = bus_contents(folder, ["commands"])
    wanted = [(p, *record) for (_, p), records in sorted(stored.items()) for record in records]
    assert [
        (r["partition"], r["offset"], r["key"], tuple(r["headers"].items()), r["value"].encode()) for r in found
    ] == wanted


def test_dump_of_a_topic_without_records_prints_nothing_and_of_an_unknown_topic_is_exit_2(folder: Path) -> None:
    done = seawall("dump", folder, "forecasts")
    assert (done.returncode, done.stdout) == (0, "")
    assert_refused(seawall("dump", folder, "comands"), "comands", "commands")


def test_dump_into_a_pipe_that_closes_says_nothing(folder: Path) -> None:
    command = " ".join(f"'{part}'" for part in [*CLI, "dump", str(folder), "audit"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_run_that_has_not_begun_has_nothing_to_look_at(fresh: Path) -> None:
    for arguments in (["verify"], ["replay"]):
        assert_refused(seawall(*arguments, fresh / "desk.toml"), "run it first")
    assert not (fresh / "seawall.db").exists()


def execute(folder: Path, sql: str) -> None:
    with sqlite3.connect(folder / "seawall.db") as opened:
        assert opened.execute(sql).rowcount > 0


@pytest.mark.parametrize("topic", ["exposures", "alerts", "breaches", "commands", "audit", "rejects", "journal"])
def test_verify_of_a_cut_topic_is_exit_1_and_names_it(folder: Path, topic: str) -> None:
    last = f"(select partition, max(offset) from records where topic = '{topic}' group by partition)"
    execute(folder, f"delete from records where topic = '{topic}' and (partition, offset) in {last}")
    done = seawall("verify", folder)
    assert done.returncode == 1
    assert f"{topic}/" in done.stdout
    assert "Traceback" not in done.stderr
    report = seawall("verify", folder, "--json")
    assert report.returncode == 1
    assert topic in {finding["topic"] for finding in json.loads(report.stdout)["findings"]}


def test_verify_names_the_place_of_a_changed_record(folder: Path) -> None:
    execute(folder, "update records set value = replace(value, 'soft', 'sofa') where topic = 'breaches' and offset = 1")
    done = seawall("verify", folder)
    assert done.returncode == 1
    assert "breaches/" in done.stdout
    assert "do not trust this run" in done.stdout
    assert seawall("replay", folder).returncode == 1


@pytest.mark.parametrize("store", ["kept", "gone"])
@pytest.mark.parametrize("topic", ["exposures", "commands", "audit"])
def test_a_topic_that_was_cut_is_written_again_by_the_next_run(folder: Path, topic: str, store: str) -> None:
    before = bus_contents(folder)
    execute(folder, f"delete from records where topic = '{topic}' and partition = 1 and offset > 3")
    if store == "gone":
        shutil.rmtree(folder / "recovery")
    assert seawall("run", folder / "desk.toml").returncode == 0
    assert differences(bus_contents(folder), before) == []


def test_doctor_finds_nothing_wrong_with_a_good_run_and_changes_nothing(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    done = seawall("doctor", folder, "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert [check for check in checks.values() if not check["good"] and check["name"] != "disk"] == []
    assert {"python", "bytewax", "configuration", "key", "bus", "recovery", "input marks.jsonl"} <= set(checks)
    assert [n for n in sorted(p.name for p in folder.iterdir()) if not n.startswith("seawall.db")] == [
        name for name in names if not name.startswith("seawall.db")
    ]


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda folder: (folder / "desk.toml").write_text("shrads = 1\n"), "configuration"),
        (lambda folder: (folder / "marks.jsonl").unlink(), "input marks.jsonl"),
        (lambda folder: (folder / "keys" / "dev.pem").chmod(0o644), "key"),
        (lambda folder: (folder / "seawall.db").write_bytes(b"no database" * 999), "bus"),
    ],
    ids=["configuration", "input", "key", "bus"],
)
def test_doctor_names_what_is_wrong(folder: Path, spoil: Callable[[Path], object], name: str) -> None:
    for leftover in ("seawall.db-wal", "seawall.db-shm"):
        (folder / leftover).unlink(missing_ok=True)
    spoil(folder)
    done = seawall("doctor", folder / "desk.toml")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith(f"FAIL {name}:")]
    assert "Traceback" not in done.stderr


def test_the_version_is_told() -> None:
    done = seawall("--version")
    assert (done.returncode, done.stdout.strip() != "") == (0, True)


# --- where the output goes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["verify"], ["exposures", "--csv"], ["dump", "audit"], ["keys", "export"]])
def test_output_that_cannot_be_written_is_one_line_and_no_finding(finished: Path, command: list[str]) -> None:
    where = [str(finished)]
    words = [*command[:1], *where, *command[1:]] if command[0] == "dump" else [*command, *where]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*CLI, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_a_closed_output_is_no_fault_and_a_pipe_that_nobody_reads_is_no_finding(finished: Path) -> None:
    command = shlex.join([*CLI, "dump", str(finished), "audit"])
    closed = subprocess.run(["bash", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")
    cut = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (cut.returncode, cut.stderr) == (128 + signal.SIGPIPE, "")


def test_numbers_and_ids_are_whole_on_an_ordinary_terminal(finished: Path) -> None:
    for command in (["exposures"], ["limits", "show"]):
        done = seawall(*command, finished)
        assert done.returncode == 0, done.stderr
        assert "…" not in done.stdout


def test_who_interrupts_while_the_program_is_loaded_gets_no_traceback() -> None:
    program = """
import sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "seawall.ops.cli._app":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from seawall.ops.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
