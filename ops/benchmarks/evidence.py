"""What evidence costs: signing, chaining, sealing and verifying, each against its goal, in one run.

    python ops/benchmarks/evidence.py [--records 4000]

Prints a Markdown table. Times are processor seconds of this thread; each figure is the best of 25 rounds, because
other work on the machine only ever adds to it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.connectors import keys
from seawall.connectors.bus import open_bus
from seawall.connectors.logs import log_key
from seawall.operators.core.audit import AuditState, audit_value, leaf_hash, slice_decision
from seawall.operators.core.frames import Decision
from seawall.operators.core.sealing import SealState, check_partition, origin_of
from seawall.ops.verification.findings import Report
from seawall.ops.verification.logs import LogCheck, Logs
from seawall.schemas import dsse
from seawall.schemas.evidence.note import sign_note

ROUNDS = 25
ORIGIN = origin_of("risk/bench", "dev", 0)
SLICE_US = 100_000


def best(work: Callable[[], object], count: int) -> float:
    """Return the microseconds per item of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        work()
        found.append((time.thread_time() - began) / count * 1e6)
    return min(found)


def command() -> bytes:
    body = {"v": 1, "type": "CALL_MARGIN", "id": "0" * 64, "iss": "risk/bench", "aud": ["*"], "env": "dev"}
    body |= {"target": {"scope": "account", "id": "client/main"}, "epoch": 1, "seq": 7, "prev_id": "1" * 64}
    body |= {"iat_us": 1763688000000000, "nbf_us": 1763688000000000, "exp_us": 1763688060000000, "action": {}}
    return orjson.dumps({**body, "evidence": {"id": "0-17-1", "causes": ["fill:1"]}, "reason": {"rule": "r" * 120}})


def decisions(count: int, live: bool = False) -> list[tuple[int, Decision]]:
    """Return what the audit records of slices say, ten a second; live ones state the clock at their cut."""
    topics: dict[str, list[Any]] = {"exposures": [1, "e" * 64], "breaches": [1, "b" * 64]}
    cuts = [(seq * SLICE_US, seq * SLICE_US + 50_000 * live) for seq in range(count)]
    return [(seq, slice_decision("0", times, [[seq, "a" * 64]], dict(topics), False)) for seq, times in enumerate(cuts)]


def chained(listed: list[tuple[int, Decision]]) -> list[bytes]:
    """Return the audit records, as `risk` makes them."""
    state = AuditState("0", 0)
    return [state.chain(seq, [decision])[0].value for seq, decision in listed]


def unchained(listed: list[tuple[int, Decision]]) -> list[bytes]:
    """Return the same records without a chain, as those of any other topic are made."""
    state = AuditState("0", 0)
    return [
        state.numbering.record("audit", seq, 0, "0", audit_value("0", seq, 0, "0" * 64, decision)).value
        for seq, decision in listed
    ]


def sealed(entries: list[bytes], sign: Callable[[bytes], bytes] | None = None) -> list[bytes]:
    """Return the checkpoints of a log, signed where there is a signer, as `seal` makes them."""
    state, found, key = SealState(ORIGIN, 0), [], None
    if sign is not None:
        key = log_key(ORIGIN, dsse.public_jwk(bytes(31) + b"\x09"))
    for at in range(0, len(entries), 128):
        for checkpoint in state.step(entries[at : at + 128]).checkpoints:
            found.append(b"" if key is None or sign is None else sign_note(checkpoint.text(), key, sign).encode())
    return found


def stored(folder: Path, entries: list[bytes], signer: keys.FileSigner) -> float:
    """Write audit and checkpoints to a bus, and return the microseconds per record of checking its log."""
    folder.mkdir()
    bus, key = open_bus("sqlite:seawall.db", folder), log_key(ORIGIN, signer.public_jwk())
    writer = bus.writer([("audit", 0), ("checkpoints", 0)])
    state, number = SealState(ORIGIN, 0), 0
    for at in range(0, len(entries), 128):
        for n, entry in enumerate(entries[at : at + 128], at):
            writer.append("audit", 0, "0", entry, {"seawall-id": f"0-{n}-0", "seawall-n": str(n)})
        for checkpoint in state.step(entries[at : at + 128]).checkpoints:
            headers = {"seawall-id": f"0-{checkpoint.size}-0", "seawall-n": str(number)}
            writer.append("checkpoints", 0, ORIGIN, sign_note(checkpoint.text(), key, signer.sign).encode(), headers)
            number += 1
    writer.flush()
    writer.close()

    def check() -> None:
        report = Report()
        LogCheck(bus, 0, "risk/bench", "dev", Logs([signer.public_jwk()]), report).run()
        assert report.good, report.findings + report.behind

    return best(check, len(entries))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=4_000)
    count = parser.parse_args().records
    private, value = Ed25519PrivateKey.generate(), command()
    with tempfile.TemporaryDirectory() as name:
        signer = keys.new_key(Path(name) / "bench.pem")
        message = dsse.pae(dsse.COMMAND_TYPE, value)
        bare = best(lambda: [private.sign(message) for _ in range(2000)], 2000)
        whole = best(lambda: [dsse.sign(signer, dsse.COMMAND_TYPE, value) for _ in range(2000)], 2000)
        listed = decisions(count)
        entries = chained(listed)
        chaining = best(lambda: chained(listed), count)
        making = best(lambda: unchained(listed), count)
        sealing = best(lambda: sealed(entries), count)
        signing = best(lambda: sealed(entries, private.sign), count)
        live = chained(decisions(count, live=True))
        sealing_live = best(lambda: sealed(live, private.sign), count)
        reading = best(lambda: list(check_partition(entries, [])), count)
        hashing = best(lambda: [leaf_hash(entry) for entry in entries], count)
        storage = stored(Path(name) / "bounded", entries, signer)
        storage_live = stored(Path(name) / "live", live, signer)
    size = sum(map(len, entries)) // count
    print(f"{count:,} audit records of {size} bytes, ten a second\n")
    print("| what | µs | goal |\n|---|---|---|")
    row(f"Ed25519 of the library, {len(message)} bytes", bare)
    row("signing a command: encoding, signature, envelope", whole, f"{whole / bare:.2f} of the library's; at most 1.3")
    row("making an audit record: JSON, id, count", making)
    row("the same, chained", chaining)
    row("SHA-256 of a record alone, in hex", hashing)
    row("sealing a record: leaf, tree, tiles, root per checkpoint", sealing)
    row("chaining and sealing together", chaining - making + sealing, "at most 3")
    row("the same with signatures, bounded: one per 256 records", chaining - making + signing)
    row("the same with signatures, live: one per ten records", chaining - making + sealing_live)
    row("checking chain and tree of a record in memory", reading, f"{1e6 / reading:,.0f} records/s; at least 100,000")
    row("checking a stored log, bounded", storage, f"{1e6 / storage:,.0f} records/s; at least 100,000")
    row("checking a stored log, live", storage_live, f"{1e6 / storage_live:,.0f} records/s: signatures")


def row(what: str, micros: float, goal: str = "") -> None:
    print(f"| {what} | {micros:.2f} | {goal} |")


if __name__ == "__main__":
    main()
