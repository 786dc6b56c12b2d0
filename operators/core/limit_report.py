"""Where every limit stands on every scope: value, effective bounds, level, utilisation, and the factors of its bound.

Read from the state of the limits operator beside the frame that it evaluated last; nothing is changed.
"""

from typing import Any, NamedTuple

from seawall.operators.core.frames import Frame
from seawall.operators.core.limit_rules import LEVELS
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
