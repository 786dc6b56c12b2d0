"""The record of a drill: one line per entry, each with the hash of the one before, the last one signed.

Lines are those of audit records: ``{"shard","seq","n","prev","kind","body"}``, ``prev`` the RFC 6962 leaf hash of the
line before, so a line that is changed, removed, added or moved breaks the chain. The signature, a detached DSSE
envelope by the run's own key, is over the number of lines and the leaf hash of the last.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table as View

from seawall.connectors.keys import Trust, open_signer
from seawall.operators.core.audit import GENESIS, audit_value, leaf_hash
from seawall.operators.core.base import Decision
from seawall.ops.arguments import show_progress
from seawall.ops.lab._drill_faults import DrillPlan, Fault, Probes, SupervisedRun, begin_fault, wait_until
from seawall.ops.run import prepare_run
from seawall.ops.verify import replay, verify
from seawall.schemas import evidence
from seawall.schemas.errors import UsageError, VerificationError

TYPE = "application/vnd.seawall.drill.v1+json"
KEY = "drill"


class DrillRecord:
    """A record that is being written; every line is on the disk before the next thing happens."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise UsageError(f"{path} exists; a record is never written over: name another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._count, self._prev = path, 0, GENESIS

    def add(self, kind: str, body: dict[str, Any]) -> None:
        """Add an entry."""
        value = audit_value(f'"{KEY}"', self._count, 0, self._prev, Decision(kind, body))
        with self.path.open("ab") as file:
            file.write(value + b"\n")
        self._prev, self._count = leaf_hash(value), self._count + 1

    def sign(self, signer: evidence.Signer) -> None:
        """Sign what stands; nothing is added after it."""
        envelope = evidence.sign_payload(signer, TYPE, _claim(self._count, self._prev))
        _envelope(self.path).write_text(envelope + "\n")


def verify_drill_record(path: Path, keys: Mapping[str, evidence.PublicKey]) -> list[dict[str, Any]]:
    """Return the entries of a record whose chain and signature hold.

    Raises
    ------
    VerificationError
        Naming the line that does not follow from the one before it, or what is wrong with the signature.
    UsageError
        A file cannot be read.
    """
    try:
        lines, envelope = path.read_bytes().splitlines(), _envelope(path).read_text().strip()
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}; name the record of a drill") from error
    prev, entries = GENESIS, []
    for number, line in enumerate(lines, 1):
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise VerificationError(f"{path.name}, line {number}: is no JSON") from error
        if entry.get("prev") != prev or entry.get("seq") != number - 1:
            raise VerificationError(f"{path.name}, line {number}: does not follow from the line before it")
        prev = leaf_hash(line)
        entries.append(entry)
    evidence.verify_envelope(_claim(len(lines), prev), envelope, keys, TYPE)
    return entries


def _claim(count: int, last: str) -> bytes:
    return orjson.dumps({"lines": count, "last": last})


def _envelope(path: Path) -> Path:
    return path.with_suffix(".dsse.json")


# ``seawall drill``: a schedule of faults against a running system, with the times that it took.
#
# 1. The run is started, fed with marks, and asked with a probe: only a system that decides is drilled.
# 2. Each fault begins. At once a probe is sent; when its command stands, that is the time *to command*. When the fault
#    is noticed, that is the time *to detect*.
# 3. The fault ends after ``hold_s``. Another probe is sent; when its command stands, that is the time *to recover*,
#    from the beginning of the fault.
# 4. The run is stopped as an orchestrator stops it, then verified and replayed: what was decided under faults must
#    stand.
#
# Times are this process's, read every 20 ms; what has not come within ``within_s`` is null, and the drill fails.

Json = dict[str, Any]
RECORD = "drill.jsonl"
LOOK_S = 0.02
UNNOTICED = ("cut",)  # a bus that is back before writers give up is waited for, and nobody is told


