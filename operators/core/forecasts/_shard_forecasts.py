"""Forecasts of one shard, added to what was measured, and the loss of an account that comes to its level."""

from typing import Any, Final

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.base import (
    ForecastInputs,
    LossBook,
    MeasuredSlice,
    MeasureTable,
    Moment,
    Ownership,
    RecordNumbering,
    pack,
    sum_by,
    unpack,
    widen_table,
)
from seawall.operators.core.forecasts._account_margins import (
    EQUITY,
    HOUR_US,
    RATIO,
    MarginForecasts,
    margin_forecast_rows,
    volatility_faults,
)
from seawall.operators.core.forecasts._cascades import (
    DEPTH_SPAN,
    ShardLiquidationMap,
    depths_or_default,
    underlying_depths,
)
from seawall.operators.core.forecasts._limit_forecasts import LimitForecasts, UnderlyingForecasts
from seawall.operators.core.forecasts._losses import LossForecasts, scenarios_of
from seawall.operators.core.forecasts._markets import HORIZONS_S, MarketForecasts, underlying_deviations
from seawall.operators.core.forecasts._price_history import ReturnHistory
from seawall.operators.core.forecasts._sensitivities import (
    STUDENT_4_SCALE,
    Sensitivities,
    SensitivityRows,
    health_deviation,
    sum_sensitivities,
)
from seawall.schemas.measures import LOSSES, PROBABILITIES, SHARD_SCOPES
from seawall.schemas.records import Record

# Close-out losses of an account that comes to its level: slippage, the market's move meanwhile, netting.
#
# At the level an account's equity is its maintenance margin over the level. Closing moves each price linearly in
# visible depth, so selling a notional costs half of its final impact, at most half of the notional. Prices move on
# meanwhile, over :data:`CLOSING_S`, as the whole book does and with the tails of a Student t(4). Of a client's account
# we lose what that leaves below zero, less what we owe it in the same netting set where that nets (collateral of its
# other accounts included); of our own what closing costs, at most what is in it.

F8 = NDArray[np.float64]
CLOSING_S: Final = 600
CLOSING_IMPACT_MAX: Final = 0.5  # of a notional


def loss_given_breach(
    held: SensitivityRows, equity: F8, at_level: F8, owned: Ownership, depth: F8, volatility: F8, rho: F8
) -> F8:
    """Return the expected loss of closing out each account once it has come to its level.

    Parameters
    ----------
    held
        What accounts hold; ``gain`` is the signed exposure that is closed.
    equity, at_level : float64, shape (accounts,)
        Now, and as it will be at the level.
    depth, volatility, rho : float64, shape (underlyings,)
        Visible notional within 50 bp (NaN: unknown, 1 % of what is exposed); deviation over :data:`CLOSING_S`;
        correlation with the common factor.
    """
    count = len(equity)
    cost = closing_cost(held, depth, count)
    moved = health_deviation(held._replace(margin=np.zeros(len(held.gain))), 1.0, volatility, rho, count)
    sets = int(owned.netting_set.max(initial=-1)) + 1
    ours = owned.sign[:count] * equity
    of = owned.netting_set[:count]
    owed = np.where(owned.nets[:count], np.maximum(ours - sum_by(of, ours, sets)[of], 0.0), 0.0)
    beyond = closing_shortfall(at_level + owed - cost, moved)
    return np.where(owned.sign[:count] < 0, beyond, np.minimum(cost, at_level))


def closing_cost(held: SensitivityRows, depth: F8, accounts: int) -> F8:
    """Return what slippage takes of each account that is closed at once."""
    size = np.abs(held.gain)
    known, _ = depths_or_default(depth, sum_by(held.underlying, size, len(depth)))
    impact = np.minimum(0.5 * DEPTH_SPAN * size / known[held.underlying], CLOSING_IMPACT_MAX)
    return sum_by(held.account, size * impact, accounts)


def closing_shortfall(room: F8, spread: F8) -> F8:
    """Return the mean of what a t(4) move of deviation ``spread`` takes beyond ``room``.

    Examples
    --------
    >>> closing_shortfall(np.array([0.0, -5.0, 3.0]), np.array([1.0, 0.0, 1.0])).round(4).tolist()
    [0.3536, 5.0, 0.0076]
    """
    safe = np.where(spread > 0, spread, 1.0)
    y = room / safe * STUDENT_4_SCALE
    q = np.sqrt(1.0 + 0.25 * y * y)
    density = 0.375 / (q * q * q * q * q)
    u = 0.5 * y / q
    above = 0.5 - 0.75 * (u - u * u * u / 3.0)
    mean = (density * (4.0 + y * y) / 3.0 - y * above) / STUDENT_4_SCALE * safe
    return np.where(spread > 0, np.maximum(mean, 0.0), np.maximum(-room, 0.0))


