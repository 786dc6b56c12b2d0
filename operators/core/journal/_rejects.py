"""Rejects: records that were not accepted, as the topic ``rejects`` holds them, with reason, source and original bytes.

Nothing is lost: the original is kept exactly, as text where it is UTF-8 and in base64 where it is not, or where JSON
escapes would make the text too large for the bus. Of a record over the size limit the first 64 KiB, the length and the
SHA-256 are kept (contract.md, "Rejects").
"""

import base64
import hashlib
from typing import Any, NamedTuple

import msgspec

from seawall.schemas.errors import Reason, Rejected
from seawall.schemas.events import Event
from seawall.schemas.records import SLICE_BYTES_MAX

RECORD_BYTES_MAX = 256 * 1024
HEAD_BYTES = 64 * 1024
_encode = msgspec.json.Encoder().encode


class RejectRecord(NamedTuple):
    """One record for the topic ``rejects``: its ``seawall-id`` and its value."""

    id: str
    value: bytes


class ConvertedRecord(NamedTuple):
    """A record that did not arrive as what it is: mapped from another form, or redriven.

    Attributes
    ----------
    event
        The input record, or what is kept of one that is none.
    line
        Its bytes as an input record.
    original
        What arrived, for the topic ``rejects``.
    """

    event: Event | RejectRecord
    line: bytes
    original: bytes


class RecordSource(NamedTuple):
    """A source of records: a file by its name, or a partition of a topic."""

    name: str
    partition: int = -1

    @property
    def key(self) -> str:
        """Name of the source in slices."""
        return self.name if self.partition < 0 else f"{self.name}/{self.partition}"

    def describe(self, number: int) -> dict[str, Any]:
        """Return where record ``number`` (a line from 1, or an offset) stands."""
        if self.partition < 0:
            return {"file": self.name, "line": number}
        return {"topic": self.name, "partition": self.partition, "offset": number}

    def record_id(self, number: int) -> str:
        """Return the ``seawall-id`` of a rejected record."""
        return f"{self.name}-{number}" if self.partition < 0 else f"{self.name}-{self.partition}-{number}"

    def reject(self, number: int, rejected: Rejected, original: bytes) -> RejectRecord:
        """Return what is kept of a rejected record."""
        head = {"reason": rejected.reason, "detail": rejected.detail, "source": self.describe(number)}
        value = _encode({**head, **_kept(original)})
        if len(value) > SLICE_BYTES_MAX:
            value = _encode({**head, "original_base64": base64.b64encode(original).decode()})
        return RejectRecord(self.record_id(number), value)

    def reject_oversize(self, number: int, head: bytes, length: int, sha256: str) -> RejectRecord:
        """Return what is kept of a record over the size limit."""
        text = head.decode(errors="ignore").encode()
        body = {
            "reason": Reason.RECORD_MUST_NOT_EXCEED_256_KIB,
            "detail": f"the record has {length} bytes",
            "source": self.describe(number),
            **_kept(text if len(head) - len(text) < 4 and head.startswith(text) else head),
            "truncated": True,
            "bytes": length,
            "sha256": sha256,
        }
        return RejectRecord(self.record_id(number), _encode(body))

    def refuse(self, number: int, rejected: Rejected, original: bytes) -> RejectRecord:
        """Return what is kept of a rejected record of any size."""
        if len(original) <= RECORD_BYTES_MAX:
            return self.reject(number, rejected, original)
        sha256 = hashlib.sha256(original).hexdigest()
        return self.reject_oversize(number, original[:HEAD_BYTES], len(original), sha256)


def _kept(original: bytes) -> dict[str, str]:
    try:
        return {"original": original.decode()}
    except UnicodeDecodeError:
        return {"original_base64": base64.b64encode(original).decode()}