def drill(plan: DrillPlan, folder: Path) -> Json:
    """Run a drill, leave its record in a folder, and return what it found."""
    record = DrillRecord(folder / RECORD)
    prepare_run(plan.configuration).close()
    record.add("begun", {"at_us": _now_us(), "plan": plan.content, "issuer": plan.configuration.issuer})
    found: list[Json] = []
    with (
        show_progress("drill", len(plan.faults) + 1) as advance,
        SupervisedRun(plan.configuration.path, folder / "run.log") as system,
        Probes(plan, f"{_now_us():x}") as probes,
    ):
        ready = _requested_at(plan, probes)
        record.add("ready", {"at_us": _now_us(), "seconds": ready})
        advance()
        for fault in plan.faults if ready is not None else ():
            time.sleep(fault.after_s)
            found.append(_fault(fault, plan, system, probes))
            record.add("fault", found[-1])
            advance()
        code = system.stop()
    return _ended(plan, record, found, ready, code)


def _ended(plan: DrillPlan, record: DrillRecord, found: list[Json], ready: float | None, code: int) -> Json:
    configuration = plan.configuration
    bus, trust = prepare_run(configuration), Trust.load(configuration)
    checked = verify(bus, trust, configuration.environment, configuration.issuer, topics=configuration.topics)
    again, *_ = replay(bus, trust, configuration.shards)
    bus.close()
    held = {"exit_code": code, "verified": checked.good, "replayed": again.good}
    good = ready is not None and code == 0 and checked.good and again.good and all(one["good"] for one in found)
    record.add("ended", {"at_us": _now_us(), **held, "good": good})
    record.sign(open_signer(configuration.signer, configuration.directory))
    return {"good": good, **held, "ready_s": ready, "faults": found, "record": str(record.path)}


def _requested_at(plan: DrillPlan, probes: Probes) -> float | None:
    """Return the seconds from a probe to its command; None: it did not come."""
    name, sent = probes.probe()
    at = wait_until(lambda: probes.commanded(name) is not None, sent + plan.within_s)
    return None if at is None else round(at - sent, 3)


def _fault(fault: Fault, plan: DrillPlan, system: SupervisedRun, probes: Probes) -> Json:
    began_us, began = _now_us(), time.monotonic()
    name, _ = probes.probe()
    end, noticed, by = begin_fault(fault, plan, system, probes)
    detected = commanded = recovered = ended = None
    after = ""
    while time.monotonic() < began + fault.hold_s + plan.within_s:
        detected = time.monotonic() if detected is None and noticed() else detected
        if ended is None and time.monotonic() >= began + fault.hold_s:
            end()
            ended = time.monotonic()
            after, _ = probes.probe()
        commanded, recovered = probes.commanded(name), probes.commanded(after)
        if None not in (commanded, recovered) and (detected is not None or fault.kind in UNNOTICED):
            break
        time.sleep(LOOK_S)
    times = {"held_s": ended, "detect_s": detected, "command_s": commanded, "recover_s": recovered}
    delays: Json = {key: None if at is None else round(at - began, 3) for key, at in times.items()}
    good = None not in (commanded, recovered) and (detected is not None or fault.kind in UNNOTICED)
    head = {"kind": fault.kind, "at_us": began_us, "starts": system.starts}
    return {**head, **delays, "detected_by": by if detected is not None else None, "good": good}


def _now_us() -> int:
    return time.time_ns() // 1000


def print_drill(found: Json, console: Console | None = None) -> None:
    """Print a table of faults and times."""
    console, view = console or Console(), View()
    for name in ("fault", "to detect", "to command", "to recover", "noticed by"):
        view.add_column(name, justify="left" if name in ("fault", "noticed by") else "right")
    for one in found["faults"]:
        times = ("—" if one[name] is None else f"{one[name]:.2f} s" for name in ("detect_s", "command_s", "recover_s"))
        view.add_row(one["kind"], *times, one["detected_by"] or "nobody: it was ridden out" * one["good"])
    console.print(view)
    held = ", ".join(f"{name} {found[name]}" for name in ("exit_code", "verified", "replayed"))
    console.print(f"{'the drill holds' if found['good'] else 'THE DRILL FAILS'}: {held}; record {found['record']}")
