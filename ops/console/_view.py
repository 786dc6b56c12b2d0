"""State of the console: a fold of a run's journal and topics that follows them, published as one JSON text.

The journal is folded as `seawall exposures` does, so values are exact and no topic's gaps show. One thread follows;
each look takes a bounded time and publishes what it has come to, so a long journal is seen to be replayed. Every list
is bounded, and says how many more there are.
"""

import logging
import threading
import time
from collections import deque
from typing import Any

import msgspec
import orjson

from seawall.connectors.bus import Bus, open_bus
from seawall.operators.core.forecasts import MAP_STEPS
from seawall.operators.core.limits import Policy
from seawall.ops.reports import ExposureFold, IncidentReader, LimitsInForce, ScopeExposure, report_forecasts
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError, UsageError
from seawall.schemas.records import decode_slice
from seawall.schemas.transparency import Checkpoint, NoteError

log = logging.getLogger("seawall")
LOOK_S = 1.0  # that one look may read before it publishes
SLICES = 50  # of a shard that are read at once
PAUSE_S = 0.5
PAUSES = 3  # as long as this many times what a look took, the thread rests
ROWS_MAX = 200  # counterparties, limits, incidents
ALERTS_MAX = 100
HISTORY_MAX = 100
FORECASTS_MAX = 100
PARTY_MEASURES = ("current_exposure", "potential_exposure", "collateral_held", "gross_notional", "pnl")


