"""Demo, ``seawall demo``: rehearse a simulated crisis on the embedded bus, then check everything that came of it.

1. Write the scenario into a folder: input files, limits, playbook, configuration, as a user would have them.
2. Run it, with a live summary. 3. Report commands, whose signatures are verified here, and breaches.
4. ``verify`` and ``replay``. 5. Change one digit of a signed command in a copy and show that ``verify`` names it.

Every line is computed from the records on the bus; whatever does not hold is printed, and makes the exit 1.
"""

import re
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.text import Text

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.connectors.keys import key_path, public_keys
from seawall.ops.demo import _live
from seawall.ops.demo._live import Summary, TopicWatch
from seawall.ops.demo.scenario import Scenario, write_scenario
from seawall.ops.run import run
from seawall.ops.verify import Report, replay, verify
from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import PublicKey
from seawall.schemas.records import Stored, decode_slice

# One visible proof that tampering is found: one digit of a signed command, changed in a copy of a finished run.

TOPIC = "commands"
READ_QUERY = 'select "partition", "offset", value from records where topic = ? order by "partition", "offset"'
CHANGE_QUERY = 'update records set value = ? where topic = ? and "partition" = ? and "offset" = ?'
AMOUNT = re.compile(rb'"amount":"(\d)[^,}]*')
EXPIRY = re.compile(rb'"exp_us":(\d)\d*')


class Tampering(NamedTuple):
    """Change made in the copy, and the finding of ``verify``.

    Attributes
    ----------
    place
        ``topic/partition offset n`` of the changed record.
    before, after
        The text around the change.
    findings
        Of ``verify`` on the copy, in words.
    named
        Whether one of them names topic, partition and offset of the record.
    """

    place: str
    before: str
    after: str
    findings: list[str]
    named: bool


def tamper(configuration: Configuration, keys: dict[str, PublicKey]) -> Tampering:
    """Change one digit in a copy of a run's bus, verify the copy, remove it."""
    with _copied(configuration) as folder:
        file = folder / "seawall.db"
        partition, offset, before, after = _change(file)
        bus = open_bus("sqlite:seawall.db", folder)
        report = verify(bus, keys, configuration.environment, configuration.issuer)
        bus.close()
    named = any(finding[:3] == (TOPIC, partition, offset) for finding in report.findings)
    return Tampering(
        f"{TOPIC}/{partition} offset {offset}", before, after, [str(one) for one in report.findings], named
    )


@contextmanager
def _copied(configuration: Configuration) -> Iterator[Path]:
    """Copy the bus to a folder that is removed afterwards."""
    source = configuration.directory / configuration.bus.partition(":")[2]
    with tempfile.TemporaryDirectory(prefix="seawall-tampering-") as name:
        with closing(sqlite3.connect(source)) as bus, closing(sqlite3.connect(Path(name) / "seawall.db")) as copy:
            bus.backup(copy)
        yield Path(name)


def _change(file: Path) -> tuple[int, int, str, str]:
    """Change one digit: of the first amount that is called, or of the first expiry where none is."""
    with closing(sqlite3.connect(file)) as bus:
        rows = [(partition, offset, bytes(value)) for partition, offset, value in bus.execute(READ_QUERY, (TOPIC,))]
        chosen = next((row for row in rows if AMOUNT.search(row[2])), rows[0])
        partition, offset, value = chosen
        found = AMOUNT.search(value) or EXPIRY.search(value)
        assert found is not None, "every command expires"
        at = found.start(1)
        changed = value[:at] + str((int(value[at : at + 1]) + 1) % 10).encode() + value[at + 1 :]
        bus.execute(CHANGE_QUERY, (changed, TOPIC, partition, offset))
        bus.commit()
    around = slice(*found.span())
    return partition, offset, value[around].decode(), changed[around].decode()


# ``seawall demo``: rehearse a simulated crisis on the embedded bus, then check everything that came of it.

FOLDER = "seawall-demo"
COMMANDS_MIN = 8
KINDS_MIN = 4
FINDINGS_SHOWN = 4
INPUTS = ("reference.jsonl", "events.jsonl")
WRITTEN = frozenset({*INPUTS, "limits.toml", "playbook.toml", "desk.toml"})


class Check(NamedTuple):
    """Something that must hold, and what was found."""

    good: bool
    text: str


def demo(directory: Path | None, seed: int) -> int:
    """Run the demo; return the exit code: 0 when everything holds, 1 when anything does not.

    Parameters
    ----------
    directory
        An empty or new folder, or that of a demo of the same seed, which is continued; None makes one.
    seed
        Of the simulated market.

    Raises
    ------
    UsageError
        The folder holds something else.
    """
    scenario = prepare(directory or new_folder(), seed)
    configuration = load_configuration(scenario.configuration)
    folder = configuration.directory
    _say(f"running {scenario.records:,} records of {_minutes(scenario)} minutes in {folder}")
    started = time.monotonic()
    _run(configuration, scenario)
    bus = open_bus(configuration.bus, folder)
    reached = TopicWatch(bus, configuration.shards)
    reached.look()
    if reached.clock_us < scenario.end_us:
        at = _live.time_of_day(reached.clock_us)
        _say(f"stopped at {at} of the story; to continue: seawall demo --dir {folder} --seed {seed}")
        return 1
    _say(f"the run took {time.monotonic() - started:.1f} s; checking what came of it")
    key = key_path(configuration.signer, folder)
    assert key is not None, "the demo's configuration names a key file"
    checks = list(_report(_live.results_console(), configuration, scenario, bus, public_keys(key)))
    bus.close()
    _say(f"all of it took {time.monotonic() - started:.1f} s; look for yourself: seawall dump {folder} commands")
    return 0 if all(check.good for check in checks) else 1


