"""Loss forecasts of the counterparties of one shard, and of the firm as the sum of the shards' profits by scenario."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base import LossBook, ShardLosses, ordered_sums
from seawall.operators.core.forecasts._markets import MarketForecasts
from seawall.operators.core.forecasts._price_history import SCENARIOS, ReturnHistory
from seawall.operators.core.forecasts._scenarios import (
    ScenarioInputs,
    capture_inputs,
    expected_shortfall,
    scenario_gains,
    scenario_profits,
    value_at_risk,
    warming_factors,
    worst_scenario,
)
from seawall.schemas.configuration import STANDARD_SCENARIOS, scenarios_of
from seawall.schemas.measures import LOSSES

# Loss measures of the counterparties of one shard, and what the firm's are added up from.
#
# Procedure, at the end of a second
# ---------------------------------
# 1. Once a minute of event time, and when something new is held, the scenarios are taken anew (`scenario_gains`).
# 2. Counterparties that traded are measured again; the others once a minute, the longest waiting first. At most
#    :data:`ROWS_MAX` rows of the book are revalued in one second: a large book's minute is spread over its seconds.
# 3. The profits of the whole book in every scenario go to the firm, which adds up shards: losses do not add,
#    profits in one scenario do.
#
# States: ``unpriced`` where something held has no price and so counts for nothing, or an option has no volatility or no
# forward; ``warming`` where something held follows an instrument with too few hours of its own; else ``ready``.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
MINUTE_US: Final = 60_000_000
ROWS_MAX: Final = 8_000
LOSS_CHANGE_MIN: Final = 0.05  # of what was written last, or of 1 where that is more
LOSS_STATES: Final = ("ready", "warming", "unpriced")
READY, WARMING, UNPRICED = range(3)


def loss_measures(gained: F8) -> tuple[F8, I8]:
    """Return the measures ``LOSSES`` of profits in all scenarios, shape (measures, scopes), and the worst in stress."""
    hour, day, stress = gained[:, :SCENARIOS], gained[:, SCENARIOS : 2 * SCENARIOS], gained[:, 2 * SCENARIOS :]
    worst, at = worst_scenario(stress)
    tails = [tail(part) for part in (day, hour) for tail in (value_at_risk, expected_shortfall)]
    return np.stack([*tails, worst]), at


def loss_row(scope: str, state: int, measures: list[float], worst: str) -> dict[str, Any]:
    """Return what is published of one scope."""
    return {"scope": scope, "state": LOSS_STATES[state], **dict(zip(LOSSES, measures, strict=True)), "worst": worst}


class LossForecasts:
    """The losses of one shard's counterparties, by number: ``values`` has shape (``LOSSES``, counterparties)."""

    def __init__(self) -> None:
        self.stress = STANDARD_SCENARIOS
        self.values: F8 = np.zeros((len(LOSSES), 0))
        self._written: F8 = np.full((len(LOSSES), 0), np.nan)
        self._about: I8 = np.zeros((3, 0), dtype=np.int64)  # when measured, 0: due at once; state; worst scenario
        self._inputs: ScenarioInputs | None = None
        self._moves: F8 = np.zeros((0, 0))
        self._cold: B1 = np.zeros(0, dtype=bool)

    def configure(self, stress: list[dict[str, Any]]) -> None:
        """Take the stress scenarios."""
        if stress != self.stress:
            self.stress, self._inputs = stress, None
            self._about[0] = 0

    def update(
        self, book: LossBook, markets: MarketForecasts, history: ReturnHistory, traded: I8, as_of_us: int, minute: bool
    ) -> tuple[I8, ShardLosses]:
        """Measure what is due; return the counterparties that were, and what the firm is told."""
        self.grow(len(book.names))
        if self._inputs is None or minute or self._news(book):
            self._inputs = capture_inputs(book, markets, self.stress)
            self._derive(history)
        elif not len(self._moves):
            self._derive(history)
        self._about[0, book.party_of[traded]] = 0
        due = self._due(book, as_of_us)
        self._measure(book, due, as_of_us)
        return due, ShardLosses(self._whole(book), self._worst_state(book))

    def rows(self, book: LossBook, at: I8, everything: bool) -> list[dict[str, Any]]:
        """Return what is to be written of the counterparties ``at``: all, or what moved; take it as written."""
        now, last = self.values[:, at], self._written[:, at]
        moved = np.isnan(last) | (np.abs(now - last) > LOSS_CHANGE_MIN * np.maximum(np.abs(last), 1.0))
        chosen = at[everything | moved.any(axis=0)]
        self._written[:, chosen] = self.values[:, chosen]
        return [
            loss_row(
                f"counterparty:{book.names[one]}",
                self._about.item(1, one),
                self.values[:, one].tolist(),
                self.stress[self._about.item(2, one)]["name"],
            )
            for one in chosen.tolist()
        ]

    def grow(self, count: int) -> None:
        """Make room for counterparties."""
        more = count - self.values.shape[1]
        if more > 0:
            self.values = np.concatenate([self.values, np.zeros((len(LOSSES), more))], axis=1)
            self._written = np.concatenate([self._written, np.full((len(LOSSES), more), np.nan)], axis=1)
            self._about = np.concatenate([self._about, np.zeros((3, more), dtype=np.int64)], axis=1)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _news(self, book: LossBook) -> bool:
        """Tell whether anything is held that no scenario is known of."""
        assert self._inputs is not None
        known = np.zeros(len(book.factors.kind), dtype=bool)
        inside = self._inputs["factor"]
        if len(inside) and inside.item(-1) >= len(known):
            return True
        known[inside] = True
        return not known[book.factor].all()

    def _derive(self, history: ReturnHistory) -> None:
        """Compute what follows from the inputs."""
        assert self._inputs is not None
        self._moves, self._cold = scenario_gains(self._inputs, history), warming_factors(self._inputs, history)

    def _due(self, book: LossBook, as_of_us: int) -> I8:
        """Return who is measured now, longest waiting first: those that traded, then those of a minute ago."""
        since = self._about[0]
        order = np.argsort(since, kind="stable")
        order = order[since[order] <= as_of_us - MINUTE_US]
        size = np.bincount(book.party, minlength=len(since))[order]
        within = size.cumsum() - size < ROWS_MAX
        return np.asarray(order[within])

    def _measure(self, book: LossBook, due: I8, as_of_us: int) -> None:
        wanted = np.zeros(self.values.shape[1], dtype=bool)
        wanted[due] = True
        at = wanted[book.party].nonzero()[0]
        place = wanted.cumsum() - 1
        parties = wanted.nonzero()[0]
        factor = self._place(book)[book.factor[at]]
        of = place[book.party[at]]
        gained = scenario_profits(of, factor, book.amount[at], self._moves, len(parties))
        values, worst = loss_measures(gained)
        self.values[:, parties] = values
        warming = np.bincount(of, self._cold[factor], len(parties)) > 0
        self._about[0, parties] = as_of_us
        self._about[1, parties] = np.where(book.unpriced[parties], UNPRICED, np.where(warming, WARMING, READY))
        self._about[2, parties] = worst

    def _place(self, book: LossBook) -> I8:
        """Return the row of each factor among the captured ones."""
        assert self._inputs is not None
        place = np.zeros(len(book.factors.kind), dtype=np.int64)
        place[self._inputs["factor"]] = np.arange(len(self._inputs["factor"]))
        return place

    def _whole(self, book: LossBook) -> F8:
        """Return the profit of the whole book in every scenario."""
        assert self._inputs is not None
        amount = np.bincount(book.factor, book.amount, len(book.factors.kind))[self._inputs["factor"]]
        if not len(amount):
            return np.zeros(2 * SCENARIOS + len(self.stress))
        return ordered_sums((amount[:, None] * self._moves).T)

    def _worst_state(self, book: LossBook) -> int:
        if book.unpriced.any():
            return UNPRICED
        return WARMING if bool(self._cold[self._place(book)[book.factor]].any()) else READY

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        rows = [self.values.copy(), self._written.copy(), self._about.copy()]
        return {"rows": rows, "inputs": self._inputs, "stress": self.stress}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.values, self._written, self._about = state["rows"]
        self._inputs, self.stress = state["inputs"], state["stress"]
        self._moves = np.zeros((0, 0))


