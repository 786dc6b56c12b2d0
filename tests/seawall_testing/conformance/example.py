"""A user's own operator as a case of `seawall_testing.conformance`: copy this file and put your operator in.

What an engine asks of a state: it is made from its first item, ``step(state, item)`` returns an output that follows
from state and item alone, ``snapshot()`` says all of it in bytes, and ``restore(bytes)`` brings it back.
"""

from typing import NamedTuple

from seawall.operators.core.base import pack, unpack
from seawall_testing.core_states import StateCase

SCHEMA = "largest-trade/1"


class Largest(NamedTuple):
    """The largest trade so far, and how many there were."""

    quantity: float
    trades: int


class LargestTrade:
    """The state of one key."""

    def __init__(self) -> None:
        self.quantity, self.trades = 0.0, 0

    def step(self, quantity: float) -> Largest:
        """Take one trade."""
        self.quantity, self.trades = max(self.quantity, quantity), self.trades + 1
        return Largest(self.quantity, self.trades)

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return pack(SCHEMA, {"quantity": self.quantity, "trades": self.trades})

    @classmethod
    def restore(cls, data: bytes) -> "LargestTrade":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        kept, self = unpack(SCHEMA, data), cls()
        self.quantity, self.trades = kept["quantity"], kept["trades"]
        return self


def subjects() -> list[StateCase]:
    """Return the cases: one per key."""
    trades = [(at * 7919 % 101) / 8 for at in range(60)]
    return [
        StateCase(name, lambda _: LargestTrade(), LargestTrade.restore, LargestTrade.step, trades[first:])
        for name, first in (("ETH-PERP", 0), ("BTC-PERP", 9))
    ]
