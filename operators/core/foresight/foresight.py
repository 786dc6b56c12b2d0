"""Foresight of one shard: which account will cross its margin level within each horizon, how likely, and why.

Procedure
---------
1. Every slice: forecasts whose horizon is past are scored and learned from; then accounts that have just come to a
   level are noted. In that order, so that no forecast is scored with what came after its horizon.
2. Every second: marks are sampled; once a minute of event time volatilities and the habits of accounts move.
3. Every second: all accounts with a margin are forecast at once, for every level and horizon. Those that traded, or
   are in danger, and moved, are written.
4. Every hour: all are written, with the figures of how good forecasts have been, and a bounded number of them is kept
   to learn from.
5. Every minute: the liquidation map of the shard's books goes to the second operator (``wide``), from shard 0 with what
   all shards know of markets.

Which levels, what is said of them and what learned is in ``margins``, what is written in ``margin_rows``; limits may be
on ``breach_probability_1h`` and ``breach_probability_24h`` of an account.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.foresight.cascades import depths_of, shard_map
from seawall.operators.core.foresight.closeout import CLOSING_S, loss_given_breach
from seawall.operators.core.foresight.history import History
from seawall.operators.core.foresight.leanings import Leanings
from seawall.operators.core.foresight.limit_courses import Seen
from seawall.operators.core.foresight.limit_forecasts import LimitForecasts
from seawall.operators.core.foresight.loss_forecasts import LossForecasts
from seawall.operators.core.foresight.margin_rows import rows_of, states_of
from seawall.operators.core.foresight.margins import EQUITY, HOUR_US, RATIO, MarginForecasts
from seawall.operators.core.foresight.markets import HORIZONS_S, Markets, spread_of
from seawall.operators.core.foresight.passage import Exposed, paired
from seawall.operators.core.frames import Frame, Holdings, LossBook, Table, widened
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.measures import LOSSES, PROBABILITIES, SHARD_SCOPES
from seawall.schemas.records import Record
from seawall.schemas.stress import scenarios_of

F8 = NDArray[np.float64]
SCHEMA: Final = "foresight/2"
ROWS_MAX: Final = 1000


class ForesightState:
    """The forecasts of one shard: ``step(frame) -> frame``.

    Parameters
    ----------
    partition
        The shard, also the partition of its records. Whether forecasts are made comes with the configuration.
    """

    def __init__(self, partition: int) -> None:
        self.numbering = Numbering(partition)
        self._enabled = self._named = False
        self.markets, self.margins = Markets(), MarginForecasts()
        self._filled: list[int] = []  # since the last minute
        self._traded: list[int] = []  # since the last second
        self._hour = -1
        self._extended: tuple[Any, Any] = (None, None)
        self._losses = LossForecasts()
        self._limits = LimitForecasts(SHARD_SCOPES)
        self._losing: tuple[Any, Any] = (None, None)  # as _extended, of counterparties

    def step(self, frame: Frame) -> Frame:
        """Forecast on one frame."""
        if frame.configuration is not None:
            self._configure(frame.configuration)
        if frame.limit_documents:
            self._limits.apply(frame.limit_documents, frame.as_of_us)
        if not self._enabled:
            return frame
        if frame.activity is not None and len(frame.activity.filled):
            self._traded += frame.activity.filled.tolist()
        if not frame.decides:
            return frame
        table = frame.tables["account"]
        standing = self._limits.look(frame.as_of_us)
        if standing is not None:
            self.margins.configure(standing)
            self._extended = (None, None)  # who stands at a level is noted anew, with or without a snapshot in between
        self._settle(table, frame.as_of_us)
        self._limits.settle(frame.tables, frame.as_of_us)
        if frame.holdings is not None:
            frame = self._tell(self._foresee(frame, frame.holdings, table), frame.holdings, table)
        if self.markets.history is not None:
            frame = self._with_losses(frame)
        return self._with_measures(frame, table) if self._named else frame

    def _configure(self, configuration: dict[str, Any]) -> None:
        section = configuration.get("forecasts", {})
        self._enabled = bool(section.get("enabled"))
        self._losses.configure(scenarios_of(section))
        if self._enabled and section.get("losses"):
            self.markets.history = self.markets.history or History()
        else:
            self.markets.history = None
        limits = configuration["limits"]
        self._limits.configure(limits)
        self._named = bool(limits.get("documents")) or any(one["measure"] in PROBABILITIES for one in limits["limits"])

    def _settle(self, table: Table, as_of_us: int) -> None:
        """Score what is due, then note who came to a level."""
        self.margins.grow(table.values.shape[1])
        self.margins.resolve(as_of_us)
        if table.values is not self._extended[0]:
            self.margins.note(table.values[RATIO], as_of_us)

    # --- forecasts --------------------------------------------------------------------------------------------------

    def _foresee(self, frame: Frame, book: Holdings, table: Table) -> Frame:
        values = table.values
        self._filled += self._traded
        minute = self.markets.sample(book, frame.as_of_us)
        if minute:
            self.margins.look(frame.as_of_us, values, book, self._filled)
            self._filled = []
        hour = frame.as_of_us // HOUR_US
        hourly, self._hour = hour != self._hour, hour
        held = paired(book.account, book.underlying[book.instrument], book.gain, book.margin)
        said = self.margins.forecast(held, book, values, self.markets)
        self._extended = (None, None)
        states, lost = states_of(self.markets, book, values.shape[1]), self._lost(held, book, table)
        rows = rows_of(self.margins, said, table, self._traded, hourly, states, lost)
        if hourly:
            self.margins.keep(said, frame.as_of_us)
        frame = self._record(frame, rows, self._scores() if hourly else {}, book if hourly else None)
        if book.losses is not None:
            frame = self._lose(frame, book.losses, minute, hourly)
        self._traded = []
        return frame

    def _tell(self, frame: Frame, book: Holdings, table: Table) -> Frame:
        """Return the frame with what the second operator needs to know, once a minute."""
        if frame.partial is None or "foreseen" not in frame.partial:
            return frame
        told = {**frame.partial["foreseen"], "map": list(shard_map(book, table.values, self.markets))}
        seen, leanings = self._seen(book), Leanings(book, frame.tables)
        if frame.partition == 0:
            told |= {"price": self.markets.prices(book), "depth": depths_of(book, self.markets)}
            told["seen"] = [list(seen.spread.values()), seen.rho, seen.cold]
        if self._limits.others:
            told["leanings"] = {kind: leanings.wide(kind) for kind in sorted(self._limits.others)}
        frame = replace(frame, partial={**frame.partial, "foreseen": told})
        if not self._limits:
            return frame
        self._extended = (None, None)
        return self._also(frame, self._limits.forecast(leanings.gap, frame.tables, seen, frame.as_of_us))

    def _seen(self, book: Holdings) -> Seen:
        """Return what forecasts of limits need of markets."""
        stands, states = self.markets.of_underlyings(book), self.markets.states()
        spread = {horizon: spread_of(self.markets, stands, horizon) for horizon in HORIZONS_S}
        cold = (stands < 0) | (states[np.maximum(stands, 0)] == 0) if len(stands) else np.zeros(0, dtype=bool)
        return Seen(spread, self.markets.rho_of(stands), cold)

    def _lost(self, held: Exposed, book: Holdings, table: Table) -> F8:
        """Return what closing out each account would cost us, once it has come to its hard level."""
        stands = self.markets.of_underlyings(book)
        volatility, rho = spread_of(self.markets, stands, CLOSING_S), self.markets.rho_of(stands)
        at_level, depths = self.margins.at_hard(table), depths_of(book, self.markets)
        return loss_given_breach(held, table.values[EQUITY], at_level, book.owned, depths, volatility, rho)

    def _with_measures(self, frame: Frame, table: Table) -> Frame:
        """Return the frame with the probabilities among the measures; one set of tables until one changes."""
        if self._extended[0] is not table.values:
            tables = {**frame.tables, "account": widened(table, PROBABILITIES, self.margins.measured)}
            for kind in ("netting_set", "counterparty"):
                found = self._limits.probabilities(kind, tables[kind].values.shape[1])
                tables[kind] = widened(tables[kind], PROBABILITIES, found)
            self._extended = table.values, tables
        return replace(frame, tables=self._extended[1])

    # --- losses -----------------------------------------------------------------------------------------------------

    def _lose(self, frame: Frame, book: LossBook, minute: bool, hourly: bool) -> Frame:
        """Measure what counterparties and the whole book may lose; return the frame with what is to be written."""
        history, traded = self.markets.history, np.array(self._traded, dtype=np.int64)
        assert history is not None
        due, told = self._losses.update(book, self.markets, history, traded, frame.as_of_us, minute)
        self._losing = (None, None)
        partial = None if frame.partial is None else {**frame.partial, "losses": told}
        everyone = np.arange(len(book.names))
        rows = self._losses.rows(book, everyone if hourly else due, hourly)
        return self._also(replace(frame, partial=partial), [], rows)

    def _also(self, frame: Frame, forecasts: list[dict[str, Any]], losses: list[dict[str, Any]] | None = None) -> Frame:
        """Return the frame with further records of forecasts or losses, behind those that it has."""
        head = {"shard": frame.partition, "seq": frame.seq, "as_of_us": frame.as_of_us, "forecasts": []}
        name, rows = ("forecasts", forecasts) if losses is None else ("losses", losses)
        records = list(frame.records.get("forecasts", []))
        for first in range(0, len(rows), ROWS_MAX):
            value = orjson.dumps({**head, name: rows[first : first + ROWS_MAX]})
            records.append(self.numbering.record("forecasts", frame.seq, len(records), frame.key, value))
        return replace(frame, records={**frame.records, "forecasts": records}) if rows else frame

    def _with_losses(self, frame: Frame) -> Frame:
        """Return the frame with the losses among the measures of counterparties; one table until one changes."""
        table = frame.tables["counterparty"]
        if self._losing[0] is not table.values:
            self._losses.grow(table.values.shape[1])
            own = self._losses.values[:, : table.values.shape[1]]
            self._losing = table.values, {**frame.tables, "counterparty": widened(table, LOSSES, own)}
        return replace(frame, tables=self._losing[1])

    # --- records ----------------------------------------------------------------------------------------------------

    def _scores(self) -> dict[str, Any]:
        """Return how good forecasts have been, as it is published."""
        rows = self.margins.scores() + self._limits.scores()
        return {"scores": rows, "quantiles": [one.row(horizon) for horizon, one in self.markets.scores.items()]}

    def _record(self, frame: Frame, rows: list[dict[str, Any]], scores: dict[str, Any], book: Holdings | None) -> Frame:
        """Return the frame with its records: rows in parts, the scores and volatilities of an hour with the first."""
        if not rows and not scores:
            return frame
        head = {"shard": frame.partition, "seq": frame.seq, "as_of_us": frame.as_of_us}
        if book is not None and frame.partition == 0:
            scores = {**scores, "volatility": self.markets.rows(book)}
        records: list[Record] = []
        for first in range(0, max(len(rows), 1), ROWS_MAX):
            value = {**head, "forecasts": rows[first : first + ROWS_MAX], **(scores if first == 0 else {})}
            at = len(records)
            records.append(self.numbering.record("forecasts", frame.seq, at, frame.key, orjson.dumps(value)))
        return replace(frame, records={**frame.records, "forecasts": records})

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        used = self._enabled or self._hour >= 0  # where nothing is forecast a snapshot costs nothing
        state = {
            "partition": self.numbering.partition,
            "counts": dict(self.numbering.counts),
            "flags": [self._enabled, self._named, self._hour],
            "markets": self.markets.snapshot() if used else [],
            "margins": self.margins.snapshot(used),
            "fills": [self._filled, self._traded],
            "limits": self._limits.snapshot(),
            "losses": self._losses.snapshot() if self.markets.history is not None else None,
        }
        return pack(SCHEMA, state)

    @classmethod
    def restore(cls, data: bytes) -> "ForesightState":
        """Return the state of a snapshot; raises SnapshotError where it cannot be read."""
        state = unpack(SCHEMA, data)
        self = cls(state["partition"])
        self.numbering.counts = state["counts"]
        self._enabled, self._named, self._hour = state["flags"]
        if state["markets"]:
            self.markets.restore(state["markets"])
        self.margins.restore(state["margins"])
        self._filled, self._traded = state["fills"]
        self._limits.restore(state["limits"])
        if state["losses"] is not None:
            self._losses.restore(state["losses"])
        return self
