"""Forecasts of the firm: the cascade that a fall would set off, and systemic stress.

Once per minute of event time in which anything happened. Shards send what they know of their own books with the first
second of a minute (``ExposureState``, ``ForecastState``); sums are taken in order of shard. Between two minutes
measures stay as they are. Records stand on the firm's partition with ``"shard": "all"``: the indicators every minute,
maps when they moved.
"""

from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base import (
    MeasuredSlice,
    MeasureTable,
    RecordNumbering,
    ShardForecast,
    pack,
    unpack,
    widen_table,
)
from seawall.operators.core.forecasts import _cascades as cs
from seawall.operators.core.forecasts._cascades import HOUSE_NODE
from seawall.operators.core.forecasts._limit_forecasts import LimitForecasts, UnderlyingForecasts
from seawall.operators.core.forecasts._losses import FirmLosses
from seawall.operators.core.forecasts._markets import HORIZONS_S
from seawall.operators.core.forecasts._sensitivities import FIRM_MEASURES, LevelGap, plain_gap, sensitivities_of_matrix
from seawall.operators.core.forecasts._systemic_stress import MarketState, SystemicStress
from seawall.schemas.measures import CASCADE_FORECASTS, FIRM_WIDE_SCOPES, LOSSES, PROBABILITIES, SYSTEMIC_FORECASTS

F8 = NDArray[np.float64]
SCHEMA: Final = "foresight-wide/1"
MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000
MAPS_MAX: Final = 20  # maps of a record: about 8 KB each


