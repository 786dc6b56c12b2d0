"""Snapshots: the state of an operator as versioned, checksummed bytes.

Layout: ``SWS1``, CRC-32 of all that follows, then a msgpack map. Arrays travel as their dtype, shape and raw
little-endian bytes, so a snapshot costs a few memory copies, loads under any numpy version and runs no code when it is
read (the engine's own pickle only ever sees these bytes). Integers are 64-bit in memory and as narrow as they fit here.
"""

import zlib
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.schemas.errors import SnapshotError

MAGIC = b"SWS1"


def pack(schema: str, state: dict[str, Any]) -> bytes:
    """Encode ``state`` (plain values, lists, dicts, bytes and numpy arrays) under the name and version ``schema``.

    Returns
    -------
    bytes
        Equal for equal states, whatever host wrote them.
    """
    body = msgspec.msgpack.encode({"schema": schema, "state": state}, enc_hook=_encode)
    return MAGIC + zlib.crc32(body).to_bytes(4, "big") + body


def encode_part(value: Any) -> msgspec.Raw:
    """Encode a part of a state once; ``pack`` takes the outcome in its place, and ``unpack`` returns ``value``."""
    return msgspec.Raw(msgspec.msgpack.encode(value, enc_hook=_encode))


def unpack(schema: str, data: bytes) -> dict[str, Any]:
    """Decode what ``pack`` made.

    Raises
    ------
    SnapshotError
        The bytes are damaged, or were written for another schema version.
    """
    if len(data) < 8 or data[:4] != MAGIC:
        raise SnapshotError(f"a snapshot of {schema} does not start with {MAGIC.decode()}")
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
