"""A linear program, solved exactly: Dantzig's simplex in rational numbers, with Bland's rule.

Least of two objectives, the second among equals of the first, over x >= 0 with A x <= b and b >= 0. A solver in
floating point finds the same least value, but among equal plans whichever its host's arithmetic leads it to; a decision
has to be the same bytes everywhere (decision 0024). Bland's rule (the lowest variable that helps enters, the lowest
that can leaves) never cycles, and with exact numbers the same program ends at the same vertex.

The dual prices of the first objective are a certificate (Farkas): the rows that have one alone keep it from being less.
"""

from fractions import Fraction
from typing import NamedTuple

Row = dict[int, Fraction]  # by number of the variable; what is not there is 0
ZERO = Fraction(0)


class Solution(NamedTuple):
    """The value of each variable, and the rows (by number) that have a price in the first objective."""

    values: list[Fraction]
    priced: list[int]


def minimise(first: Row, second: Row, rows: list[Row], bounds: list[Fraction], variables: int) -> Solution:
    """Return the solution; the program must be bounded, and every bound at least 0.

    Examples
    --------
    >>> one = Fraction(1)
    >>> minimise({0: -one, 1: -one}, {0: one}, [{0: one, 1: one}, {1: one}], [one * 4, one * 3], 2)
    Solution(values=[Fraction(1, 1), Fraction(3, 1)], priced=[0])
    """
    table = [{**row, variables + at: Fraction(1)} for at, row in enumerate(rows)]
    right, goals = list(bounds), [dict(first), dict(second)]
    basis = [variables + at for at in range(len(rows))]
    while True:
        column = _entering(goals)
        if column is None:
            break
        at = _leaving(table, right, basis, column)
        _pivot(table, right, goals, at, column)
        basis[at] = column
    values = [ZERO] * variables
    for at, column in enumerate(basis):
        if column < variables:
            values[column] = right[at]
    return Solution(values, sorted(c - variables for c, price in goals[0].items() if c >= variables and price))


def _entering(goals: list[Row]) -> int | None:
    """Return the lowest variable that lowers the first objective, or the second and not the first."""
    first, second = goals
    lower = [column for column, price in first.items() if price < 0]
    lower += [column for column, price in second.items() if price < 0 and not first.get(column)]
    return min(lower, default=None)


def _leaving(table: list[Row], right: list[Fraction], basis: list[int], column: int) -> int:
    ratios = [(right[at] / row[column], basis[at], at) for at, row in enumerate(table) if row.get(column, ZERO) > 0]
    return min(ratios)[2]


def _pivot(table: list[Row], right: list[Fraction], goals: list[Row], at: int, column: int) -> None:
    lead = table[at][column]
    row = table[at] = {number: value / lead for number, value in table[at].items()}
    right[at] /= lead
    for other, one in enumerate(table):
        factor = one.get(column) if other != at else None
        if factor:
            _subtract(one, row, factor)
            right[other] -= factor * right[at]
    for goal in goals:
        factor = goal.get(column)
        if factor:
            _subtract(goal, row, factor)


def _subtract(one: Row, row: Row, factor: Fraction) -> None:
    for number, value in row.items():
        left = one.get(number, ZERO) - factor * value
        if left:
            one[number] = left
        else:
            one.pop(number, None)
