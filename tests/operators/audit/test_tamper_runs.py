"""The tamper simulation of published research on audit logs, on real runs: every attack is found, no clean run accused.

The attacker writes to the bus and holds the issuer's key: he alters the audit, chains it anew so that no link is
false, and corrects ids and counts. What he lacks is the sealer's key. The in-record chain alone does not find him; the
log does.
"""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import orjson
import pytest

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import Trust
from seawall.operators.core.audit import GENESIS, leaf_hash
from seawall.ops.verify import LogCheck, Report, trusted_logs, verify
from seawall.schemas.configuration import load_configuration
from seawall_testing import crisis
from seawall_testing.command_line import CLI, run_and_kill, seawall
from seawall_testing.crisis import CrisisRuns

ATTACKS_TRIED = int(os.environ.get("SEAWALL_TAMPER_RUNS", "4"))
CLEAN_RUNS = int(os.environ.get("SEAWALL_CLEAN_RUNS", "0"))
Row = tuple[str, str, bytes]  # key, headers, value
Rows = list[Row]


@pytest.fixture(scope="module")
def clean_run(crisis_run: CrisisRuns) -> Path:
    """The folder of a finished run."""
    return crisis_run(12, per_second=40).folder


def read(folder: Path, partition: int) -> Rows:
    with closing(sqlite3.connect(folder / "seawall.db")) as db:
        words = "select key, headers, value from records where topic = 'audit' and partition = ? order by offset"
        return list(db.execute(words, (partition,)))


def write(folder: Path, partition: int, rows: Rows) -> None:
    with closing(sqlite3.connect(folder / "seawall.db")) as db:
        db.execute("delete from records where topic = 'audit' and partition = ?", (partition,))
        listed = [("audit", partition, offset, *row) for offset, row in enumerate(rows)]
        db.executemany("insert into records values (?, ?, ?, ?, ?, ?)", listed)
        db.commit()


def rechained(rows: Rows) -> Rows:
    """Return the rows with a chain, counts and all else that needs no key made to fit."""
    found: Rows = []
    prev = GENESIS
    for number, (key, headers, value) in enumerate(rows):
        new = orjson.dumps(orjson.loads(value) | {"prev": prev})
        prev = leaf_hash(new)
        found.append((key, orjson.dumps(orjson.loads(headers) | {"seawall-n": str(number)}).decode(), new))
    return found


def drop_one(rows: Rows, dice: random.Random) -> Rows:
    at = dice.randrange(len(rows) - 1)
    return rows[:at] + rows[at + 1 :]


def alter_one(rows: Rows, dice: random.Random) -> Rows:
    at = dice.randrange(len(rows))
    key, headers, value = rows[at]
    return [*rows[:at], (key, headers, orjson.dumps(orjson.loads(value) | {"kind": "note"})), *rows[at + 1 :]]


def reinsert_one(rows: Rows, dice: random.Random) -> Rows:
    at = dice.randrange(len(rows))
    return [*rows[:at], dice.choice(rows), *rows[at:]]


def swap_two(rows: Rows, dice: random.Random) -> Rows:
    at = dice.randrange(len(rows) - 1)
    return [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]


ATTACKS: dict[str, Callable[[Rows, random.Random], Rows]] = {
    "drop one": drop_one,
    "alter one": alter_one,
    "re-insert one": reinsert_one,
    "swap neighbours": swap_two,
    "drop the last": lambda rows, dice: rows[:-1],
    "cut the last twenty": lambda rows, dice: rows[:-20],
    "remove one writer": lambda rows, dice: [],
}


def check_log(folder: Path, partition: int) -> Report:
    """Check the log alone: what an auditor sees who knows nothing but the audit, the checkpoints and a public key."""
    configuration, report = load_configuration(folder / "run.toml"), Report()
    bus = open_bus(configuration.bus, folder)
    logs = trusted_logs(configuration)._replace(folder=None)
    LogCheck(bus, partition, configuration.issuer, configuration.environment, logs, report).run()
    bus.close()
    return report


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_on_a_real_run_is_found_by_its_log_and_by_verify(
    clean_run: Path, tmp_path: Path, name: str
) -> None:
    dice, missed = random.Random(name), []
    copy = Path(shutil.copytree(clean_run, tmp_path / "copy"))
    for number in range(ATTACKS_TRIED):
        partition = dice.randrange(3)
        rows = read(clean_run, partition)
        attacked = ATTACKS[name](rows, dice)
        write(copy, partition, rechained(attacked) if number % 2 else attacked)
        report = check_log(copy, partition)
        if not any(finding.partition == partition for finding in [*report.findings, *report.behind]):
            missed.append((number, partition))
        write(copy, partition, rows)
    assert missed == []
    write(copy, partition, attacked)
    done = seawall("verify", copy)
    assert (done.returncode, "audit" in done.stdout) == (1, True)


