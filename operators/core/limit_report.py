"""Where every limit stands on every scope: value, effective bounds, level, utilisation, and the factors of its bound.

Read from the state of the limits operator beside the frame that it evaluated last; nothing is changed.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.frames import Frame, Table
from seawall.operators.core.limit_cells import Cells
from seawall.operators.core.limit_rules import LEVELS, UTILISATION_MAX
from seawall.operators.core.limits import LimitsState


class LimitStanding(NamedTuple):
    """One limit on one scope; ``bounds`` are the effective ones from warning to hard, None where it has none.

    ``utilisation`` is of the highest level that the limit has.
    """

    limit: str
    scope: str
    measure: str
    value: float
    bounds: tuple[float | None, float | None, float | None]
    level: str
    utilisation: float
    factors: dict[str, Any] | None


def standings(state: LimitsState, frame: Frame) -> list[LimitStanding]:
    """Return every limit on every scope of a frame, those most used first."""
    found = []
    for table, cells in state.evaluated(frame):
        levels, moving = cells.columns["level"].tolist(), cells.windows.standing()
        pairs = zip(cells.columns["limit"].tolist(), cells.columns["column"].tolist(), strict=True)
        for cell, (number, column) in enumerate(pairs):
            limit = cells.limits[number]
            value = float(table.values[table.measures.index(limit.measure), column])
            value = limit.sign * moving[cell] if cell in moving else value
            bounds = [None if limit.bounds[at] is None else cells.bound_of(cell, at + 1) for at in range(3)]
            highest = next(bound for bound in reversed(bounds) if bound is not None)
            scope = "firm" if limit.kind == "firm" else f"{limit.kind}:{table.names[column]}"
            found.append(
                LimitStanding(
                    limit.id,
                    scope,
                    limit.measure,
                    value,
                    (bounds[0], bounds[1], bounds[2]),
                    LEVELS[levels[cell]],
                    limit.utilisation(value, highest),
                    cells.scaled.explain(cell),
                )
            )
    return sorted(found, key=lambda one: (-one.utilisation, one.scope, one.limit))


def peaks(state: LimitsState, frame: Frame) -> dict[str, float]:
    """Return how much of each limit is used on the scope that uses most of it, in a few vector operations.

    Limits with windows are left out: what counts for them is a change, which only evaluating them tells.
    """
    found: dict[str, float] = {}
    for table, cells in state.evaluated(frame):
        cells.grow(table)
        used = np.zeros(len(cells.limits))
        np.maximum.at(used, cells.columns["limit"], _shares(table, cells))
        for limit, share in zip(cells.limits, used.tolist(), strict=True):
            if not limit.window_us:
                found[limit.id] = max(found.get(limit.id, 0.0), share)
    return found


def _shares(table: Table, cells: Cells) -> NDArray[np.float64]:
    """Return the utilisation of every cell's highest level, as ``Limit.utilisation`` has it."""
    at, limits = cells.columns["limit"], cells.limits
    highest = np.array([next(float(b) for b in reversed(one.bounds) if b is not None) for one in limits])
    forward = np.array([one.below == (bound < 0) for one, bound in zip(limits, highest.tolist(), strict=True)])[at]
    rows = np.array([table.measures.index(one.measure) for one in limits], dtype=np.int64)
    signs = np.array([one.sign for one in limits])[at]
    scale = cells.scaled.scales(len(at))
    bounds = highest[at] if scale is None else highest[at] * scale
    values = table.values[rows[at], cells.columns["column"]]
    over, under = np.where(forward, values, bounds), np.where(forward, bounds, values)
    plain = under * np.where(bounds >= 0, 1.0, -1.0) > 0
    shares = np.clip(over / np.where(plain, under, 1.0), 0.0, UTILISATION_MAX)
    beyond = np.where(signs * values > signs * bounds, UTILISATION_MAX, 0.0)
    return np.where(plain, shares, beyond)
