"""``seawall drill``: a schedule of faults against a running system, with the times that it took.

1. The run is started, fed with marks, and asked with a probe: only a system that decides is drilled.
2. Each fault begins. At once a probe is sent; when its command stands, that is the time *to command*. When the fault is
   noticed, that is the time *to detect*.
3. The fault ends after ``hold_s``. Another probe is sent; when its command stands, that is the time *to recover*, from
   the beginning of the fault.
4. The run is stopped as an orchestrator stops it, then verified and replayed: what was decided under faults must stand.

Times are this process's, read every 20 ms; what has not come within ``within_s`` is null, and the drill fails.
"""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as View

from seawall.connectors.signers import open_signer
from seawall.connectors.trust import load_trust
from seawall.ops.lab.drill.faults import begin, wait
from seawall.ops.lab.drill.plan import Drill, Fault
from seawall.ops.lab.drill.probe import Probes
from seawall.ops.lab.drill.record import Record
from seawall.ops.lab.drill.system import Supervised
from seawall.ops.lab.workers import bars
from seawall.ops.preparing import prepare
from seawall.ops.verification.replay import replay
from seawall.ops.verification.verify import verify

Json = dict[str, Any]
RECORD = "drill.jsonl"
LOOK_S = 0.02
UNNOTICED = ("cut",)  # a bus that is back before writers give up is waited for, and nobody is told


def drill(plan: Drill, folder: Path) -> Json:
    """Run a drill, leave its record in a folder, and return what it found."""
    record = Record(folder / RECORD)
    prepare(plan.configuration).close()
    record.add("begun", {"at_us": _now_us(), "plan": plan.content, "issuer": plan.configuration.issuer})
    found: list[Json] = []
    with (
        bars() as shown,
        Supervised(plan.configuration.path, folder / "run.log") as system,
        Probes(plan, f"{_now_us():x}") as probes,
    ):
        task = shown.add_task("drill", total=len(plan.faults) + 1)
        ready = _asked(plan, probes)
        record.add("ready", {"at_us": _now_us(), "seconds": ready})
        shown.advance(task)
        for fault in plan.faults if ready is not None else ():
            time.sleep(fault.after_s)
            found.append(_fault(fault, plan, system, probes))
            record.add("fault", found[-1])
            shown.advance(task)
        code = system.stop()
    return _ended(plan, record, found, ready, code)


def _ended(plan: Drill, record: Record, found: list[Json], ready: float | None, code: int) -> Json:
    configuration = plan.configuration
    bus, trust = prepare(configuration), load_trust(configuration)
    checked = verify(bus, trust, configuration.environment, configuration.issuer, topics=configuration.topics)
    again, *_ = replay(bus, trust, configuration.shards)
    bus.close()
    held = {"exit_code": code, "verified": checked.good, "replayed": again.good}
    good = ready is not None and code == 0 and checked.good and again.good and all(one["good"] for one in found)
    record.add("ended", {"at_us": _now_us(), **held, "good": good})
    record.sign(open_signer(configuration.signer, configuration.directory))
    return {"good": good, **held, "ready_s": ready, "faults": found, "record": str(record.path)}


def _asked(plan: Drill, probes: Probes) -> float | None:
    """Return the seconds from a probe to its command; None: it did not come."""
    name, sent = probes.probe()
    at = wait(lambda: probes.commanded(name) is not None, sent + plan.within_s)
    return None if at is None else round(at - sent, 3)


def _fault(fault: Fault, plan: Drill, system: Supervised, probes: Probes) -> Json:
    began_us, began = _now_us(), time.monotonic()
    name, _ = probes.probe()
    end, noticed, by = begin(fault, plan, system, probes)
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
    told: Json = {key: None if at is None else round(at - began, 3) for key, at in times.items()}
    good = None not in (commanded, recovered) and (detected is not None or fault.kind in UNNOTICED)
    head = {"kind": fault.kind, "at_us": began_us, "starts": system.starts}
    return {**head, **told, "detected_by": by if detected is not None else None, "good": good}


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
