"""What evidence costs: signing, chaining, sealing and verifying, each against its goal, in one run.

    python ops/benchmarks/evidence.py [--records 4000]

Prints a Markdown table. Times are processor seconds of this thread; each figure is the best of 25 rounds, because
other work on the machine only ever adds to it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.connectors import keys
from seawall.connectors.bus import open_bus
from seawall.connectors.logs import log_key
from seawall.operators.core.audit import AuditState, leaf_hash
from seawall.operators.core.frames import Decision
from seawall.operators.core.sealing import SealState, check_partition, origin_of
from seawall.ops.findings import Report
from seawall.ops.verify_log import LogCheck, Logs
from seawall.schemas import dsse
from seawall.schemas.evidence.note import sign_note

ROUNDS = 25
ORIGIN = origin_of("risk/bench", "dev", 0)
SLICE_MS = 100


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


def decisions(count: int, slice_ms: int = SLICE_MS) -> Iterator[tuple[int, Decision]]:
    """Yield what the audit records of slices say, one every ``slice_ms`` of event time."""
    for seq in range(count):
        topics = {"exposures": [1, "e" * 64], "breaches": [1, "b" * 64]}
        body = {"as_of_us": seq * slice_ms * 1000, "inputs": [[seq, "a" * 64]], "topics": topics}
        yield seq, Decision("slice", body)


def chained(listed: list[tuple[int, Decision]]) -> list[bytes]:
    """Return the audit records, as `risk` makes them."""
    state = AuditState("0", 0)
    return [state._chain(seq, 0, decision).value for seq, decision in listed]


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
        listed = list(decisions(count))
        entries = chained(listed)
        chaining = best(lambda: chained(listed), count)
        encoding = best(lambda: [orjson.dumps(decision.body) for _, decision in listed], count)
        sealing = best(lambda: sealed(entries), count)
        signing = best(lambda: sealed(entries, private.sign), count)
        reading = best(lambda: list(check_partition(entries, [])), count)
        hashing = best(lambda: [leaf_hash(entry) for entry in entries], count)
        storage = stored(Path(name) / "sparse", entries, signer)
        dense = stored(Path(name) / "dense", chained(list(decisions(count, 2))), signer)
    size = sum(map(len, entries)) // count
    print(f"{count:,} audit records of {size} bytes, ten slices and one checkpoint a second of event time\n")
    print("| what | µs | goal |\n|---|---|---|")
    row(f"Ed25519 of the library, {len(message)} bytes", bare)
    row("signing a command: encoding, signature, envelope", whole, f"{whole / bare:.2f} of the library's; at most 1.3")
    row("chaining a record, its JSON included", chaining)
    row("SHA-256 of a record alone, in hex", hashing)
    row("sealing a record: leaf, tree, tiles, root per checkpoint", sealing)
    row("chaining and sealing together, the body's JSON left out", chaining - encoding + sealing, "at most 3")
    row("the same with the checkpoints' signatures", chaining - encoding + signing)
    row("checking chain and tree of a record in memory", reading, f"{1e6 / reading:,.0f} records/s; at least 100,000")
    row("checking a stored log, ten records per checkpoint", storage, f"{1e6 / storage:,.0f} records/s")
    row("checking a stored log, 256 records per checkpoint", dense, f"{1e6 / dense:,.0f} records/s; at least 100,000")


def row(what: str, micros: float, goal: str = "") -> None:
    print(f"| {what} | {micros:.2f} | {goal} |")


if __name__ == "__main__":
    main()
