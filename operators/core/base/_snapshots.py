"""Snapshots: state as versioned, checksummed bytes, with no pickle and no code in them.

Two layouts: ``pack`` takes any state of plain values and arrays, ``pack_numbers`` the few numbers of one detector, of
which there are many, in a single call of ``struct``.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.schemas.errors import SnapshotError

# Snapshots: the state of an operator as versioned, checksummed bytes.
#
# Layout: ``SWS1``, CRC-32 of all that follows, then a msgpack map. Arrays travel as their dtype, shape and raw
# little-endian bytes, so a snapshot costs a few memory copies, loads under any numpy version and runs no code when it
# is read (the engine's own pickle only ever sees these bytes). Integers are 64-bit in memory and as narrow as they fit
# here.

SNAPSHOT_MAGIC = b"SWS1"
Part = TypeVar("Part")


def pack(schema: str, state: dict[str, Any] | msgspec.Struct) -> bytes:
    """Encode ``state`` under the name and version ``schema``: plain values, lists, dicts, bytes, arrays, typed records.

    Returns
    -------
    bytes
        Equal for equal states, whatever host wrote them.
    """
    body = msgspec.msgpack.encode({"schema": schema, "state": state}, enc_hook=_encode)
    return SNAPSHOT_MAGIC + zlib.crc32(body).to_bytes(4, "big") + body


def encode_part(value: Any) -> msgspec.Raw:
    """Encode a part of a state once; ``pack`` takes the outcome in its place, and ``unpack`` returns ``value``."""
    return msgspec.Raw(msgspec.msgpack.encode(value, enc_hook=_encode))


def decode_part(value: Any, kind: type[Part]) -> Part:
    """Return a part of an unpacked state as the record that it was.

    Raises
    ------
    SnapshotError
        It is none.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=lambda _, array: array)
    except msgspec.ValidationError as error:
        raise SnapshotError(f"a snapshot holds no {kind.__name__}: {error}") from error


def unpack(schema: str, data: bytes) -> dict[str, Any]:
    """Decode what ``pack`` made.

    Raises
    ------
    SnapshotError
        The bytes are damaged, or were written for another schema version.
    """
    if len(data) < 8 or data[:4] != SNAPSHOT_MAGIC:
        raise SnapshotError(f"a snapshot of {schema} does not start with {SNAPSHOT_MAGIC.decode()}")
    if zlib.crc32(data[8:]) != int.from_bytes(data[4:8], "big"):
        raise SnapshotError(f"a snapshot of {schema} is damaged: its checksum does not match")
    try:
        whole = msgspec.msgpack.decode(data[8:], ext_hook=_decode)
        name, state = whole["schema"], whole["state"]
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise SnapshotError(f"a snapshot of {schema} cannot be decoded: {error}") from error
    if name != schema:
        raise SnapshotError(f"a snapshot of {name} cannot be read as {schema}")
    if not isinstance(state, dict):
        raise SnapshotError(f"a snapshot of {schema} holds no state")
    return state


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        array = _narrowed(np.ascontiguousarray(value))
        head = msgspec.msgpack.encode((array.dtype.newbyteorder("<").str, list(array.shape)))
        return msgspec.msgpack.Ext(1, len(head).to_bytes(2, "big") + head + array.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a snapshot cannot hold {type(value).__name__}")


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """Return 64-bit integers as 32-bit ones where all fit: half the bytes to write every second."""
    if array.dtype != np.int64 or not array.size or array.min() < -(1 << 31) or array.max() >= 1 << 31:
        return array
    return array.astype(np.int32)


def _decode(code: int, data: memoryview) -> Any:
    raw = bytes(data)
    size = int.from_bytes(raw[:2], "big")
    dtype, shape = msgspec.msgpack.decode(raw[2 : 2 + size])
    array = np.frombuffer(raw, dtype=np.dtype(dtype), offset=2 + size).reshape(shape)
    return array.astype(np.int64) if array.dtype == np.int32 else array.copy()


# Detector state as flat bytes: a tag that names kind and version, a checksum, and little-endian doubles.
#
# One key's detector costs one ``struct.pack``; the bytes hold no code and no objects, are equal for equal states on
# every host, and have a length that depends on the kind of detector only, never on how much it has seen.

TAG_BYTES = 8  # ASCII, padded with blanks: six characters of kind, two of version
PACKED_HEAD_BYTES = TAG_BYTES + 4


def pack_numbers(tag: str, numbers: Sequence[float]) -> bytes:
    """Encode ``numbers`` under ``tag`` (at most 8 ASCII characters, the last of which count the layout's version).

    Examples
    --------
    >>> len(pack_numbers("demo/01", [1.0, 2.0]))
    28
    """
    body = tag.ljust(TAG_BYTES).encode("ascii") + struct.pack(f"<{len(numbers)}d", *numbers)
    return zlib.crc32(body).to_bytes(4, "big") + body


def unpack_numbers(tag: str, data: bytes, size: int | None = None) -> list[float]:
    """Decode what ``pack_numbers`` made.

    Raises
    ------
    SnapshotError
        The bytes are damaged, carry another tag, or hold another number of values than ``size``.
    """
    if len(data) < PACKED_HEAD_BYTES or (len(data) - PACKED_HEAD_BYTES) % 8:
        raise SnapshotError(f"a snapshot of {tag} has {len(data)} bytes, which no layout has")
    if zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise SnapshotError(f"a snapshot of {tag} is damaged: its checksum does not match")
    found = data[4:PACKED_HEAD_BYTES].decode("ascii", "replace").rstrip()
    if found != tag:
        raise SnapshotError(f"a snapshot of {found} cannot be read as {tag}")
    numbers = list(struct.unpack(f"<{(len(data) - PACKED_HEAD_BYTES) // 8}d", data[PACKED_HEAD_BYTES:]))
    if size is not None and len(numbers) != size:
        raise SnapshotError(f"a snapshot of {tag} holds {len(numbers)} values, this detector needs {size}")
    return numbers


def pack_parts(tag: str, numbers: Sequence[float], parts: Sequence[bytes]) -> bytes:
    """Encode some numbers and then whole snapshots of others, each as it is.

    Examples
    --------
    >>> unpack_parts("both_01", pack_parts("both_01", [3.0], [b"one", b""]), 1, 2)
    ([3.0], [b'one', b''])
    """
    return pack_numbers(tag, [*numbers, *(float(len(part)) for part in parts)]) + b"".join(parts)


def unpack_parts(tag: str, data: bytes, numbers: int, parts: int) -> tuple[list[float], list[bytes]]:
    """Decode what ``pack_parts`` made of as many numbers and parts; the parts carry checksums of their own.

    Raises
    ------
    SnapshotError
        The bytes are damaged, cut, or those of something else.
    """
    at = PACKED_HEAD_BYTES + 8 * (numbers + parts)
    found = unpack_numbers(tag, data[:at], numbers + parts)
    cut = []
    for length in found[numbers:]:
        cut.append(data[at : at + int(length)])
        at += int(length)
    if at != len(data):
        raise SnapshotError(f"a snapshot of {tag} has {len(data)} bytes, its parts need {at}")
    return found[:numbers], cut