# Losses of the firm: profits of all shards' books in the same scenarios, added up in order of shard.
#
# Every shard hears all marks, so all have the same scenarios in the same order, and profits add where losses do not.

HOUR_US: Final = 3_600_000_000


class FirmLosses:
    """The measures ``LOSSES`` of the firm: ``values``, as the last second had them."""

    def __init__(self) -> None:
        self.enabled = False
        self.values: F8 = np.zeros(len(LOSSES))
        self._stress = STANDARD_SCENARIOS
        self._written: F8 = np.full(len(LOSSES), np.nan)
        self._hour = -1

    def configure(self, section: dict[str, Any]) -> None:
        """Take whether losses are measured, and the stress scenarios."""
        self.enabled = bool(section.get("enabled") and section.get("losses"))
        self._stress = scenarios_of(section)

    def update(self, parts: list[ShardLosses], as_of_us: int) -> dict[str, Any] | None:
        """Take what the shards tell at the end of a second; return what is to be written, once an hour in any case."""
        total = np.zeros(len(parts[0].profits))
        for part in parts:
            total += part.profits
        values, worst = loss_measures(total[None])
        self.values = values[:, 0]
        hour, last = as_of_us // HOUR_US, self._written
        moved = np.isnan(last) | (np.abs(self.values - last) > LOSS_CHANGE_MIN * np.maximum(np.abs(last), 1.0))
        if hour == self._hour and not moved.any():
            return None
        self._hour, self._written = hour, self.values
        state = max(part.state for part in parts)
        return loss_row("firm", state, self.values.tolist(), self._stress[worst.item(0)]["name"])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        rows = [self.values.copy(), self._written.copy()]
        return {"enabled": self.enabled, "rows": rows, "hour": self._hour, "stress": self._stress}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.enabled, self._hour, self._stress = state["enabled"], state["hour"], state["stress"]
        self.values, self._written = state["rows"]
