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

Levels are those of the limit on ``margin_ratio`` of all accounts, where there is one; else 1, the hard one. Limits
may be on ``breach_probability_1h`` and ``breach_probability_24h`` of an account, which are those of the hard level;
an account that is there already has 1, one without a margin 0.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from seawall.operators.core.foresight.accounts import Accounts, expected_growth, terms
from seawall.operators.core.foresight.cascades import depths_of, shard_map
from seawall.operators.core.foresight.closeout import CLOSING_S, loss_given_breach
from seawall.operators.core.foresight.history import History
from seawall.operators.core.foresight.leanings import Leanings
from seawall.operators.core.foresight.limit_forecasts import LimitForecasts, Seen
from seawall.operators.core.foresight.loss_forecasts import LossForecasts
from seawall.operators.core.foresight.markets import HORIZONS_S, STATES, Markets, spread_of
from seawall.operators.core.foresight.models import ACCOUNTS, EVERY_S, MODELS, Models, reasons, sampled
from seawall.operators.core.foresight.passage import Exposed, deviation, distance, paired
from seawall.operators.core.frames import Frame, Holdings, LossBook, Table, widened
from seawall.operators.core.rows import Numbering
from seawall.operators.core.snapshot import pack, unpack
from seawall.schemas.measures import ACCOUNT, LOSSES, PROBABILITIES, SHARD_SCOPES
from seawall.schemas.records import Record
from seawall.schemas.stress import scenarios_of

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
SCHEMA: Final = "foresight/2"
LEVELS: Final = ("soft", "hard")
EQUITY, GROSS, MAINTENANCE, RATIO = (
    ACCOUNT.index(name) for name in ("equity", "gross_notional", "maintenance_margin", "margin_ratio")
)
MEASURED_S: Final = (3600, 86_400)  # of PROBABILITIES
HOUR_US: Final = int(EVERY_S) * 1_000_000
ENDANGERED: Final = 0.01  # probability within a day from which an account is written whenever it moves
MOVED: Final = 0.05  # of what was written last: what stands on the topic is what is believed
SHORT_MIN: Final = 0.001  # horizons below an hour are written from here on
ROWS_MAX: Final = 1000
NO_ACCOUNTS: I8 = np.zeros(0, dtype=np.int64)


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
        self._bounds: dict[str, float] = {"hard": 1.0}
        self.markets, self._accounts = Markets(), Accounts()
        self._models = {(level, horizon): Models(horizon) for level in LEVELS for horizon in HORIZONS_S}
        self._crossed: F8 = np.zeros((len(LEVELS), 0))  # when each account last came to each level
        self._standing: F8 = np.zeros((len(LEVELS), 0))  # 1 where it stands there
        self._measured: F8 = np.zeros((len(PROBABILITIES), 0))
        self._written: F8 = np.zeros(0)  # the probability that was written last, by account; -1: none
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
        self._grow(table.values.shape[1])
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
        for limit in limits["limits"]:
            if limit["scope"] == "account:*" and limit["measure"] == "margin_ratio" and limit["direction"] == "above":
                self._bounds = {level: float(limit[level]) for level in LEVELS if level in limit} or {"hard": 1.0}
                return
        self._bounds = {"hard": 1.0}

    def _grow(self, count: int) -> None:
        more = count - len(self._written)
        if more > 0:
            self._crossed, self._standing, self._measured = (
                np.concatenate([rows, np.zeros((len(rows), more))], axis=1)
                for rows in (self._crossed, self._standing, self._measured)
            )
            self._written = np.append(self._written, np.full(more, -1.0))
            self._accounts.grow(count)

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def _settle(self, table: Table, as_of_us: int) -> None:
        """Score what is due, then note who came to a level."""
        for (level, _), models in self._models.items():
            models.resolve(as_of_us, self._crossed[LEVELS.index(level)])
        if table.values is self._extended[0]:
            return
        ratio = table.values[RATIO]
        for at, level in enumerate(LEVELS):
            there = ratio >= self._bounds.get(level, np.inf)
            came = (there & (self._standing[at] == 0.0)).nonzero()[0]
            self._standing[at] = there
            self._crossed[at, came] = as_of_us
            if not len(came):
                continue
            for horizon in HORIZONS_S:
                self._models[level, horizon].record.broke(came)
            if level == "hard":
                self._accounts.broke(came)

    # --- forecasts --------------------------------------------------------------------------------------------------

    def _foresee(self, frame: Frame, book: Holdings, table: Table) -> Frame:
        values = table.values
        self._filled += self._traded
        minute = self.markets.sample(book, frame.as_of_us)
        if minute:
            filled = np.array(self._filled, dtype=np.int64)
            ratio = np.minimum(values[RATIO], 1.0)
            self._accounts.look(frame.as_of_us, values[GROSS], ratio, book.contributed, filled)
            self._filled = []
        self._grow(values.shape[1])
        hour = frame.as_of_us // HOUR_US
        hourly, self._hour = hour != self._hour, hour
        held = paired(book.account, book.underlying[book.instrument], book.gain, book.margin)
        said = self._forecast(held, book, values)
        self._measure(said, values)
        rows = self._rows(said, book, table, hourly, self._lost(held, book, values))
        if hourly:
            self._keep(said, frame.as_of_us)
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

    def _lost(self, held: Exposed, book: Holdings, values: F8) -> F8:
        """Return what closing out each account would cost us, once it has come to its hard level."""
        stands = self.markets.of_underlyings(book)
        volatility, rho = spread_of(self.markets, stands, CLOSING_S), self.markets.rho_of(stands)
        at_level = values[MAINTENANCE] / self._bounds.get("hard", 1.0)
        return loss_given_breach(
            held, values[EQUITY], at_level, book.owned, depths_of(book, self.markets), volatility, rho
        )

    def _forecast(self, held: Exposed, book: Holdings, values: F8) -> dict[tuple[str, int], tuple[I8, F8, F8]]:
        """Return by level and horizon: the accounts concerned, their terms, and what every model says."""
        count, habits = values.shape[1], self._accounts.habits()
        stands = self.markets.of_underlyings(book)
        rho = self.markets.rho_of(stands)
        focus = _concentration(held, count)
        found = {}
        for level, bound in self._bounds.items():
            active = ((values[MAINTENANCE] > 0) & (values[RATIO] < bound)).nonzero()[0]
            health = (bound * values[EQUITY] - values[MAINTENANCE])[active]
            for horizon in HORIZONS_S:
                spread = deviation(held, bound, spread_of(self.markets, stands, horizon), rho, count)[active]
                growth = expected_growth(values[GROSS], habits.gross_square, horizon)[active]
                near = distance(health, spread * growth)
                usual = type(habits)(*(row[active] for row in habits))
                about = terms(near, values[RATIO][active], focus[active], values[EQUITY][active], usual)
                found[level, horizon] = active, about, self._models[level, horizon].forecast(about, active)
        return found

    def _measure(self, said: dict[tuple[str, int], tuple[I8, F8, F8]], values: F8) -> None:
        """Take the probabilities that limits may be on."""
        hard = "hard" if "hard" in self._bounds else next(iter(self._bounds))
        for at, horizon in enumerate(MEASURED_S):
            active, _, models = said[hard, horizon]
            measured = self._measured[at]
            measured[:] = values[RATIO] >= self._bounds[hard]
            measured[active] = models[self._models[hard, horizon].scores.champion]
        self._extended = (None, None)

    def _with_measures(self, frame: Frame, table: Table) -> Frame:
        """Return the frame with the probabilities among the measures; one set of tables until one changes."""
        if self._extended[0] is not table.values:
            tables = {**frame.tables, "account": widened(table, PROBABILITIES, self._measured)}
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

    # --- learning ---------------------------------------------------------------------------------------------------

    def _keep(self, said: dict[tuple[str, int], tuple[I8, F8, F8]], as_of_us: int) -> None:
        """Keep forecasts to learn from: all, or the most endangered half of a bounded number and some of the others."""
        for (level, horizon), (active, about, models) in said.items():
            chosen, weights = sampled(models[-1])
            self._models[level, horizon].expect(active, models, as_of_us)
            self._models[level, horizon].wait(active[chosen], as_of_us, about[:, chosen], models[:, chosen], weights)

    def _scores(self) -> dict[str, Any]:
        """Return how good forecasts have been, as it is published."""
        own = [(level, models) for (level, _), models in self._models.items() if level in self._bounds]
        rows = [models.row("margin_ratio", level) for level, models in own] + self._limits.scores()
        return {"scores": rows, "quantiles": [one.row(horizon) for horizon, one in self.markets.scores.items()]}

    # --- records ----------------------------------------------------------------------------------------------------

    def _rows(
        self, said: dict[tuple[str, int], tuple[I8, F8, F8]], book: Holdings, table: Table, hourly: bool, lost: F8
    ) -> list[dict[str, Any]]:
        """Return what is to be written of accounts, in order of number."""
        now = self._measured[-1]
        has = table.values[MAINTENANCE] > 0
        touched = np.zeros(len(now), dtype=bool)
        touched[self._traded] = True
        last = np.maximum(self._written, 0.0)
        moved = (np.abs(now - last) > MOVED * np.maximum(last, SHORT_MIN)) | (self._written < 0)
        wanted = has & (hourly | (moved & (touched | (now >= ENDANGERED) | (last >= ENDANGERED))))
        emptied = ~has & (self._written > 0)
        self._written[wanted], self._written[emptied] = now[wanted], -1.0
        rows = [self._flat(table.names[account]) for account in emptied.nonzero()[0].tolist()]
        states = self._states(book, len(now))
        for (level, horizon), (active, about, models) in said.items():
            chosen = wanted[active].nonzero()[0]
            found = active[chosen], about[:, chosen], models[:, chosen]
            rows += self._level_rows(table, level, horizon, *found, states, lost)
        return rows

    def _level_rows(
        self, table: Table, level: str, horizon: int, accounts: I8, about: F8, models: F8, states: list[str], lost: F8
    ) -> list[dict[str, Any]]:
        own = self._models[level, horizon]
        added, champion = own.contributions(about, accounts), own.scores.champion
        rows = []
        for place, account in enumerate(accounts.tolist()):
            probability = models.item(champion, place)
            if horizon < EVERY_S and probability < SHORT_MIN:
                continue
            row: dict[str, Any] = {
                "scope": f"account:{table.names[account]}",
                "measure": "margin_ratio",
                "level": level,
            }
            row |= {"horizon_s": horizon, "probability": probability, "state": states[account] or own.state}
            row |= {"model": MODELS[champion], "contributions": reasons(ACCOUNTS, added[:, place].tolist())}
            if level == "hard":
                row["loss_given_breach"] = lost.item(account)
            rows.append(row)
        return rows

    def _flat(self, name: str) -> dict[str, Any]:
        head = {"scope": f"account:{name}", "measure": "margin_ratio", "level": "hard", "horizon_s": MEASURED_S[-1]}
        return {**head, "probability": 0.0, "state": "flat"}

    def _states(self, book: Holdings, count: int) -> list[str]:
        """Return what is wrong with each account's volatilities, empty where nothing is."""
        state = self.markets.states()[book.instrument] if len(book.instrument) else NO_ACCOUNTS
        held = np.abs(book.gain)
        unknown = np.bincount(book.account, held * (state == 0), count) > 0
        still = np.bincount(book.account, held * (state == 2), count) == 0
        names = np.where(unknown, "no_volatility", np.where(still, STATES[1], ""))
        return [str(name) for name in names.tolist()]

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
        models = [[level, horizon, one.snapshot()] for (level, horizon), one in self._models.items()] if used else []
        state = {
            "partition": self.numbering.partition,
            "counts": dict(self.numbering.counts),
            "flags": [self._enabled, self._named, self._hour],
            "bounds": self._bounds,
            "markets": self.markets.snapshot() if used else [],
            "accounts": self._accounts.snapshot() if used else [],
            "models": models,
            "rows": [self._crossed.copy(), self._standing.copy(), self._measured.copy(), self._written.copy()],
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
        self._bounds = state["bounds"]
        if state["models"]:
            self.markets.restore(state["markets"])
            self._accounts.restore(state["accounts"])
            for level, horizon, one in state["models"]:
                self._models[level, horizon].restore(one)
        self._crossed, self._standing, self._measured, self._written = state["rows"]
        self._filled, self._traded = state["fills"]
        self._limits.restore(state["limits"])
        if state["losses"] is not None:
            self._losses.restore(state["losses"])
        return self


def _concentration(held: Exposed, count: int) -> F8:
    """Return the Herfindahl index of each account's exposures, 1 for a single one."""
    size = np.abs(held.gain)
    total = np.bincount(held.account, size, count)
    squares = np.bincount(held.account, size * size, count)
    return np.where(total > 0, squares / np.where(total > 0, total * total, 1.0), 1.0)
