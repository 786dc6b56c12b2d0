"""Cost of evidence: signing, chaining, sealing and verifying, each against its goal, in one run.

python ops/bench/evidence.py [--records 4000]
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _harness as bench
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from seawall.connectors import keys
from seawall.connectors.bus import open_bus
from seawall.connectors.transparency_log import log_key
from seawall.operators.core.audit import (
    AuditState,
    SealState,
    audit_value,
    check_partition,
    leaf_hash,
    origin_of,
    slice_decision,
)
from seawall.operators.core.base import Decision
from seawall.ops.verify import LogCheck, Logs, Report
from seawall.schemas.evidence import COMMAND_TYPE, pae, public_jwk, sign_payload

ROUNDS, SIGNATURES, SLICE_US = 25, 2000, 100_000
ORIGIN = origin_of("risk/bench", "dev", 0)
app = bench.suite(__doc__)


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
    state, found = SealState(ORIGIN, 0), []
    key = log_key(ORIGIN, public_jwk(bytes(31) + b"\x09")) if sign is not None else None
    for at in range(0, len(entries), 128):
        for checkpoint in state.step(entries[at : at + 128]).checkpoints:
            found.append(b"" if key is None or sign is None else key.sign(checkpoint.text(), sign).encode())
    return found


def stored(folder: Path, entries: list[bytes], signer: keys.FileSigner) -> Callable[[], object]:
    """Write audit and checkpoints to a bus; return the check of its log."""
    folder.mkdir()
    bus, key = open_bus("sqlite:seawall.db", folder), log_key(ORIGIN, signer.public_jwk())
    writer, state, number = bus.writer([("audit", 0), ("checkpoints", 0)]), SealState(ORIGIN, 0), 0
    for at in range(0, len(entries), 128):
        for n, entry in enumerate(entries[at : at + 128], at):
            writer.append("audit", 0, "0", entry, {"seawall-id": f"0-{n}-0", "seawall-n": str(n)})
        for checkpoint in state.step(entries[at : at + 128]).checkpoints:
            headers = {"seawall-id": f"0-{checkpoint.size}-0", "seawall-n": str(number)}
            writer.append("checkpoints", 0, ORIGIN, key.sign(checkpoint.text(), signer.sign).encode(), headers)
            number += 1
    writer.flush()
    writer.close()

    def check() -> None:
        report = Report()
        LogCheck(bus, 0, "risk/bench", "dev", Logs([signer.public_jwk()]), report).run()
        assert report.good, report.findings + report.behind

    return check


@app.command()
def evidence(records: int = 4_000, rounds: int = ROUNDS) -> None:
    """Print what evidence costs as a table.

    Times are processor seconds of this thread; each figure is the best of 25 rounds, in which all take turns, because
    other work on the machine only ever adds to it.
    """
    private, value, signed = Ed25519PrivateKey.generate(), command(), range(SIGNATURES)
    message, listed = pae(COMMAND_TYPE, value), decisions(records)
    entries, live = chained(listed), chained(decisions(records, live=True))
    with tempfile.TemporaryDirectory() as name:
        signer = keys.new_key(Path(name) / "bench.pem")
        works: dict[str, Callable[[], object]] = {
            "bare": lambda: [private.sign(message) for _ in signed],
            "whole": lambda: [sign_payload(signer, COMMAND_TYPE, value) for _ in signed],
            "chaining": lambda: chained(listed),
            "making": lambda: unchained(listed),
            "sealing": lambda: sealed(entries),
            "signing": lambda: sealed(entries, private.sign),
            "sealing live": lambda: sealed(live, private.sign),
            "reading": lambda: list(check_partition(entries, [])),
            "hashing": lambda: [leaf_hash(entry) for entry in entries],
            "storage": stored(Path(name) / "bounded", entries, signer),
            "storage live": stored(Path(name) / "live", live, signer),
        }
        spent = bench.least(works, rounds, time.thread_time)
    us = {what: took / (SIGNATURES if what in ("bare", "whole") else records) * 1e6 for what, took in spent.items()}
    a_second = {what: f"{1e6 / took:,.0f} records/s" for what, took in us.items()}
    chain = us["chaining"] - us["making"]
    print(f"{records:,} audit records of {sum(map(len, entries)) // records} bytes, ten a second\n")
    rows: list[tuple[str, float, str]] = [
        (f"Ed25519 of the library, {len(message)} bytes", us["bare"], ""),
        ("signing a command: encoding, signature, envelope", us["whole"],
         f"{us['whole'] / us['bare']:.2f} of the library's; at most 1.3"),
        ("making an audit record: JSON, id, count", us["making"], ""),
        ("the same, chained", us["chaining"], ""),
        ("SHA-256 of a record alone, in hex", us["hashing"], ""),
        ("sealing a record: leaf, tree, tiles, root per checkpoint", us["sealing"], ""),
        ("chaining and sealing together", chain + us["sealing"], "at most 3"),
        ("the same with signatures, bounded: one per 256 records", chain + us["signing"], ""),
        ("the same with signatures, live: one per ten records", chain + us["sealing live"], ""),
        ("checking chain and tree of a record in memory", us["reading"], f"{a_second['reading']}; at least 100,000"),
        ("checking a stored log, bounded", us["storage"], f"{a_second['storage']}; at least 100,000"),
        ("checking a stored log, live", us["storage live"], f"{a_second['storage live']}: signatures"),
    ]  # fmt: skip
    bench.table("what | µs | goal", ((what, f"{micros:.2f}", goal) for what, micros, goal in rows))


if __name__ == "__main__":
    app()