# Forecasts of one shard: which account will cross its margin level within each horizon, how likely, and why.
#
# Procedure
# ---------
# 1. Every slice: forecasts whose horizon is past are scored and learned from; then accounts that have just come to a
#    level are noted. In that order, so that no forecast is scored with what came after its horizon.
# 2. Every second: marks are sampled; once a minute of event time volatilities and the habits of accounts move.
# 3. Every second: all accounts with a margin are forecast at once, for every level and horizon. Those that traded, or
#    are in danger, and moved, are written.
# 4. Every hour: all are written, with the figures of how good forecasts have been, and a bounded number of them is kept
#    to learn from.
# 5. Every minute: the liquidation map of the shard's books goes to the firm, from shard 0 with what
#    all shards know of markets.
#
# Levels and what is learned are in `MarginForecasts`, what is written in `margin_forecast_rows`; limits may be on
# ``breach_probability_1h`` and ``breach_probability_24h`` of an account.

SCHEMA: Final = "foresight/2"
ROWS_MAX: Final = 1000


class ForecastState:
    """The forecasts of one shard: ``step(measured) -> MeasuredSlice``, with its records and measures added.

    Parameters
    ----------
    partition
        The shard, also the partition of its records. Whether forecasts are made comes with the configuration.

    Attributes
    ----------
    enabled
        Whether forecasts are made; until then only configurations and limit documents matter to it.
    """

    def __init__(self, partition: int) -> None:
        self.numbering = RecordNumbering(partition)
        self.enabled = self._named = False
        self.markets, self.margins = MarketForecasts(), MarginForecasts()
        self._filled: list[int] = []  # since the last minute
        self._traded: list[int] = []  # since the last second
        self._hour = -1
        self._extended: tuple[Any, Any] = (None, None)
        self._losses = LossForecasts()
        self._limits = LimitForecasts(SHARD_SCOPES)
        self._losing: tuple[Any, Any] = (None, None)  # as _extended, of counterparties

    def step(self, measured: MeasuredSlice) -> MeasuredSlice:
        """Forecast on one slice."""
        measures, events, holdings = measured.measures, measured.events, measured.holdings
        as_of_us = measures.moment.as_of_us
        if events.configuration is not None:
            self._configure(events.configuration)
        if events.limit_documents:
            self._limits.apply(events.limit_documents, as_of_us)
        if not self.enabled:
            return measured
        if events.activity is not None and len(events.activity.filled):
            self._traded += events.activity.filled.tolist()
        if not measures.moment.decides:
            return measured
        table = measures.tables["account"]
        in_force = self._limits.look(as_of_us)
        if in_force is not None:
            self.margins.configure(in_force)
            self._extended = (None, None)  # who stands at a level is noted anew, with or without a snapshot in between
        self._settle(table, as_of_us)
        self._limits.settle(measures.tables, as_of_us)
        if holdings is not None:
            measured = self._with_map(self._foresee(measured, holdings, table), holdings, table)
        tables = measures.tables
        if self.markets.history is not None:
            tables = self._with_losses(tables)
        if self._named:
            tables = self._with_probabilities(tables, table)
        return measured if tables is measures.tables else measured._replace(measures=measures._replace(tables=tables))

    def _configure(self, configuration: dict[str, Any]) -> None:
        section = configuration.get("forecasts", {})
        self.enabled = bool(section.get("enabled"))
        self._losses.configure(scenarios_of(section))
        if self.enabled and section.get("losses"):
            self.markets.history = self.markets.history or ReturnHistory()
        else:
            self.markets.history = None
        limits = configuration["limits"]
        self._limits.configure(limits)
        self._named = bool(limits.get("documents")) or any(one["measure"] in PROBABILITIES for one in limits["limits"])

    def _settle(self, table: MeasureTable, as_of_us: int) -> None:
        """Score what is due, then note who came to a level."""
        self.margins.grow(table.values.shape[1])
        self.margins.resolve(as_of_us)
        if table.values is not self._extended[0]:
            self.margins.note(table.values[RATIO], as_of_us)

    # --- forecasts --------------------------------------------------------------------------------------------------

    def _foresee(self, measured: MeasuredSlice, book: ForecastInputs, table: MeasureTable) -> MeasuredSlice:
        values, as_of_us = table.values, measured.measures.moment.as_of_us
        self._filled += self._traded
        minute = self.markets.sample(book, as_of_us)
        if minute:
            self.margins.look(as_of_us, values, book, self._filled)
            self._filled = []
        hour = as_of_us // HOUR_US
        hourly, self._hour = hour != self._hour, hour
        held = sum_sensitivities(book.account, book.underlying[book.instrument], book.gain, book.margin)
        said = self.margins.forecast(held, book, values, self.markets)
        self._extended = (None, None)
        states, lost = volatility_faults(self.markets, book, values.shape[1]), self._lost(held, book, table)
        rows = margin_forecast_rows(self.margins, said, table, self._traded, hourly, states, lost)
        if hourly:
            self.margins.keep(said, as_of_us)
        records = self._records(
            measured.measures.moment, rows, self._scores() if hourly else {}, book if hourly else None
        )
        if records:
            measured = _with_records(measured, records)
        if book.losses is not None:
            measured = self._lose(measured, book.losses, minute, hourly)
        self._traded = []
        return measured

    def _with_map(self, measured: MeasuredSlice, book: ForecastInputs, table: MeasureTable) -> MeasuredSlice:
        """Return the slice with what the firm needs to know, once a minute."""
        summary, moment, tables = measured.summary, measured.measures.moment, measured.measures.tables
        if summary is None or summary.forecast is None:
            return measured
        told = msgspec.structs.replace(
            summary.forecast, liquidations=tuple(ShardLiquidationMap.of_book(book, table.values, self.markets))
        )
        seen, sensitivities = self._seen(book), Sensitivities(book, tables)
        if moment.partition == 0:
            told = msgspec.structs.replace(
                told,
                price=self.markets.prices(book),
                depth=underlying_depths(book, self.markets),
                seen=(list(seen.spread.values()), seen.rho, seen.cold),
            )
        if self._limits.others:
            found = {kind: sensitivities.wide(kind) for kind in sorted(self._limits.others)}
            told = msgspec.structs.replace(told, sensitivities=found)
        measured = measured._replace(summary=msgspec.structs.replace(summary, forecast=told))
        if not self._limits:
            return measured
        self._extended = (None, None)
        return self._also(measured, self._limits.forecast(sensitivities.gap, tables, seen, moment.as_of_us))

    def _seen(self, book: ForecastInputs) -> UnderlyingForecasts:
        """Return what forecasts of limits need of markets."""
        by_underlying, states = self.markets.of_underlyings(book), self.markets.states()
        spread = {horizon: underlying_deviations(self.markets, by_underlying, horizon) for horizon in HORIZONS_S}
        cold = (
            (by_underlying < 0) | (states[np.maximum(by_underlying, 0)] == 0)
            if len(by_underlying)
            else np.zeros(0, dtype=bool)
        )
        return UnderlyingForecasts(spread, self.markets.rho_of(by_underlying), cold)

    def _lost(self, held: SensitivityRows, book: ForecastInputs, table: MeasureTable) -> F8:
        """Return what closing out each account would cost us, once it has come to its hard level."""
        by_underlying = self.markets.of_underlyings(book)
        volatility, rho = (
            underlying_deviations(self.markets, by_underlying, CLOSING_S),
            self.markets.rho_of(by_underlying),
        )
        at_level, depths = self.margins.at_hard(table), underlying_depths(book, self.markets)
        return loss_given_breach(held, table.values[EQUITY], at_level, book.owned, depths, volatility, rho)

    def _with_probabilities(self, tables: dict[str, MeasureTable], table: MeasureTable) -> dict[str, MeasureTable]:
        """Return the tables with the probabilities among the measures; one set of tables until one changes."""
        if self._extended[0] is not table.values:
            tables = {**tables, "account": widen_table(table, PROBABILITIES, self.margins.measured)}
            for kind in ("netting_set", "counterparty"):
                found = self._limits.probabilities(kind, tables[kind].values.shape[1])
                tables[kind] = widen_table(tables[kind], PROBABILITIES, found)
            self._extended = table.values, tables
        extended: dict[str, MeasureTable] = self._extended[1]
        return extended

    # --- losses -----------------------------------------------------------------------------------------------------

    def _lose(self, measured: MeasuredSlice, book: LossBook, minute: bool, hourly: bool) -> MeasuredSlice:
        """Measure what counterparties and the whole book may lose; return the slice with what is to be written."""
        history, traded = self.markets.history, np.array(self._traded, dtype=np.int64)
        assert history is not None
        as_of_us = measured.measures.moment.as_of_us
        due, found = self._losses.update(book, self.markets, history, traded, as_of_us, minute)
        self._losing = (None, None)
        if measured.summary is not None:
            measured = measured._replace(summary=msgspec.structs.replace(measured.summary, losses=found))
        everyone = np.arange(len(book.names))
        rows = self._losses.rows(book, everyone if hourly else due, hourly)
        return self._also(measured, [], rows)

    def _also(
        self, measured: MeasuredSlice, forecasts: list[dict[str, Any]], losses: list[dict[str, Any]] | None = None
    ) -> MeasuredSlice:
        """Return the slice with further records of forecasts or losses, behind those that it has."""
        moment = measured.measures.moment
        head = {"shard": moment.partition, "seq": moment.seq, "as_of_us": moment.as_of_us, "forecasts": []}
        name, rows = ("forecasts", forecasts) if losses is None else ("losses", losses)
        records = list(measured.outputs.records.get("forecasts", []))
        for first in range(0, len(rows), ROWS_MAX):
            value = orjson.dumps({**head, name: rows[first : first + ROWS_MAX]})
            records.append(self.numbering.record("forecasts", moment.seq, len(records), moment.key, value))
        return _with_records(measured, records) if rows else measured

    def _with_losses(self, tables: dict[str, MeasureTable]) -> dict[str, MeasureTable]:
        """Return the tables with the losses among the measures of counterparties; one set until one changes."""
        table = tables["counterparty"]
        if self._losing[0] is not table.values:
            self._losses.grow(table.values.shape[1])
            own = self._losses.values[:, : table.values.shape[1]]
            self._losing = table.values, {**tables, "counterparty": widen_table(table, LOSSES, own)}
        found: dict[str, MeasureTable] = self._losing[1]
        return found

    # --- records ----------------------------------------------------------------------------------------------------

    def _scores(self) -> dict[str, Any]:
        """Return how good forecasts have been, as it is published."""
        rows = self.margins.scores() + self._limits.scores()
        return {"scores": rows, "quantiles": [one.row(horizon) for horizon, one in self.markets.scores.items()]}

    def _records(
        self, moment: Moment, rows: list[dict[str, Any]], scores: dict[str, Any], book: ForecastInputs | None
    ) -> list[Record]:
        """Return the records of a slice: rows in parts, the scores and volatilities of an hour with the first."""
        if not rows and not scores:
            return []
        head = {"shard": moment.partition, "seq": moment.seq, "as_of_us": moment.as_of_us}
        if book is not None and moment.partition == 0:
            scores = {**scores, "volatility": self.markets.rows(book)}
        records: list[Record] = []
        for first in range(0, max(len(rows), 1), ROWS_MAX):
            value = {**head, "forecasts": rows[first : first + ROWS_MAX], **(scores if first == 0 else {})}
            at = len(records)
            records.append(self.numbering.record("forecasts", moment.seq, at, moment.key, orjson.dumps(value)))
        return records

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        used = self.enabled or self._hour >= 0  # where nothing is forecast a snapshot costs nothing
        state = {
            "partition": self.numbering.partition,
            "counts": dict(self.numbering.counts),
            "flags": [self.enabled, self._named, self._hour],
            "markets": self.markets.snapshot() if used else [],
            "margins": self.margins.snapshot(used),
            "fills": [self._filled, self._traded],
            "limits": self._limits.snapshot(),
            "losses": self._losses.snapshot() if self.markets.history is not None else None,
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "ForecastState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["partition"])
        self.numbering.counts = state["counts"]
        self.enabled, self._named, self._hour = state["flags"]
        if state["markets"]:
            self.markets.restore(state["markets"])
        self.margins.restore(state["margins"])
        self._filled, self._traded = state["fills"]
        self._limits.restore(state["limits"])
        if state["losses"] is not None:
            self._losses.restore(state["losses"])
        return self


def _with_records(measured: MeasuredSlice, records: list[Record]) -> MeasuredSlice:
    outputs = measured.outputs
    return measured._replace(outputs=outputs._replace(records={**outputs.records, "forecasts": records}))
