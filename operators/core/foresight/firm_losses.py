"""What the firm may lose: profits of all shards' books in the same scenarios, added up in order of shard.

Every shard hears all marks, so all have the same scenarios in the same order, and profits add where losses do not.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.foresight.loss_forecasts import MOVED, loss_row, measured
from seawall.schemas.measures import LOSSES
from seawall.schemas.stress import STANDARD, scenarios_of

F8 = NDArray[np.float64]
HOUR_US: Final = 3_600_000_000


class FirmLosses:
    """The measures ``LOSSES`` of the firm: ``values``, as the last second had them."""

    def __init__(self) -> None:
        self.enabled = False
        self.values: F8 = np.zeros(len(LOSSES))
        self._stress = STANDARD
        self._written: F8 = np.full(len(LOSSES), np.nan)
        self._hour = -1

    def configure(self, section: dict[str, Any]) -> None:
        """Take whether losses are measured, and the stress scenarios."""
        self.enabled = bool(section.get("enabled") and section.get("losses"))
        self._stress = scenarios_of(section)

    def update(self, parts: list[dict[str, Any]], as_of_us: int) -> dict[str, Any] | None:
        """Take what the shards tell at the end of a second; return what is to be written, once an hour in any case."""
        total = np.zeros(len(parts[0]["profits"]))
        for part in parts:
            total += part["profits"]
        values, worst = measured(total[None])
        self.values = values[:, 0]
        hour, last = as_of_us // HOUR_US, self._written
        moved = np.isnan(last) | (np.abs(self.values - last) > MOVED * np.maximum(np.abs(last), 1.0))
        if hour == self._hour and not moved.any():
            return None
        self._hour, self._written = hour, self.values
        state = max(part["state"] for part in parts)
        return loss_row("firm", state, self.values.tolist(), self._stress[worst.item(0)]["name"])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as arrays."""
        rows = [self.values.copy(), self._written.copy()]
        return {"enabled": self.enabled, "rows": rows, "hour": self._hour, "stress": self._stress}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the state of a snapshot."""
        self.enabled, self._hour, self._stress = state["enabled"], state["hour"], state["stress"]
        self.values, self._written = state["rows"]