def test_a_history_that_the_holder_of_the_issuers_key_wrote_anew_is_found(clean_run: Path, tmp_path: Path) -> None:
    """All topics of another run, with the same keys: every hash and signature of it fits but those of the log."""
    other = crisis.write_crisis(tmp_path / "other", 11, per_second=40)
    shutil.copytree(clean_run / "keys", other.parent / "keys")
    assert seawall("run", other).returncode == 0
    copy = Path(shutil.copytree(clean_run, tmp_path / "copy"))
    with closing(sqlite3.connect(copy / "seawall.db")) as db:
        db.execute("attach ? as other", (str(other.parent / "seawall.db"),))
        db.execute("delete from records where topic <> 'checkpoints'")
        db.execute("insert into records select * from other.records where topic <> 'checkpoints'")
        db.commit()
    configuration = load_configuration(copy / "run.toml")
    bus = open_bus(configuration.bus, copy)
    told = verify(bus, Trust.load(configuration), configuration.environment, configuration.issuer)
    assert told.good  # without the log nothing is wrong with it
    report = verify(
        bus, Trust.load(configuration), configuration.environment, configuration.issuer, trusted_logs(configuration)
    )
    assert {finding.rule for finding in report.findings} & {"SEALED", "CHECKPOINT"}
    assert {finding.topic for finding in report.findings} <= {"audit", "checkpoints"}


@pytest.fixture(scope="module")
def took(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a run takes that nobody kills: the shortest of three, because other work on the machine only adds."""
    found = []
    for number in range(3):
        path = crisis.write_crisis(tmp_path_factory.mktemp(f"timed-{number}"), 8, per_second=30)
        began = time.monotonic()
        assert seawall("run", path).returncode == 0
        found.append(time.monotonic() - began)
    return min(found)


def is_at_work(folder: Path) -> bool:
    """Tell whether a run has decided something and is not at its end."""
    if not (folder / "seawall.db").exists():
        return False
    with closing(sqlite3.connect(folder / "seawall.db", timeout=60)) as db:
        words = "select count(*), sum(value like '%,\"end\":true}}') from records where topic = 'audit'"
        try:
            count, ended = db.execute(words).fetchone()
        except sqlite3.OperationalError:
            return False
    return bool(count) and (ended or 0) < 3


def killed_at_work(path: Path, options: list[str], after_s: float) -> bool:
    """Run, wait until something is decided, kill a little later; return whether the run was still at work."""
    with subprocess.Popen(
        [*CLI, "run", str(path), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while process.poll() is None and not is_at_work(path.parent):
            time.sleep(0.005)
        time.sleep(after_s)
        with suppress(ProcessLookupError):  # it ended before
            os.killpg(process.pid, signal.SIGKILL)
    return is_at_work(path.parent)


def clean_run_with_crashes(folder: Path, seed: int, took: float) -> int:
    """Run with kills -9 at random moments until it ends by itself; return how many of them met it at work."""
    dice = random.Random(seed)
    path, met = crisis.write_crisis(folder, 4 + seed % 5, per_second=30), 0
    for _ in range(dice.randrange(1, 4)):
        options: list[str] = dice.choice([[], ["--workers", "2"]])
        if dice.random() < 0.5:
            met += run_and_kill(path, options, dice.uniform(took / 3, took)) and is_at_work(folder)
        else:
            met += killed_at_work(path, options, dice.uniform(0, took / 10))
    done = seawall("run", path)
    assert done.returncode == 0, (seed, done.stderr)
    done = seawall("verify", folder)
    assert done.returncode == 0, (seed, done.stdout)
    return met


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_a_clean_run_with_crashes_raises_no_alarm(tmp_path: Path, seed: int, took: float) -> None:
    clean_run_with_crashes(tmp_path / "run", seed, took)


@pytest.mark.soak
@pytest.mark.skipif(not CLEAN_RUNS, reason="SEAWALL_CLEAN_RUNS does not say how many runs")
@pytest.mark.timeout(7200)
def test_many_clean_runs_with_crashes_raise_no_alarm(tmp_path: Path, took: float) -> None:
    met = 0
    for seed in range(100, 100 + CLEAN_RUNS):
        met += clean_run_with_crashes(tmp_path / f"run-{seed}", seed, took)
        shutil.rmtree(tmp_path / f"run-{seed}")
        print(f"{seed - 99} runs without alarm, {met} kills met one at work", flush=True)
    assert met > CLEAN_RUNS / 4
