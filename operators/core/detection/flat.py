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
