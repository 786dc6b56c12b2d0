"""Who has knocked before: admission to a full registry on the second visit, in a table of fixed size."""

import zlib

from seawall.operators.core.detection.flat import from_parts, to_parts

SLOTS_PER_KEY = 4
SLOTS_MIN = 1024
GENERATIONS = 250  # values of a slot; an entry counts in its own generation and the next

_TAG = "doors_01"


class Door:
    """A table with one byte per slot: the generation in which a key of that slot knocked last.

    Two keys that share a slot let each other in: at worst one knock too early.

    Examples
    --------
    >>> door = Door(100)
    >>> door.admits("new"), door.admits("new")
    (False, True)
    """

    __slots__ = ("_generation", "_keys_max", "_knocks", "_slots")

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._slots = bytearray(max(SLOTS_MIN, SLOTS_PER_KEY * keys_max))
        self._generation, self._knocks = 1, 0

    def admits(self, key: str) -> bool:
        """Whether ``key`` has knocked in this generation or the last one; remembers that it has now."""
        slot = zlib.crc32(key.encode("utf-8", "surrogatepass")) % len(self._slots)
        before = self._slots[slot]
        self._slots[slot] = self._generation
        self._knocks += 1
        known = before != 0 and (self._generation - before) % GENERATIONS <= 1
        if self._knocks >= self._keys_max:
            self._knocks, self._generation = 0, self._generation % GENERATIONS + 1
        return known

    def snapshot(self) -> bytes:
        """Encode the table; a door on which nobody has knocked has none."""
        used = self._knocks > 0 or self._generation > 1
        return to_parts(_TAG, [self._generation, self._knocks], [bytes(self._slots) if used else b""])

    def restore(self, data: bytes) -> None:
        """Take over the state of a door; one for another number of keys knows nobody yet, and goes on from there."""
        (generation, knocks), (slots,) = from_parts(_TAG, data, 2, 1)
        self._generation, self._knocks = int(generation), int(knocks)
        self._slots = bytearray(slots) if len(slots) == len(self._slots) else bytearray(len(self._slots))