class View(threading.Thread):
    """Follows a run and keeps the newest text of what to show.

    Parameters
    ----------
    configuration
        The run's; it is only read from.

    Attributes
    ----------
    text, version
        The state as JSON, and a number that grows with every change of it.
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(name="console", daemon=True)
        self._configuration = configuration
        self._enough = threading.Event()
        self._fold = ExposureFold(configuration.shards)
        self._limits = LimitsInForce(Policy(), [], 0)
        self._taken = [0] * configuration.shards
        self._alerts: deque[dict[str, Any]] = deque(maxlen=ALERTS_MAX)
        self._alert_offsets: dict[int, int] = {}
        self._behind = False
        self.text, self.version = b"{}", 0

    def run(self) -> None:
        """Follow until told to end; what ends it before is said on the page."""
        try:
            self._follow()
        except Exception as error:
            log.exception("the console follows no more")
            text = f"the console follows no more: {type(error).__name__}: {error}; start it again"
            self._publish({**orjson.loads(self.text), "error": text})

    def _follow(self) -> None:
        """Look now and then; a bus that cannot be read is said on the page, and asked again."""
        bus: Bus | None = None
        while not self._enough.is_set():
            began = time.monotonic()
            try:
                if bus is None:
                    bus = open_bus(self._configuration.bus, self._configuration.directory)
                    incidents = IncidentReader(bus)
                self._publish(self._look(bus, incidents))
            except (SeawallError, msgspec.MsgspecError) as error:
                log.warning("the console cannot follow: %s", error)
                self._publish({**orjson.loads(self.text), "error": str(error)})
            took = time.monotonic() - began
            self._enough.wait(0 if took > LOOK_S and self._behind else max(PAUSE_S, PAUSES * (took - LOOK_S)))
        if bus is not None:
            bus.close()

    def end(self) -> None:
        """Follow no more."""
        self._enough.set()

    def _publish(self, state: dict[str, Any]) -> None:
        text = orjson.dumps(state)
        if text != self.text:
            self.text, self.version = text, self.version + 1

    # --- following --------------------------------------------------------------------------------------------------

    def _look(self, bus: Bus, incidents: IncidentReader) -> dict[str, Any]:
        """Read on for a bounded time; return the state."""
        shards = self._configuration.shards
        until, more = time.monotonic() + LOOK_S, True
        while more and time.monotonic() < until:
            more = incidents.read()
            for shard in range(shards):
                found = bus.read("journal", shard, self._taken[shard], SLICES)
                for stored in found:
                    piece = decode_slice(stored.value)
                    self._fold.step(piece)
                    if shard == 0:
                        incidents.take_slice(piece)
                        self._limits.take(piece)
                    self._taken[shard] += 1
                more = more or bool(found)
        self._read_alerts(bus)
        end, done = sum(bus.end("journal", shard) for shard in range(shards)), sum(self._taken)
        self._behind = end - done > shards
        settled = incidents.settle(shards + 1).found.values()
        return {
            "environment": self._configuration.environment,
            "issuer": self._configuration.issuer,
            "currency": self._configuration.reporting_currency,
            "as_of_us": self._fold.as_of_us,
            "replaying": {"done": done, "total": end} if self._behind else None,
            **self._exposures(),
            "alerts": sorted(self._alerts, key=lambda one: -one["as_of_us"]),
            **_incidents(sorted(settled, key=lambda one: (one.open, one.opened_us), reverse=True)),
            "history": [one._asdict() for one in reversed(self._limits.history[-HISTORY_MAX:])],
            "audit": [self._audit(bus, partition) for partition in range(shards + 1)],
            "forecasting": bool(self._configuration.forecasts["enabled"]),
            "error": "",
        }

    def _read_alerts(self, bus: Bus) -> None:
        for partition in bus.partitions("alerts"):
            end = bus.end("alerts", partition)
            offset = max(self._alert_offsets.get(partition, 0), end - ALERTS_MAX, bus.start("alerts", partition))
            while found := bus.read("alerts", partition, offset):
                self._alerts.extend(orjson.loads(stored.value) for stored in found)
                offset = found[-1].offset + 1
            self._alert_offsets[partition] = offset

    def _audit(self, bus: Bus, partition: int) -> dict[str, Any]:
        """Return how long an audit partition is, and what its last checkpoint covers."""
        found: dict[str, Any] = {
            "partition": partition,
            "records": bus.end("audit", partition),
            "sealed": 0,
            "root": "",
        }
        end = bus.end("checkpoints", partition)
        last = bus.read("checkpoints", partition, end - 1, 1) if end else []
        if last:
            text = last[0].value.decode("utf-8", "replace").partition("\n\n")[0] + "\n"
            try:
                checkpoint = Checkpoint.parse(text)
            except NoteError:
                return {**found, "root": "not a checkpoint"}
            found |= {"sealed": checkpoint.size, "root": checkpoint.root.hex()}
        return found

    # --- exposures --------------------------------------------------------------------------------------------------

    def _exposures(self) -> dict[str, Any]:
        """Return the firm, each counterparty with the most used limit of all that is its, and the most used limits."""
        scopes, owners = self._fold.report().scopes, self._fold.owners()
        worst: dict[str, dict[str, Any]] = {}
        limits = []
        for one in scopes:
            party = owners.get(one.scope, "")
            for limit in one.limits:
                row = {**limit._asdict(), "factors": None}
                limits.append(row)
                if party and (party not in worst or worst[party]["utilisation"] < limit.utilisation):
                    worst[party] = row
        parties = [_party(one, worst.get(one.scope)) for one in scopes if one.scope.startswith("counterparty:")]
        parties.sort(key=lambda row: (-row["utilisation"], -row["current_exposure"], row["name"]))
        limits.sort(key=lambda row: (-row["utilisation"], row["scope"], row["limit"]))
        firm = next((one.measures for one in scopes if one.scope == "firm"), {})
        return {
            "firm": firm,
            "counterparties": parties[:ROWS_MAX],
            "counterparties_more": max(0, len(parties) - ROWS_MAX),
            "limits": limits[:ROWS_MAX],
            "limits_more": max(0, len(limits) - ROWS_MAX),
        }

    def foresight(self) -> dict[str, Any]:
        """Return the forecasts and the last liquidation map, read from the topic now."""
        bus = open_bus(self._configuration.bus, self._configuration.directory)
        try:
            found = report_forecasts(bus, None)
            maps: list[dict[str, Any]] = []
            partition, at_us = self._configuration.shards, 0
            end = bus.end("forecasts", partition)
            for stored in reversed(bus.read("forecasts", partition, max(0, end - ROWS_MAX))):
                value = orjson.loads(stored.value)
                at_us = at_us or value["as_of_us"]
                if value["as_of_us"] != at_us:
                    break
                maps = value.get("liquidations", []) + maps
        except UsageError as error:
            return {"error": str(error), "as_of_us": 0, "forecasts": [], "maps": [], "steps": MAP_STEPS}
        finally:
            bus.close()
        return {
            "error": "",
            "as_of_us": found.as_of_us,
            "forecasts": found.explained(FORECASTS_MAX),
            "maps": maps,
            "steps": MAP_STEPS,
            "map_as_of_us": at_us,
        }


def _party(one: ScopeExposure, worst: dict[str, Any] | None) -> dict[str, Any]:
    measures = {name: one.measures.get(name, 0.0) for name in PARTY_MEASURES}
    used = worst["utilisation"] if worst else 0.0
    return {"name": one.scope.partition(":")[2], **measures, "utilisation": used, "worst": worst}


def _incidents(found: list[Any]) -> dict[str, Any]:
    shown = found[:ROWS_MAX]
    return {
        "incidents": [one.as_dict() for one in shown],
        "incidents_open": sum(one.open for one in found),
        "incidents_more": len(found) - len(shown),
    }
