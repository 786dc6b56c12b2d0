"""Cutover: a journal that an earlier version decided goes on under today's rules, and no byte of before changes.

The stores are those of ``tests/fixtures/stores``: ``201e2b7`` decided otherwise than today, ``alike`` as today.
"""

import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import seawall as package
from seawall.connectors.bus import KeptSnapshot, open_bus, read_all
from seawall.operators.core.base import unpack
from seawall.operators.core.pipeline import Pipeline
from seawall.ops.run._recovery import open_recovery
from seawall.ops.verify import carry_over, slices_in_order
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import SnapshotError
from seawall_testing import crisis
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, CommandResult, Contents, bus_contents, differences, run_command, wait_for
from seawall_testing.desk import fill
from seawall_testing.live_runs import ask_endpoint, send, write_live
from seawall_testing.stores import extend, unpacked

OTHERWISE, ALIKE = "201e2b7", "alike"
TO = ("--to", ".".join(package.__version__.split(".")[:2]))
AS_BEFORE = [sys.executable, "-c", f"import seawall; seawall.__version__ = '0.1.0'; {CLI[2]}"]
WAIT_S = 120.0


def store(name: str, folder: Path) -> Path:
    """Return the configuration of a store, with the rest of its inputs to come."""
    return unpacked(name, folder)[0] / "desk.toml"


def grow(desk: Path) -> None:
    extend(desk.parent, coins=True)


def as_before(*arguments: Any) -> CommandResult:
    """Run a command of this program under the number of the version before."""
    with patch.object(package, "__version__", "0.1.0"):
        return run_command(*arguments)


def begins_with(found: Contents, before: Contents) -> bool:
    return all(found[place][: len(records)] == records for place, records in before.items())


def carried_on(desk: Path) -> Contents:
    """Carry a run on, let it decide on more, and return what stands."""
    assert run_command("migrate", desk, *TO).returncode == 0
    grow(desk)
    done = run_command("run", desk)
    assert done.returncode == 0, done.stderr
    return bus_contents(desk.parent)


def values(found: Contents, topic: str) -> list[dict[str, Any]]:
    """Return the values of a topic, partition by partition."""
    return [json.loads(record[3]) for (name, _), part in sorted(found.items()) if name == topic for record in part]


# --- before and after -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [OTHERWISE, ALIKE])
def test_a_journal_of_before_is_refused_until_it_is_carried_on_and_no_byte_of_it_changes(
    name: str, tmp_path: Path
) -> None:
    desk = store(name, tmp_path)
    before = bus_contents(desk.parent)
    shutil.rmtree(desk.parent / "recovery")
    for words in ((), ("--only", "sequence"), ("--engine", "local"), ("--only", "risk"), ("--only", "risk")):
        refused = run_command("run", desk, *words)
        assert refused.returncode == 2
        assert "is decided by Seawall 0.1.0" in refused.stderr
        assert "run `seawall migrate" in refused.stderr
    assert bus_contents(desk.parent) == before
    after = carried_on(desk)
    assert begins_with(after, before)
    assert len(after["audit", 0]) > len(before["audit", 0])
    assert run_command("verify", desk).returncode == 0
    replayed = run_command("replay", desk)
    assert replayed.returncode == 0, replayed.stdout
    slices = sum(len(before["journal", shard]) for shard in range(2))
    assert f"the first {slices} of " in replayed.stdout
    assert "decided by the rules of an earlier version" in replayed.stdout


