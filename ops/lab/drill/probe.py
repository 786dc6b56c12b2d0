"""How a drill asks whether the system still decides: accounts of its own that must be commanded about.

A probe is a new client with a position and nothing to hold it. Its margin ratio is beyond every level, so limits and
playbook that are in force answer with a command that names it. The feed marks the instrument, so that the probe has a
price and silence is the drill's own choice.
"""

import threading
import time
from typing import Any

import orjson

from seawall.connectors.bus import Bus, open_bus
from seawall.ops.lab.drill.plan import Drill
from seawall.schemas.errors import BusError

Json = dict[str, Any]
RETRY_S = 0.2


class Probes:
    """Sends marks and probes to a live topic, and looks for what the system makes of them; a context."""

    def __init__(self, drill: Drill, name: str) -> None:
        self._drill, self._name, self._lock = drill, name, threading.Lock()
        self._bus = open_bus(drill.configuration.bus, drill.configuration.directory)
        self._count, self._frozen, self._closing = 0, threading.Event(), threading.Event()
        self._at: dict[tuple[str, int], int] = {}
        self._commanded: dict[str, float] = {}
        self._thread = threading.Thread(target=self._feed, name="feed", daemon=True)

    def __enter__(self) -> "Probes":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._bus.close()

    @property
    def bus(self) -> Bus:
        """Return the bus, for reading."""
        return self._bus

    def freeze(self) -> None:
        """Send no marks until :meth:`thaw`."""
        self._frozen.set()

    def thaw(self) -> None:
        """Send marks again."""
        self._frozen.clear()

    def probe(self) -> tuple[str, float]:
        """Send a probe; return its account and when it was sent."""
        self._count += 1
        name, now_us = f"drill/{self._name}/{self._count}", time.time_ns() // 1000
        drill = self._drill
        fill = {"fill_id": f"f-{name}", "account": name, "instrument": drill.instrument, "side": "buy"}
        party = {"counterparty": name, "event_time_us": now_us}
        self._send(
            {"type": "counterparty", **party, "name": "drill", "role": "client"},
            {"type": "account", **party, "account": name, "holder": "counterparty"},
            {"type": "fill", "event_time_us": now_us, **fill, "quantity": "1", "price": drill.price},
        )
        return name, time.monotonic()

    def mark(self, ahead_s: float = 0.0) -> None:
        """Send a mark whose producer's clock is ahead."""
        at_us = time.time_ns() // 1000 + round(ahead_s * 1e6)
        body = {"instrument": self._drill.instrument, "price": self._drill.price}
        self._send({"type": "mark", "event_time_us": at_us, **body})

    def commanded(self, name: str) -> float | None:
        """Return when a command about a probe was first seen on the topic; None: not yet."""
        now = time.monotonic()
        for value in self.fresh("commands"):
            target = orjson.loads(value)["target"]["id"]
            self._commanded.setdefault(target, now)
        return self._commanded.get(name)

    def fresh(self, topic: str) -> list[bytes]:
        """Return the values that came on a topic since it was last looked at; none while the bus cannot be read."""
        found: list[bytes] = []
        try:
            for partition in self._bus.partitions(topic):
                while stored := self._bus.read(topic, partition, self._at.get((topic, partition), 0)):
                    found += [one.value for one in stored]
                    self._at[topic, partition] = stored[-1].offset + 1
        except BusError:
            return found
        return found

    def _feed(self) -> None:
        while not self._closing.wait(self._drill.feed_s):
            if not self._frozen.is_set():
                self.mark()

    def _send(self, *records: Json) -> None:
        """Append records, again and again while the bus is cut."""
        with self._lock:
            while not self._closing.is_set():
                try:
                    writer = self._bus.writer([(self._drill.topic, 0)])
                    for record in records:
                        writer.append(self._drill.topic, 0, "", orjson.dumps(record), {})
                    writer.flush()
                    writer.close()
                    return
                except BusError:
                    time.sleep(RETRY_S)
