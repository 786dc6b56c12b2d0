"""A bus in memory, with the bus's protocol: for tests that stop a writer at every place."""

from collections.abc import Callable, Iterable, Mapping

from seawall.schemas.records import Stored


class MemoryBus:
    """Topics as lists."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Stored]] = {}

    def topics(self) -> list[str]:
        return sorted({topic for topic, _ in self.records})

    def partitions(self, topic: str) -> list[int]:
        return sorted(partition for name, partition in self.records if name == topic)

    def known_partitions(self, topic: str) -> list[int]:
        return self.partitions(topic)

    def keep_to(self, topic: str, begun: bool, reader: str) -> None:
        pass

    def end(self, topic: str, partition: int) -> int:
        return len(self.records.get((topic, partition), []))

    def read(
        self, topic: str, partition: int, offset: int, records_max: int = 1000, bytes_max: int = 1 << 22
    ) -> list[Stored]:
        return self.records.get((topic, partition), [])[offset : offset + records_max]

    def tail(
        self, topic: str, partition: int, offset: int, records_max: int = 1000, bytes_max: int = 1 << 22
    ) -> list[Stored]:
        return self.read(topic, partition, offset, records_max, bytes_max)

    def may_have_more(self, topic: str, partition: int) -> bool:
        return False

    def pass_over(self, tell: Callable[[str, int, str], None]) -> None:
        """Do nothing: here every record has an offset, and is read."""

    def is_settled(self, topic: str, partition: int) -> bool:
        return True

    def start(self, topic: str, partition: int) -> int:
        return 0

    def provide(self, partitions: Mapping[str, int], make: bool) -> list[str]:
        return []

    def copier(self, partitions: Iterable[tuple[str, int]]) -> "MemoryWriter":
        return self.writer(partitions)

    def identity(self) -> str:
        return f"memory:{id(self)}"

    fences = False

    def writer(self, partitions: Iterable[tuple[str, int]], take: bool = False) -> "MemoryWriter":
        return MemoryWriter(self)

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryWriter:
    """Buffers until ``flush``."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._buffer: list[tuple[str, int, str, bytes, dict[str, str]]] = []

    def append(self, topic: str, partition: int, key: str, value: bytes, headers: dict[str, str]) -> None:
        self._buffer.append((topic, partition, key, value, headers))

    def flush(self) -> None:
        for topic, partition, key, value, headers in self._buffer:
            records = self._bus.records.setdefault((topic, partition), [])
            records.append(Stored(len(records), key, headers, value))
        self._buffer.clear()

    def submit(self) -> None:
        self.flush()

    def is_idle(self) -> bool:
        return True

    def end(self, topic: str, partition: int) -> int:
        waiting = sum(1 for record in self._buffer if record[:2] == (topic, partition))
        return self._bus.end(topic, partition) + waiting

    def close(self) -> None:
        self._buffer.clear()