def test_the_journal_says_from_which_slice_on_the_new_rules_decide_in_every_shard_at_one_time(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    before = bus_contents(desk.parent)
    done = run_command("migrate", desk, *TO, "--json")
    first = json.loads(done.stdout)["places"]
    assert first == {str(shard): len(before["journal", shard]) for shard in range(2)}
    slices = [json.loads(bus_contents(desk.parent)["journal", shard][first[str(shard)]][3]) for shard in range(2)]
    assert [piece["configuration"]["code"] for piece in slices] == [package.__version__] * 2
    assert len({piece["as_of_us"] for piece in slices}) == 1
    again = run_command("migrate", desk, *TO)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_levels_go_on_from_those_that_were_told_and_not_from_those_that_the_new_rules_would_have_told(
    tmp_path: Path,
) -> None:
    """The old rules saw no coins at the venue, so what is held net stood at soft; by today's it is 20 coins more."""
    desk = store(OTHERWISE, tmp_path)
    told = [one for one in values(bus_contents(desk.parent), "breaches") if one["limit"] == "net"]
    assert told[-1]["level"] == "soft"
    after = [one for one in values(carried_on(desk), "breaches") if one["limit"] == "net"]
    assert after[: len(told)] == told
    ended = after[len(told)]
    assert (ended["previous_level"], ended["level"]) == ("soft", "none")
    assert ended["value"] > told[-1]["value"] + 20 * 20_000  # a coin is worth more than 20,000 all the time


def test_every_target_has_one_chain_of_commands_and_documents_one_of_hashes(tmp_path: Path) -> None:
    found = carried_on(store(OTHERWISE, tmp_path))
    last: dict[str, tuple[int, Any]] = {}
    ids = [command["id"] for command in values(found, "commands")]
    assert len(ids) == len(set(ids)) > 0
    for command in values(found, "commands"):
        target = json.dumps(command["target"])
        seq, id = last.get(target, (0, None))
        assert (command["seq"], command["prev_id"]) == (seq + 1, id)
        last[target] = (command["seq"], command["id"])
    document = None
    for record in values(found, "state"):
        if "targets" in record:
            assert record["prev_sha256"] in (document, None)
            document = sha256_of(found, record)
        else:
            assert record["state_sha256"] == document


def sha256_of(found: Contents, wanted: dict[str, Any]) -> str:
    return next(hashlib.sha256(r[3]).hexdigest() for r in found["state", 2] if json.loads(r[3]) == wanted)


def test_all_rows_are_told_again_where_the_new_rules_begin(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    count = len(values(bus_contents(desk.parent), "exposures"))
    assert count
    assert run_command("migrate", desk, *TO).returncode == 0
    first = {str(shard): len(bus_contents(desk.parent)["journal", shard]) - 1 for shard in range(2)}
    assert run_command("run", desk).returncode == 0
    told = [one for one in values(bus_contents(desk.parent), "exposures") if str(one["shard"]) in first]
    told = [one for one in told if one["seq"] == first[str(one["shard"])]]
    names = sorted(row["account"] for one in told for row in one["accounts"])
    assert names == ["client-0", "client-1", "client-2", "client-3", "desk"]


# --- the state that is carried on -------------------------------------------------------------------------------------


def opened(data: bytes) -> Any:
    try:
        return unpack("", data)
    except SnapshotError as error:
        return unpack(str(error).split()[3], data)


def unlike(one: Any, other: Any, path: str = "") -> list[str]:
    """Return where two states differ; counts are held against each other where both have them."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() & other.keys() if path.endswith("counts.") else one.keys() | other.keys()
        return [
            found
            for name in sorted(names, key=str)
            for found in unlike(one.get(name), other.get(name), f"{path}{name}.")
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for at, (a, b) in pairs for found in unlike(a, b, f"{path}{at}.")]
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other, equal_nan=one.dtype.kind == "f") else [path]
    return [] if one == other else [path]


def carried_otherwise(run: Path) -> set[str]:
    """Return what of the state that is carried over differs from what these rules alone make of the journal."""
    bus, shards = open_bus("sqlite:seawall.db", run), load_configuration(run / "desk.toml").shards
    derived = Pipeline(shards)
    for value in slices_in_order(bus, shards):
        derived.step(value)
    pairs = zip(derived.parts(), carry_over(bus, shards).parts(), strict=True)
    found = [
        unlike(opened(data), opened(carried.parts()[name]), f"{name}.")
        for one, carried in pairs
        for name, data in one.parts().items()
    ]
    bus.close()
    return {path for paths in found for path in paths}


AFRESH = {f"shard.writer.last.{kind}." for kind in ("account", "netting_set", "counterparty")}
AFRESH |= {
    f"firm.last.{kind}."
    for kind in ("firm", "underlying", "venue", "group", "asset", "issuer", "instrument", "strategy")
}
AFRESH.add("shard.configuration.code.")


def test_where_rules_agree_the_state_carried_on_is_that_which_the_journal_gives(tmp_path: Path) -> None:
    assert carried_otherwise(store(ALIKE, tmp_path).parent) <= AFRESH


RESPONSE = {"commands_max": 3, "per_s": 2.0, "acknowledge_s": 0.5, "complete_s": 1.0, "subscribers": ["gateway"]}


@pytest.mark.parametrize("terms", [False, True])
def test_cool_downs_deadlines_budgets_and_what_waits_are_carried_on_too(terms: bool, tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path)
    playbook = tmp_path / "playbook.toml"
    if terms:
        text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in RESPONSE.items())
        playbook.write_text(f"{playbook.read_text()}\n[response]\n{text}\n")
    assert as_before("run", path).returncode == 0
    assert carried_otherwise(tmp_path) <= AFRESH


def test_what_was_told_stands_where_rules_differ(tmp_path: Path) -> None:
    found = carried_otherwise(store(OTHERWISE, tmp_path).parent) - AFRESH
    called = {"desired.targets.account:client-1.in_force.CALL_MARGIN.action.amount.", "desired.last.1."}  # a cent more
    assert found == {"limits.cells.underlying.cells.level.", "audit.prev.", "audit.counts.audit.", *called}


# --- what stands is not changed, forgotten or believed ----------------------------------------------------------------


def tampered(desk: Path) -> None:
    with sqlite3.connect(desk.parent / "seawall.db") as bus:
        place = "topic = 'commands' and partition = 0 and \"offset\" = 3"
        (value,) = bus.execute(f"select value from records where {place}").fetchone()
        changed = bytes(value).replace(b"client-1", b"client-0")
        assert changed != value
        bus.execute(f"update records set value = ? where {place}", (changed,))


def test_what_was_changed_in_the_part_of_before_is_named_and_not_carried_on(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    tampered(desk)
    before = bus_contents(desk.parent)
    refused = run_command("migrate", desk, *TO)
    assert refused.returncode == 2
    assert "commands/0 offset 3" in refused.stderr
    assert bus_contents(desk.parent) == before


def test_what_is_changed_in_the_part_of_before_afterwards_is_named_by_verify_and_by_replay(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    carried_on(desk)
    tampered(desk)
    for word in ("verify", "replay"):
        done = run_command(word, desk)
        assert done.returncode == 1
        assert "commands/0 offset 3" in done.stdout


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("change._check_verified", marks=pytest.mark.soak),
        "change.write_store",
        pytest.param("sequencer.take_over", marks=pytest.mark.soak),
    ],
)
def test_a_migration_that_is_killed_is_made_again_to_the_same_bytes(place: str, tmp_path: Path) -> None:
    whole = store(OTHERWISE, tmp_path / "whole")
    assert run_command("migrate", whole, *TO).returncode == 0
    wanted = bus_contents(whole.parent)
    desk = store(OTHERWISE, tmp_path / "killed")
    script = (
        "import os, sys; from seawall.ops.run import _engine_change as change\n"
        "name, word = sys.argv.pop(1).split('.')\n"
        "where = {'change': change, 'sequencer': change.dataflows.Sequencer}[name]\n"
        "made = getattr(where, word)\n"
        "def after(*given): made(*given); os.kill(os.getpid(), 9)\n"
        f"setattr(where, word, after)\n{CLI[2]}"
    )
    words = [sys.executable, "-c", script, place, "migrate", str(desk), *TO]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert run_command("migrate", desk, *TO).returncode == 0
    assert differences(bus_contents(desk.parent), wanted) == []
    assert run_command("run", desk).returncode == 0
    assert run_command("verify", desk).returncode == 0


@pytest.mark.parametrize("left", ["nothing", "old states", "an empty store", "nothing of the plain loop"])
def test_states_that_are_lost_or_of_the_old_rules_are_made_again_from_the_records(left: str, tmp_path: Path) -> None:
    engine = "local" if left == "nothing of the plain loop" else "bytewax"
    desk = store(ALIKE, tmp_path / "one")
    shutil.rmtree(desk.parent / "recovery")
    if left == "old states":  # states of these layouts, by the rules of before
        assert as_before("run", desk).returncode == 0
        shutil.copytree(desk.parent / "recovery", tmp_path / "old")
    other = tmp_path / "two"
    shutil.copytree(desk.parent, other)
    wanted = carried_on(desk)
    assert run_command("migrate", other / "desk.toml", *TO).returncode == 0
    shutil.rmtree(other / "recovery")
    if left == "old states":
        shutil.copytree(tmp_path / "old", other / "recovery")
    elif left == "an empty store":
        open_recovery(other / "recovery")
    grow(other / "desk.toml")
    aside = len(list(other.glob("recovery.unsound-*")))
    done = run_command("run", other / "desk.toml", "--engine", engine)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(other), wanted) == []
    set_aside = left in ("old states", "an empty store")
    assert len(list(other.glob("recovery.unsound-*"))) == aside + set_aside


def test_the_version_before_refuses_what_was_carried_on(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    assert run_command("migrate", desk, *TO).returncode == 0
    stands = bus_contents(desk.parent)
    refused = as_before("run", desk)
    assert refused.returncode == 2
    assert f"cut by Seawall {package.__version__}, and this is 0.1.0, which is older" in refused.stderr
    assert bus_contents(desk.parent) == stands


def test_slices_that_wait_for_their_decision_are_the_earlier_version_s(tmp_path: Path) -> None:
    desk = store(ALIKE, tmp_path)
    grow(desk)
    assert as_before("run", desk, "--only", "sequence").returncode == 0
    stands = bus_contents(desk.parent)
    refused = run_command("migrate", desk, *TO)
    assert refused.returncode == 2
    assert "were cut by Seawall 0.1.0 and are not decided yet" in refused.stderr
    assert bus_contents(desk.parent) == stands


def test_only_this_version_is_carried_on_to(tmp_path: Path) -> None:
    desk = store(ALIKE, tmp_path)
    refused = run_command("migrate", desk, "--to", "9.9")
    assert refused.returncode == 2
    assert f"this is Seawall {package.__version__}, which carries a journal on to {TO[1]}" in refused.stderr


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_of_what_was_carried_on_goes_on_from_the_records_alone(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    assert run_command("migrate", desk, *TO).returncode == 0
    assert run_command("run", desk).returncode == 0
    assert run_command("backup", desk, "--to", tmp_path / "backup").returncode == 0
    assert run_command("restore", tmp_path / "backup", "--into", tmp_path / "again").returncode == 0
    shutil.copytree(desk.parent / "keys", tmp_path / "again" / "keys", dirs_exist_ok=True)
    again = tmp_path / "again" / desk.name
    shutil.rmtree(again.parent / "recovery", ignore_errors=True)
    for path in (desk, again):
        grow(path)
        done = run_command("run", path)
        assert done.returncode == 0, done.stderr
    assert differences(bus_contents(again.parent), bus_contents(desk.parent)) == []
    assert run_command("verify", again).returncode == 0


@pytest.mark.kafka
def test_a_journal_on_a_cluster_is_carried_on_with_states_for_both_engines(broker: Broker, tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    moved, url = desk.with_name("moved.toml"), broker.url("carried")
    moved.write_text(f'bus = "{url}"\n{desk.read_text()}')
    assert run_command("migrate", desk, moved).returncode == 0
    before = bus_contents(desk.parent, url=url)
    assert run_command("run", moved).returncode == 2
    done = run_command("migrate", moved, *TO)
    assert done.returncode == 0, done.stderr
    bus = open_bus(url, desk.parent)
    kept = [KeptSnapshot.latest(bus, partition) for partition in range(3)]
    assert [one and one.data for one in kept] == carry_over(bus, 2).snapshots()
    bus.close()
    grow(desk)
    done = run_command("run", moved)
    assert done.returncode == 0, done.stderr
    assert begins_with(bus_contents(desk.parent, url=url), before)
    for word in ("verify", "replay"):
        done = run_command(word, moved)
        assert done.returncode == 0, done.stdout + done.stderr


# --- live -------------------------------------------------------------------------------------------------------------


def ran_live(path: Path, program: list[str], *options: str, first: int) -> None:
    """Run live until some more fills of a topic are decided on, then stop it as an operator does."""
    running = subprocess.Popen([*program, "run", str(path), *options], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: ask_endpoint(path, "ready")[0] == 200 or running.poll() is not None)
        for at in range(first, first + 10):
            send(path.parent, "fills", fill(time.time_ns() // 1000, f"live{at}", "a"))
        bus = open_bus("sqlite:seawall.db", path.parent)
        last = f'"live{first + 9}"'.encode()
        wait_for(lambda: any(last in stored.value for shard in range(2) for stored in read_all(bus, "journal", shard)))
        bus.close()
        running.send_signal(signal.SIGTERM)
        assert running.wait(WAIT_S) == 0
    finally:
        running.kill()
        running.wait()


@pytest.mark.soak
def test_a_live_run_is_stopped_carried_on_and_takes_what_came_meanwhile(tmp_path: Path) -> None:
    limit = {"id": "gross", "scope": "firm", "measure": "gross_notional", "soft": 50, "hard": 1e9}
    path = write_live(tmp_path, rules=([limit], []))
    ran_live(path, AS_BEFORE, first=0)
    before = bus_contents(tmp_path)
    done = run_command("migrate", path, *TO)
    assert done.returncode == 0, done.stderr
    ran_live(path, CLI, first=10)
    after = bus_contents(tmp_path)
    assert all(after[place][: len(records)] == records for place, records in before.items())
    for word in ("verify", "replay"):
        done = run_command(word, path)
        assert done.returncode == 0, done.stdout + done.stderr
    times = [json.loads(record[3])["as_of_us"] for record in after["journal", 0]]
    assert times == sorted(times)


@pytest.mark.soak
def test_replicas_with_states_of_their_own_make_them_from_the_records(tmp_path: Path) -> None:
    path = write_live(tmp_path)
    ran_live(path, AS_BEFORE, first=0)
    assert run_command("migrate", path, *TO).returncode == 0
    without_market = [word for name in ("sequence", "risk", "seal") for word in ("--only", name)]
    ran_live(path, CLI, *without_market, "--replica", "east", first=10)
    ran_live(path, CLI, *without_market, "--replica", "west", first=20)
    assert run_command("verify", path).returncode == 0
    assert run_command("replay", path).returncode == 0


def test_a_second_of_the_firm_that_was_not_decided_is_the_earlier_version_s_too(tmp_path: Path) -> None:
    """As after a kill: the shards have told a second, and its records were not written."""
    desk = store(ALIKE, tmp_path)
    with sqlite3.connect(desk.parent / "seawall.db") as bus:
        rows = bus.execute('select topic, "offset", value, headers from records where partition = 2').fetchall()
        last = max(json.loads(value)["seq"] for topic, _, value, _ in rows if topic == "audit")
        for topic, offset, _, headers in rows:
            if topic != "checkpoints" and f"2-{last}-" in str(headers):
                bus.execute('delete from records where partition = 2 and topic = ? and "offset" = ?', (topic, offset))
        bus.execute("delete from records where topic = 'checkpoints'")
    shutil.rmtree(desk.parent / "tiles")
    stands = bus_contents(desk.parent)
    refused = run_command("migrate", desk, *TO)
    assert refused.returncode == 2
    assert f"audit/2 has no decision on slice {last}" in refused.stderr
    assert bus_contents(desk.parent) == stands


def test_a_mirror_of_what_was_carried_on_goes_on_from_the_records_alone(tmp_path: Path) -> None:
    desk = store(OTHERWISE, tmp_path)
    assert run_command("migrate", desk, *TO).returncode == 0
    assert run_command("run", desk).returncode == 0
    assert run_command("mirror", desk, "--to", "sqlite:mirror.db").returncode == 0
    mirrored = desk.with_name("mirror.toml")
    mirrored.write_text(f'bus = "sqlite:mirror.db"\n{desk.read_text()}')
    grow(desk)
    assert run_command("run", desk).returncode == 0
    shutil.rmtree(desk.parent / "recovery")
    done = run_command("run", mirrored)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(desk.parent, url="sqlite:mirror.db"), bus_contents(desk.parent)) == []