# --- the folder -------------------------------------------------------------------------------------------------------


def new_folder() -> Path:
    """Return a folder that does not exist yet, under the current one or, where that is read-only, the temporary one."""
    try:
        home = Path(FOLDER)
        home.mkdir(exist_ok=True)
        return next(home / f"run-{number}" for number in count(1) if not (home / f"run-{number}").exists())
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"{FOLDER}-"))


def prepare(folder: Path, seed: int) -> Scenario:
    """Write the scenario, or find it in a folder that an earlier demo of the same seed left."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; name an empty or new one")
    try:
        held = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
        if held <= WRITTEN:
            return write_scenario(folder, seed)
    except OSError as error:
        raise UsageError(f"{folder} cannot be used: {error.strerror}; name another folder") from error
    with tempfile.TemporaryDirectory() as name:
        scenario = write_scenario(Path(name), seed)
        if not all(_same(Path(name) / file, folder / file) for file in WRITTEN):
            raise UsageError(f"{folder} holds something other than a demo of seed {seed}; name an empty or new folder")
    _say(f"{folder} holds a demo of seed {seed}: it continues where it stopped")
    return scenario._replace(configuration=folder / scenario.configuration.name)


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


# --- the run ----------------------------------------------------------------------------------------------------------


def _run(configuration: Configuration, scenario: Scenario) -> None:
    """Run with the live summary; give signals back afterwards, which the run takes to stop cleanly."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Summary(configuration, scenario):
            run(configuration)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- the report -------------------------------------------------------------------------------------------------------


def _report(
    out: Console, configuration: Configuration, scenario: Scenario, bus: Bus, keys: dict[str, PublicKey]
) -> Iterator[Check]:
    """Print everything; yield each check after its line."""
    issued = _live.check_commands(_stored(bus, "commands"), keys)
    out.print(f"\n[bold]Commands[/bold] of a simulated crisis after 10 October 2025, seed {scenario.seed}\n")
    _print(out, _live.command_lines(issued, scenario.moments, configuration.playbook))
    out.print("\n[bold]Limits that broke[/bold]\n")
    _print(out, _live.breach_lines(_stored(bus, "breaches")))
    out.print("\n[bold]What holds[/bold]\n")
    for check in _checks(configuration, scenario, bus, keys, issued):
        out.print(Text.assemble(("ok    ", "green") if check.good else ("FAIL  ", "bold red"), check.text))
        yield check


def _checks(
    configuration: Configuration,
    scenario: Scenario,
    bus: Bus,
    keys: dict[str, PublicKey],
    issued: list[_live.Issued],
) -> Iterator[Check]:
    yield _inputs(configuration, bus)
    yield _rejects(bus, scenario)
    kinds = Counter(entry.payload["type"] for entry in issued)
    text = f"{len(issued)} commands of {len(kinds)} kinds (at least {COMMANDS_MIN} of {KINDS_MIN} are expected)"
    yield Check(len(issued) >= COMMANDS_MIN and len(kinds) >= KINDS_MIN, text)
    good = sum(entry.good for entry in issued)
    yield Check(good == len(issued) > 0, f"{good} of {len(issued)} signatures verified with the public key alone")
    yield _verdict("verify", verify(bus, keys, configuration.environment, configuration.issuer), "as they were written")
    yield _verdict(
        "replay", replay(bus, keys, configuration.shards)[0], "derived again from the journal, byte for byte"
    )
    if issued:
        yield _tampering(configuration, keys)


def _inputs(configuration: Configuration, bus: Bus) -> Check:
    """Compare the lines that the journal says were read with those in the files."""
    last = bus.read("journal", 0, bus.end("journal", 0) - 1, 1)
    sources = decode_slice(last[0].value).sources if last else {}
    read = sum(sources[name][0] - 1 for name in INPUTS if name in sources)
    lines = sum((configuration.directory / name).read_bytes().count(b"\n") for name in INPUTS)
    slices = sum(bus.end("journal", shard) for shard in range(configuration.shards))
    return Check(read == lines, f"{read:,} of {lines:,} input lines are in the journal, in {slices:,} slices")


def _rejects(bus: Bus, scenario: Scenario) -> Check:
    reasons = [orjson.loads(stored.value)["reason"] for stored in _stored(bus, "rejects")]
    text = (
        f"{len(reasons)} records rejected, for {len(set(reasons))} reasons; {scenario.rejected} were broken on purpose"
    )
    return Check(len(reasons) == scenario.rejected, text)


def _verdict(name: str, report: Report, good: str) -> Check:
    total = f"{sum(report.records.values()):,}"
    if report.good:
        return Check(True, f"{name}: {total} records are {good}")
    found = [*report.findings, *report.behind]
    return Check(False, f"{name}: {len(found)} findings in {total} records, the first: {found[0]}")


def _tampering(configuration: Configuration, keys: dict[str, PublicKey]) -> Check:
    proof = tamper(configuration, keys)
    head = f"tampering: in a copy, one digit of {proof.place} was changed,"
    found = [f"        {finding}" for finding in proof.findings[:FINDINGS_SHOWN]] or ["        nothing"]
    lines = [head, f"      {proof.before} to {proof.after}; verify finds", *found]
    return Check(proof.named, "\n".join(lines))


def _print(out: Console, lines: list[Text]) -> None:
    for line in lines:
        out.print(line)


def _stored(bus: Bus, topic: str) -> Iterator[Stored]:
    for partition in bus.partitions(topic):
        yield from read_all(bus, topic, partition)


def _minutes(scenario: Scenario) -> int:
    return (scenario.end_us - scenario.start_us) // 60_000_000


def _say(text: str) -> None:
    print(text, file=sys.stderr)
