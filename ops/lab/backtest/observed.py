"""From what a run published to observations: at each full hour the forecast of then, and P&L until the next.

The figures are those that ran live: ``var_99_1h`` and ``es_975_1h`` for hours, ``var_99`` and ``es_975`` for days, of
the firm and of counterparties, on the topic ``forecasts``. P&L is the change of ``pnl`` of the same scope on
``exposures``. What is traded or closed out within the hour counts, so figures are tested best on the variant in which
nobody acts. Acerbi and Szekely's test also needs the value at risk at 97.5 %; where it is not published it follows
from the expected shortfall by the tail that is assumed (t with four degrees of freedom, the tail of the forecasts
themselves).
"""

from collections.abc import Mapping
from typing import Any

from seawall.ops.lab.backtest.verdict import LENGTHS, Observation
from seawall.ops.published import Exposures

Json = dict[str, Any]
FIGURES = {"hour": ("var_99_1h", "es_975_1h", "var_975_1h"), "day": ("var_99", "es_975", "var_975")}
PUBLISHED = frozenset(name for names in FIGURES.values() for name in names)
TAIL = 4.0
VAR_OF_ES = 0.695  # value at risk over expected shortfall at 97.5 %, t with four degrees of freedom: 2.776 / 3.994
HOUR_US = LENGTHS["hour"]


class Hourly:
    """Keeps, per scope and full hour, P&L and the figures that stood; bounded by hours times scopes."""

    def __init__(self) -> None:
        self._pnl: dict[str, float] = {}
        self._figures: dict[str, dict[str, float]] = {}
        self._hour = -1
        self.rows: dict[str, list[tuple[int, float, dict[str, float]]]] = {}

    def reach(self, as_of_us: int) -> None:
        """Note what stands when the first record of a new hour comes, before it counts."""
        hour = as_of_us // HOUR_US
        if self._hour < hour:
            # After a silence of more than the hour before, what stands is of long ago and no hour begins with it.
            for scope, pnl in self._pnl.items() if self._hour == hour - 1 else ():
                known = dict(self._figures.get(scope, {}))
                self.rows.setdefault(scope, []).append((hour * HOUR_US, pnl, known))
            self._hour = hour

    def take_exposures(self, told: Exposures) -> None:
        """Take P&L of a record of ``exposures``."""
        self.reach(told.as_of_us)
        if "pnl" in told.firm:
            self._pnl["firm"] = told.firm["pnl"]
        for row in told.counterparties:
            if row.pnl is not None:
                self._pnl[f"counterparty:{row.counterparty}"] = row.pnl

    def take_forecasts(self, record: Mapping[str, Any]) -> None:
        """Take figures of a record of ``forecasts``."""
        self.reach(record["as_of_us"])
        for row in record.get("losses", ()):
            known = {name: float(row[name]) for name in PUBLISHED if name in row}
            self._figures[row["scope"]] = known if row["state"] == "ready" else {}

    def observations(self, scope: str, every: str) -> list[Observation]:
        """Return the observations of one scope that do not overlap; none before its figures are known."""
        var, es, narrow = FIGURES[every]
        length = LENGTHS[every] // HOUR_US
        rows = {time_us // HOUR_US: (pnl, known) for time_us, pnl, known in self.rows.get(scope, [])}
        found: list[Observation] = []
        for hour, (pnl, known) in sorted(rows.items()):
            if hour % length or hour + length not in rows or known.get(es, 0.0) <= 0 or var not in known:
                continue
            change = rows[hour + length][0] - pnl
            narrowed = known.get(narrow, VAR_OF_ES * known[es])
            found.append(Observation(hour * HOUR_US, change, known[var], known[es], narrowed))
        return found
