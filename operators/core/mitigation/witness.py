"""The witness: does what venues and fills show agree with what subscribers say they did?

Positions are re-derived from fills, never from our own commands. So a target that was halted and still fills orders, or
one whose orders were cancelled and still work when the time to verify is over, contradicts the subscriber.
"""

from collections.abc import Iterator
from typing import Any

from seawall.operators.core.frames import Frame
from seawall.operators.core.mitigation.targets import members

STOPPED = ("HALT_TRADING", "SUSPEND")
MARGIN = 1 + 1e-9


def contradictions(completed: list[dict[str, Any]], frame: Frame) -> Iterator[tuple[str, str]]:
    """Yield the id of each completed command that this frame contradicts, and by what.

    Fills that a venue forced (liquidation, auto-deleveraging, settlement) are no order of a subscriber's.
    """
    for command in completed:
        kind, _, name = command["target"].partition(":")
        over = frame.as_of_us >= command["end_us"]
        if command["kind"] in STOPPED and frame.causes is not None and not over:
            fills = frame.causes.orders_of(kind, name)
            if fills:
                yield command["id"], fills[0]
        elif command["kind"] == "CANCEL_ORDERS" and over:
            working = next(_working(command["target"], frame), None)
            if working is not None:
                yield command["id"], f"orders:{working}"


def _working(target: str, frame: Frame) -> Iterator[str]:
    """Yield the accounts of a target in which orders still work."""
    table = frame.tables.get("account")
    if table is None or "worst_case_notional" not in table.measures:
        return
    worst, gross = (table.values[table.measures.index(name)] for name in ("worst_case_notional", "gross_notional"))
    for name in members("account", target, frame):
        at = table.names.index(name.partition(":")[2])
        if at < table.values.shape[1] and worst.item(at) > gross.item(at) * MARGIN:
            yield name
