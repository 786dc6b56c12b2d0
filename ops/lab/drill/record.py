"""The record of a drill: one line per entry, each with the hash of the one before, the last one signed.

Lines are those of audit records: ``{"shard","seq","n","prev","kind","body"}``, ``prev`` the RFC 6962 leaf hash of the
line before, so a line that is changed, removed, added or moved breaks the chain. The signature, a detached DSSE
envelope by the run's own key, is over the number of lines and the leaf hash of the last.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from seawall.operators.core.audit import GENESIS, audit_value, leaf_hash
from seawall.operators.core.frames import Decision
from seawall.schemas import dsse
from seawall.schemas.errors import UsageError, VerificationError

TYPE = "application/vnd.seawall.drill.v1+json"
KEY = "drill"


class Record:
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

    def sign(self, signer: dsse.Signer) -> None:
        """Sign what stands; nothing is added after it."""
        envelope = dsse.sign(signer, TYPE, _claim(self._count, self._prev))
        _envelope(self.path).write_text(envelope + "\n")


def verify_record(path: Path, keys: Mapping[str, dsse.PublicKey]) -> list[dict[str, Any]]:
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
    dsse.verify(_claim(len(lines), prev), envelope, keys, TYPE)
    return entries


def _claim(count: int, last: str) -> bytes:
    return orjson.dumps({"lines": count, "last": last})


def _envelope(path: Path) -> Path:
    return path.with_suffix(".dsse.json")