class FirmForecastState:
    """The forecasts of the firm: ``step(measured) -> MeasuredSlice``, with its records and measures added.

    Parameters
    ----------
    partition
        That of its records. Whether forecasts are made comes with the configuration.
    """

    def __init__(self, partition: int) -> None:
        self.numbering = RecordNumbering(partition)
        self._enabled = False
        self._hour = -1
        self._written = cs.empty_shard_map()  # the maps as they were written last
        self._cascade: F8 = np.ones((len(CASCADE_FORECASTS), 0))  # by underlying
        self._losses = FirmLosses()
        self.systemic = SystemicStress()
        self._limits, self._named, self._scored = LimitForecasts(FIRM_WIDE_SCOPES), False, -1

    def step(self, measured: MeasuredSlice) -> MeasuredSlice:
        """Forecast on one second."""
        events, as_of_us = measured.events, measured.measures.moment.as_of_us
        if events.configuration is not None:
            section = events.configuration.get("forecasts", {})
            self._enabled = bool(section.get("enabled"))
            self._losses.configure(section)
            limits = events.configuration["limits"]
            self._limits.configure(limits)
            self._named = bool(limits.get("documents")) or any(
                one["measure"] in PROBABILITIES for one in limits["limits"]
            )
        if events.limit_documents:
            self._limits.apply(events.limit_documents, as_of_us)
        if not self._enabled:
            return measured
        self._limits.look(as_of_us)
        self._limits.settle(measured.measures.tables, as_of_us)
        if measured.forecasts:
            measured = self._foresee(measured)
            measured = self._likely(measured) if self._limits else measured
        tables = self._widened(measured.measures.tables)
        if self._losses.enabled:
            row = self._losses.update(measured.losses, as_of_us) if measured.losses else None
            tables["firm"] = widen_table(tables["firm"], LOSSES, self._losses.values[:, None])
            measured = measured if row is None else self._with(measured, {"forecasts": [], "losses": [row]})
        return measured._replace(measures=measured.measures._replace(tables=tables))

    def _likely(self, measured: MeasuredSlice) -> MeasuredSlice:
        """Return the second with forecasts of limits on what spans shards."""
        parts, tables, as_of_us = measured.forecasts, measured.measures.tables, measured.measures.moment.as_of_us
        held: dict[str, F8] = {}
        for kind in FIRM_WIDE_SCOPES:
            found = [part.sensitivities[kind] for part in parts if kind in part.sensitivities]
            if found:
                held[kind] = _sum_sensitivities(found)
        assert parts[0].seen is not None
        spread, rho, cold = parts[0].seen
        seen = UnderlyingForecasts(dict(zip(HORIZONS_S, spread, strict=True)), rho, cold)

        def lean(kind: str, measure: str, below: bool, bound: float) -> LevelGap | None:
            if kind not in held or measure not in FIRM_MEASURES:
                return None
            values = tables[kind].values[tables[kind].measures.index(measure)]
            matrix = held[kind][FIRM_MEASURES.index(measure), : len(values), : len(rho)]
            return plain_gap(values, below, bound, sensitivities_of_matrix(matrix))

        rows = self._limits.forecast(lean, tables, seen, as_of_us)
        hourly = as_of_us // HOUR_US != self._scored
        self._scored = as_of_us // HOUR_US
        body = {"forecasts": rows} | ({"scores": self._limits.scores()} if hourly else {})
        return self._with(measured, body) if rows or hourly else measured

    def _with(self, measured: MeasuredSlice, body: dict[str, Any]) -> MeasuredSlice:
        """Return the second with a further record of forecasts."""
        moment, outputs = measured.measures.moment, measured.outputs
        records = list(outputs.records.get("forecasts", []))
        value = orjson.dumps({"shard": moment.key, "seq": moment.seq, "as_of_us": moment.as_of_us, **body})
        records.append(self.numbering.record("forecasts", moment.seq, len(records), moment.key, value))
        return measured._replace(outputs=outputs._replace(records={**outputs.records, "forecasts": records}))

    def _foresee(self, measured: MeasuredSlice) -> MeasuredSlice:
        """Look at what shards told; return the second with its records."""
        parts, as_of_us = measured.forecasts, measured.measures.moment.as_of_us
        books = cs.ShardLiquidationMap.sum(
            [cs.ShardLiquidationMap(*part.liquidations) for part in parts if part.liquidations]
        )
        depth = np.full(len(books.exposed), np.nan)
        known = parts[0].depth
        assert known is not None
        depth[: len(known)] = known
        found = books.cascade(depth)
        self._cascade = cs.cascade_measures(found)
        self.systemic.look(as_of_us // MINUTE_US, _merge_shards(parts))
        hour = as_of_us // HOUR_US
        at = sorted(
            {
                *cs.moved_underlyings(books, self._written),
                *(books.exposed_underlyings() if hour != self._hour else ()),
            }
        )
        self._hour, self._written = hour, cs.record_written_map(books, self._written, at)
        names = measured.measures.tables["underlying"].names
        return self._record(measured, [found.row(number, names[number]) for number in at])

    def _widened(self, tables: dict[str, MeasureTable]) -> dict[str, MeasureTable]:
        """Return the tables with these forecasts among the measures of underlyings and of the firm."""
        underlying, firm = tables["underlying"], tables["firm"]
        own = np.ones((len(CASCADE_FORECASTS), underlying.values.shape[1]))
        own[:, : self._cascade.shape[1]] = self._cascade
        worst = [own[0].max(initial=1.0), own[1].min(initial=1.0)]
        said = np.array([*worst, self.systemic.stress, *(part.value for part in self.systemic.parts.values())])
        tables = {
            **tables,
            "underlying": widen_table(underlying, CASCADE_FORECASTS, own),
            "firm": widen_table(firm, (*CASCADE_FORECASTS, *SYSTEMIC_FORECASTS), said[:, None]),
        }
        for kind in FIRM_WIDE_SCOPES if self._named else ():
            found = self._limits.probabilities(kind, tables[kind].values.shape[1])
            tables[kind] = widen_table(tables[kind], PROBABILITIES, found)
        return tables

    def _record(self, measured: MeasuredSlice, maps: list[dict[str, Any]]) -> MeasuredSlice:
        moment, outputs = measured.measures.moment, measured.outputs
        head = {"shard": moment.key, "seq": moment.seq, "as_of_us": moment.as_of_us, "forecasts": []}
        records = []
        for at, first in enumerate(range(0, max(len(maps), 1), MAPS_MAX)):
            value = {**head, "systemic": self.systemic.row()} if at == 0 else dict(head)
            if maps:
                value["liquidations"] = maps[first : first + MAPS_MAX]
            records.append(self.numbering.record("forecasts", moment.seq, at, moment.key, orjson.dumps(value)))
        return measured._replace(outputs=outputs._replace(records={**outputs.records, "forecasts": records}))

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        used = self._enabled or self._hour >= 0  # where nothing is forecast a snapshot costs nothing
        state = {
            "partition": self.numbering.partition,
            "counts": dict(self.numbering.counts),
            "flags": [self._enabled, self._hour, self._named, self._scored],
            "limits": self._limits.snapshot(),
            "written": list(self._written),
            "cascade": self._cascade,
            "losses": self._losses.snapshot() if used else {},
            "systemic": self.systemic.snapshot() if used else [],
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "FirmForecastState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["partition"])
        self.numbering.counts = state["counts"]
        self._enabled, self._hour, self._named, self._scored = state["flags"]
        self._limits.restore(state["limits"])
        self._written, self._cascade = cs.ShardLiquidationMap(*state["written"]), state["cascade"]
        if state["systemic"]:
            self._losses.restore(state["losses"])
            self.systemic.restore(state["systemic"])
        return self


def _merge_shards(parts: list[ShardForecast]) -> MarketState:
    """Return what all shards told: sums and lists in order of shard, markets from the first."""
    head, collateral = parts[0], np.zeros(3)
    own_funds: dict[str, float] = {}
    house = 0.0
    for part in parts:
        collateral = collateral + part.collateral
        own_funds |= part.own_funds
        house += part.house
    claims = [(borrower, lender, amount) for part in parts for borrower, lender, amount in part.claims]
    own_funds[HOUSE_NODE] = house
    assert head.price is not None and head.funding is not None and head.interest is not None
    return MarketState(head.price, head.funding, head.interest, collateral, claims, own_funds)


def _sum_sensitivities(parts: list[F8]) -> F8:
    """Return the sum of what shards tell, in order of shard; one may know scopes that another has yet to meet."""
    found = np.zeros([max(part.shape[axis] for part in parts) for axis in range(3)])
    for part in parts:
        found[:, : part.shape[1], : part.shape[2]] += part
    return found
