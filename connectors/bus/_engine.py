"""Bytewax particulars: key routing, and exceptions that the engine loses.

- Bytewax sends a key to worker ``SipHash-1-3(key) modulo workers`` (zero keys, Rust's hashing of a string, which ends
  in 0xff). With plain numbers as keys all four shards of a default run fell to one of two workers. So a shard's key is
  its number followed by as many dots as it takes to spread the shards evenly over any worker count that divides 24.
- With several workers the engine loses exceptions (architecture.md, "Bytewax"): sources and sinks note what they raise
  in ``failures``.
"""

import functools
from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

# Keys of shards: the engine spreads them evenly over its workers.

SPREAD = 24
_MASK = (1 << 64) - 1


@cache
def engine_key(partition: int) -> str:
    """Return the engine's key of a partition."""
    key = str(partition)
    while _sip13(key.encode() + b"\xff") % SPREAD != partition % SPREAD:
        key += "."
    return key


def _sip13(data: bytes) -> int:
    """Return SipHash-1-3 of ``data`` under the zero key (Aumasson and Bernstein 2012)."""
    state = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append((len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little"))
    for word in words:
        state[3] ^= word
        _sip_round(state)
        state[0] ^= word
    state[2] ^= 0xFF
    for _ in range(3):
        _sip_round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _sip_round(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) & _MASK
    v[1] = _rotated(v[1], 13) ^ v[0]
    v[0] = _rotated(v[0], 32)
    v[2] = (v[2] + v[3]) & _MASK
    v[3] = _rotated(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) & _MASK
    v[3] = _rotated(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) & _MASK
    v[1] = _rotated(v[1], 17) ^ v[2]
    v[2] = _rotated(v[2], 32)


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK


# What sources and sinks raised inside the engine: with several workers it loses exceptions.
#
# See architecture.md, "Bytewax".

P = ParamSpec("P")
T = TypeVar("T")
failures: list[BaseException] = []
"""Of this process, oldest first; whoever runs the engine takes them."""


def noting_failures(call: Callable[P, T]) -> Callable[P, T]:
    """Return a callback of the engine that notes what it raises, but for the end of its input."""

    @functools.wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration:
            raise
        except BaseException as error:
            failures.append(error)
            raise

    return wrapped
