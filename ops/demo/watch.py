"""Watching a run from outside: what stands on its topics so far, read from another thread while it is written.

Nothing is told by the run itself. A reader of the bus sees what any subscriber would see, so what the demo shows while
it runs is what stands.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from seawall.connectors.bus import Bus
from seawall.operators.core.limit_rules import LEVELS
from seawall.schemas.records import Stored

TOPICS = ("breaches", "commands", "alerts", "rejects")


class Watch:
    """What was seen on the topics of one run; ``look`` reads on from where it stopped.

    Attributes
    ----------
    clock_us
        The event time that every shard and the second operator have passed, 0 before the first slice.
    counts
        Records by topic.
    standing
        Level by (limit, scope), of limits that are broken now.
    commands
        Payloads in order of time.
    firm
        The firm's measures, last values.
    """

    def __init__(self, bus: Bus, shards: int) -> None:
        self._bus, self._shards = bus, shards
        self._next: Counter[tuple[str, int]] = Counter()
        self._told = 0
        self.clock_us = 0
        self.counts: Counter[str] = Counter()
        self.standing: dict[tuple[str, str], str] = {}
        self.commands: list[dict[str, Any]] = []
        self.firm: dict[str, float] = {}

    def look(self) -> list[dict[str, Any]]:
        """Read what came since the last look; return the commands that the clock has passed since, in order of time.

        Shards do not keep step, so a command is held back until nothing earlier can follow.
        """
        self._tell_the_time()
        for topic in TOPICS:
            for partition in range(self._shards + 1):
                for stored in self._new(topic, partition):
                    self._take(topic, orjson.loads(stored.value))
        for stored in self._new("exposures", self._shards):
            self.firm |= orjson.loads(stored.value)["firm"]
        self.commands.sort(key=lambda command: int(command["iat_us"]))
        known = self._told
        self._told = sum(command["iat_us"] <= self.clock_us for command in self.commands)
        return self.commands[known : self._told]

    def broken(self) -> list[tuple[str, str, str]]:
        """Return (level, limit, scope) of what is broken now, the worst first."""
        found = [(level, limit, scope) for (limit, scope), level in self.standing.items()]
        return sorted(found, key=lambda entry: (-LEVELS.index(entry[0]), entry[2]))

    def _tell_the_time(self) -> None:
        """Take the last slice that each shard has accounted for; the audit record of a slice is its last."""
        times = []
        for partition in range(self._shards + 1):
            end = self._bus.end("audit", partition)
            last = self._bus.read("audit", partition, end - 1, 1) if end else []
            times.append(int(orjson.loads(last[0].value)["body"].get("as_of_us", 0)) if last else 0)
        self.clock_us = max(self.clock_us, min(times))
        self.counts["journal"] = sum(self._bus.end("journal", shard) for shard in range(self._shards))
        self.counts["exposures"] = sum(self._bus.end("exposures", part) for part in range(self._shards + 1))

    def _take(self, topic: str, content: dict[str, Any]) -> None:
        self.counts[topic] += 1
        if topic == "commands":
            self.commands.append(content)
        elif topic == "breaches":
            place = (content["limit"], content["scope"])
            if content["level"] == LEVELS[0]:
                self.standing.pop(place, None)
            else:
                self.standing[place] = content["level"]

    def _new(self, topic: str, partition: int) -> Iterator[Stored]:
        """Yield the records of a partition that were not read yet."""
        place = (topic, partition)
        while found := self._bus.read(topic, partition, self._next[place]):
            self._next[place] = found[-1].offset + 1
            yield from found
