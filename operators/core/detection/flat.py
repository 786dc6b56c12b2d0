"""Detector state as flat bytes: a tag that names kind and version, a checksum, and little-endian doubles.

One key's detector costs one ``struct.pack``; the bytes hold no code and no objects, are equal for equal states on every
host, and have a length that depends on the kind of detector only, never on how much it has seen.
"""

import struct
import zlib
from collections.abc import Sequence

from seawall.schemas.errors import SnapshotError

TAG_BYTES = 8  # ASCII, padded with blanks: six characters of kind, two of version
HEAD_BYTES = TAG_BYTES + 4


def to_bytes(tag: str, numbers: Sequence[float]) -> bytes:
    """Encode ``numbers`` under ``tag`` (at most 8 ASCII characters, the last of which count the layout's version).

    Examples
    --------
    >>> len(to_bytes("demo/01", [1.0, 2.0]))
    28
    """
    body = tag.ljust(TAG_BYTES).encode("ascii") + struct.pack(f"<{len(numbers)}d", *numbers)
    return zlib.crc32(body).to_bytes(4, "big") + body


def from_bytes(tag: str, data: bytes, size: int | None = None) -> list[float]:
    """Decode what ``to_bytes`` made.

    Raises
    ------
    SnapshotError
        The bytes are damaged, carry another tag, or hold another number of values than ``size``.
    """
    if len(data) < HEAD_BYTES or (len(data) - HEAD_BYTES) % 8:
        raise SnapshotError(f"a snapshot of {tag} has {len(data)} bytes, which no layout has")
    if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise SnapshotError(f"a snapshot of {tag} is damaged: its checksum does not match")
    found = data[4:HEAD_BYTES].decode("ascii", "replace").rstrip()
    if found != tag:
        raise SnapshotError(f"a snapshot of {found} cannot be read as {tag}")
    numbers = list(struct.unpack(f"<{(len(data) - HEAD_BYTES) // 8}d", data[HEAD_BYTES:]))
    if size is not None and len(numbers) != size:
        raise SnapshotError(f"a snapshot of {tag} holds {len(numbers)} values, this detector needs {size}")
    return numbers


def to_parts(tag: str, numbers: Sequence[float], parts: Sequence[bytes]) -> bytes:
    """Encode some numbers and then whole snapshots of others, each as it is.

    Examples
    --------
    >>> from_parts("both_01", to_parts("both_01", [3.0], [b"one", b""]), 1, 2)
    ([3.0], [b'one', b''])
    """
    return to_bytes(tag, [*numbers, *(float(len(part)) for part in parts)]) + b"".join(parts)


def from_parts(tag: str, data: bytes, numbers: int, parts: int) -> tuple[list[float], list[bytes]]:
    """Decode what ``to_parts`` made of as many numbers and parts; the parts carry checksums of their own.

    Raises
    ------
    SnapshotError
        The bytes are damaged, cut, or those of something else.
    """
    at = HEAD_BYTES + 8 * (numbers + parts)
    found = from_bytes(tag, data[:at], numbers + parts)
    cut = []
    for length in found[numbers:]:
        cut.append(data[at : at + int(length)])
        at += int(length)
    if at != len(data):
        raise SnapshotError(f"a snapshot of {tag} has {len(data)} bytes, its parts need {at}")
    return found[:numbers], cut
