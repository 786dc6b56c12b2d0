"""Gates for CI: ``--fail-if 'mitigated.loss > 5e6'`` ends with 1 where a figure of a result is what it must not be."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from seawall.schemas.errors import UsageError
from seawall.schemas.tables import nearest

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt
}  # fmt: skip
_GATE = re.compile(r"\s*([A-Za-z0-9_.:/-]+?)\s*(>=|<=|==|!=|>|<)\s*([-+0-9.eE_]+)\s*")


class Gate(NamedTuple):
    """A comparison that must not hold."""

    text: str
    name: str
    operator: str
    bound: float


def parse_gates(texts: Sequence[str]) -> list[Gate]:
    """Return gates from texts ``NAME > NUMBER``.

    Raises
    ------
    UsageError
        A text is something else.

    Examples
    --------
    >>> parse_gates(["mitigated.loss > 5e6"])[0].bound
    5000000.0
    """
    found = []
    for text in texts:
        match = _GATE.fullmatch(text)
        try:
            bound = float(match[3]) if match is not None else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise UsageError(f"--fail-if {text!r}: write NAME, one of {' '.join(OPERATORS)}, and a number")
        found.append(Gate(text, match[1], match[2], bound))
    return found


def failed(gates: Sequence[Gate], figures: Mapping[str, Any]) -> list[str]:
    """Return the gates whose comparison holds, each with the figure; one on a figure that is None fails too.

    Parameters
    ----------
    figures
        By name with dots (``flat``).

    Raises
    ------
    UsageError
        A gate names no figure.
    """
    found = []
    for gate in gates:
        if gate.name not in figures:
            near = nearest(gate.name, figures)
            raise UsageError(f"--fail-if {gate.text!r}: there is no figure {gate.name!r}; did you mean {near!r}?")
        value = figures[gate.name]
        if value is None or OPERATORS[gate.operator](float(value), gate.bound):
            found.append(f"{gate.text}: {gate.name} is {'not known' if value is None else format(value, ',.6g')}")
    return found


def flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers of nested tables by names with dots."""
    found: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            found[f"{prefix}{name}"] = value
    return found
