"""How likely each account comes to its margin level within each horizon: what is said, scored, learned and measured.

Levels are those of the limit in force on ``margin_ratio`` of all accounts, where there is one; else 1, the hard one.
The measures are those of the hard level; an account that is there already has 1, one without a margin 0.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.accounts import Accounts, expected_growth, terms
from seawall.operators.core.foresight.markets import HORIZONS_S, Markets, spread_of
from seawall.operators.core.foresight.models import EVERY_S, Models, sampled
from seawall.operators.core.foresight.passage import Exposed, deviation, distance
from seawall.operators.core.frames import Holdings, Table
from seawall.schemas.measures import ACCOUNT, PROBABILITIES

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Said = dict[tuple[str, int], tuple[I8, F8, F8]]  # by level and horizon: accounts, terms, what every model says
LEVELS: Final = ("soft", "hard")
EQUITY, GROSS, MAINTENANCE, RATIO = (
    ACCOUNT.index(name) for name in ("equity", "gross_notional", "maintenance_margin", "margin_ratio")
)
MEASURED_S: Final = (3600, 86_400)  # of PROBABILITIES
HOUR_US: Final = int(EVERY_S) * 1_000_000


class MarginForecasts:
    """The forecasts of the margin levels of one shard's accounts, by number.

    ``measured`` has shape (``PROBABILITIES``, accounts); ``written`` is the probability within a day that was written
    last, -1 for none; ``crossed``, of shape (``LEVELS``, accounts), when each last came to each level.
    """

    def __init__(self) -> None:
        self.bounds: dict[str, float] = {"hard": 1.0}
        self.models = {(level, horizon): Models(horizon) for level in LEVELS for horizon in HORIZONS_S}
        self.measured: F8 = np.zeros((len(PROBABILITIES), 0))
        self.written: F8 = np.zeros(0)
        self._accounts = Accounts()
        self.crossed: F8 = np.zeros((len(LEVELS), 0))
        self._standing: F8 = np.zeros((len(LEVELS), 0))  # 1 where it stands there

    def configure(self, limits: list[dict[str, Any]]) -> None:
        """Take the levels from the limits in force."""
        self.bounds = {"hard": 1.0}
        for limit in limits:
            named = (limit["scope"], limit["measure"], limit["direction"])
            if named == ("account:*", "margin_ratio", "above") and "window_s" not in limit:  # no limit on its speed
                self.bounds = {level: float(limit[level]) for level in LEVELS if level in limit} or {"hard": 1.0}
                return

    def grow(self, count: int) -> None:
        """Make room for accounts."""
        more = count - len(self.written)
        if more > 0:
            self.crossed, self._standing, self.measured = (
                np.concatenate([rows, np.zeros((len(rows), more))], axis=1)
                for rows in (self.crossed, self._standing, self.measured)
            )
            self.written = np.append(self.written, np.full(more, -1.0))
            self._accounts.grow(count)

    def resolve(self, as_of_us: int) -> None:
        """Score what is due."""
        for (level, _), models in self.models.items():
            models.resolve(as_of_us, self.crossed[LEVELS.index(level)])

    def note(self, ratio: F8, as_of_us: int) -> None:
        """Note who came to a level."""
        for at, level in enumerate(LEVELS):
            there = ratio >= self.bounds.get(level, np.inf)
            came = (there & (self._standing[at] == 0.0)).nonzero()[0]
            self._standing[at] = there
            self.crossed[at, came] = as_of_us
            if not len(came):
                continue
            for horizon in HORIZONS_S:
                self.models[level, horizon].record.broke(came)
            if level == "hard":
                self._accounts.broke(came)

    def look(self, as_of_us: int, values: F8, book: Holdings, filled: list[int]) -> None:
        """Take how accounts stand and what they traded since the last minute, of which habits are made."""
        ratio = np.minimum(values[RATIO], 1.0)
        self._accounts.look(as_of_us, values[GROSS], ratio, book.contributed, np.array(filled, dtype=np.int64))

    def forecast(self, held: Exposed, book: Holdings, values: F8, markets: Markets) -> Said:
        """Forecast every account with a margin that is not at a level already, and take what limits may be on."""
        count, habits = values.shape[1], self._accounts.habits()
        stands = markets.of_underlyings(book)
        rho = markets.rho_of(stands)
        focus = _concentration(held, count)
        found = {}
        for level, bound in self.bounds.items():
            active = ((values[MAINTENANCE] > 0) & (values[RATIO] < bound)).nonzero()[0]
            health = (bound * values[EQUITY] - values[MAINTENANCE])[active]
            for horizon in HORIZONS_S:
                spread = deviation(held, bound, spread_of(markets, stands, horizon), rho, count)[active]
                growth = expected_growth(values[GROSS], habits.gross_square, horizon)[active]
                near = distance(health, spread * growth)
                usual = type(habits)(*(row[active] for row in habits))
                about = terms(near, values[RATIO][active], focus[active], values[EQUITY][active], usual)
                found[level, horizon] = active, about, self.models[level, horizon].forecast(about, active)
        self._measure(found, values)
        return found

    def keep(self, said: Said, as_of_us: int) -> None:
        """Keep forecasts to learn from: all, or the most endangered half of a bounded number and some of the others."""
        for (level, horizon), (active, about, models) in said.items():
            chosen, weights = sampled(models[-1])
            self.models[level, horizon].expect(active, models, as_of_us)
            self.models[level, horizon].wait(active[chosen], as_of_us, about[:, chosen], models[:, chosen], weights)

    def at_hard(self, table: Table) -> F8:
        """Return each account's equity at its hard level."""
        return np.asarray(table.values[MAINTENANCE] / self.bounds.get("hard", 1.0))

    def scores(self) -> list[dict[str, Any]]:
        """Return how good forecasts have been, as it is published."""
        own = [(level, models) for (level, _), models in self.models.items() if level in self.bounds]
        return [models.row("margin_ratio", level) for level, models in own]

    def _measure(self, said: Said, values: F8) -> None:
        hard = "hard" if "hard" in self.bounds else next(iter(self.bounds))
        for at, horizon in enumerate(MEASURED_S):
            active, _, models = said[hard, horizon]
            measured = self.measured[at]
            measured[:] = values[RATIO] >= self.bounds[hard]
            measured[active] = models[self.models[hard, horizon].scores.champion]

    # --- state ------------------------------------------------------------------------------------------------------

    def snapshot(self, used: bool) -> dict[str, Any]:
        """Return the state as arrays; where nothing was forecast only what costs nothing."""
        models = [[level, horizon, one.snapshot()] for (level, horizon), one in self.models.items()] if used else []
        rows = [self.crossed.copy(), self._standing.copy(), self.measured.copy(), self.written.copy()]
        accounts = self._accounts.snapshot() if used else []
        return {"bounds": self.bounds, "accounts": accounts, "models": models, "rows": rows}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.bounds = state["bounds"]
        if state["models"]:
            self._accounts.restore(state["accounts"])
            for level, horizon, one in state["models"]:
                self.models[level, horizon].restore(one)
        self.crossed, self._standing, self.measured, self.written = state["rows"]


def _concentration(held: Exposed, count: int) -> F8:
    """Return the Herfindahl index of each account's exposures, 1 for a single one."""
    size = np.abs(held.gain)
    total = np.bincount(held.account, size, count)
    squares = np.bincount(held.account, size * size, count)
    return np.where(total > 0, squares / np.where(total > 0, total * total, 1.0), 1.0)
