"""Linear algebra and linear programs in a fixed order of operations (architecture.md, "Same bits").

LAPACK and BLAS give other bits on other hosts, and a solver in floating point chooses among equal plans by its host's
arithmetic; so small systems are solved by plain loops, and programs exactly, in rational numbers.
"""

from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base._columns import ordered_sums

# Small linear algebra in a fixed order of operations: LAPACK and BLAS give other bits on other hosts.
#
# See architecture.md, "Same bits".

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
SWEEPS_MAX: Final = 20
PRECISION: Final = 1e-13  # of the largest eigenvalue, what is left beside the diagonal


def ordered_mean(values: F8) -> F8:
    """Return the mean over the last axis, which must not be empty."""
    return np.asarray(ordered_sums(values) / values.shape[-1])


def solve_positive_definite(matrix: F8, right: F8) -> F8:
    """Solve ``matrix x = right`` for a symmetric positive definite matrix of a few rows, by Cholesky's factors.

    Examples
    --------
    >>> solve_positive_definite(np.array([[4.0, 2.0], [2.0, 3.0]]), np.array([2.0, 5.0])).tolist()
    [-0.5, 2.0]
    """
    size, rows, given = len(right), matrix.tolist(), right.tolist()
    lower = [[0.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            rest = rows[i][j]
            for k in range(j):
                rest -= lower[i][k] * lower[j][k]
            lower[i][j] = float(np.sqrt(rest)) if i == j else rest / lower[j][j]
    for i in range(size):
        for k in range(i):
            given[i] -= lower[i][k] * given[k]
        given[i] /= lower[i][i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            given[i] -= lower[k][i] * given[k]
        given[i] /= lower[i][i]
    return np.array(given)


def mahalanobis(matrix: F8, values: F8) -> float:
    """Return ``values matrix^-1 values`` for a positive definite matrix, by columns of Cholesky's factor.

    Examples
    --------
    >>> round(mahalanobis(np.array([[4.0, 2.0], [2.0, 3.0]]), np.array([2.0, 5.0])), 12)
    8.5
    """
    left, rest, total = matrix.copy(), values.copy(), 0.0
    for at in range(len(rest)):
        column = left[at:, at] / np.sqrt(left[at, at])
        own = rest.item(at) / column.item(0)
        total += own * own
        rest[at + 1 :] -= own * column[1:]
        left[at + 1 :, at + 1 :] -= column[1:, None] * column[None, 1:]
    return total


def eigenvalues(matrix: F8) -> F8:
    """Return the eigenvalues of a symmetric matrix, largest first, by Jacobi's rotations, disjoint pairs at a time.

    Pairs go round as in a tournament (Brent and Luk 1985), so that one sweep is ``n - 1`` vector operations.

    Examples
    --------
    >>> eigenvalues(np.array([[2.0, 1.0], [1.0, 2.0]])).round(12).tolist()
    [3.0, 1.0]
    """
    count = len(matrix)
    even = count + count % 2
    turned = np.zeros((even, even))  # an odd matrix gets a row of its own, which nothing turns
    turned[:count, :count] = matrix
    places = np.arange(even)
    for _ in range(SWEEPS_MAX):
        off = turned - np.diag(turned.diagonal())
        if not np.abs(off).max(initial=0.0) > PRECISION * np.abs(turned.diagonal()).max(initial=0.0):
            break
        for _ in range(even - 1):
            _rotate(turned, places[: even // 2], places[: even // 2 - 1 : -1])
            places = np.concatenate([places[:1], places[-1:], places[1:-1]])
    found: F8 = np.sort(turned.diagonal()[:count])[::-1]
    return found


def _rotate(matrix: F8, p: I8, q: I8) -> None:
    """Turn disjoint pairs of rows and columns such that their products vanish (Golub and Van Loan, 8.5)."""
    across = matrix[p, q]
    apart = np.where(across != 0.0, across, 1.0)
    tau = (matrix[q, q] - matrix[p, p]) / (2.0 * apart)
    with np.errstate(over="ignore"):  # what is next to nothing is not turned
        root = np.abs(tau) + np.sqrt(1.0 + tau * tau)
    tangent = np.where(across != 0.0, np.where(tau < 0, -1.0, 1.0) / root, 0.0)
    cosine = 1.0 / np.sqrt(1.0 + tangent * tangent)
    c, s = cosine[:, None], (tangent * cosine)[:, None]
    matrix[p], matrix[q] = c * matrix[p] - s * matrix[q], s * matrix[p] + c * matrix[q]
    matrix[:, p], matrix[:, q] = (
        matrix[:, p] * c.T - matrix[:, q] * s.T,
        matrix[:, p] * s.T + matrix[:, q] * c.T,
    )


def weighted_sum(weights: F8, rows: F8) -> F8:
    """Return ``weights @ rows`` for ``rows`` of shape (terms, columns), term by term."""
    out = np.zeros(rows.shape[1])
    for weight, row in zip(weights.tolist(), rows, strict=True):
        out += weight * row
    return out


def cross_products(rows: F8, other: F8 | None = None) -> F8:
    """Return ``rows @ other.T`` over the columns, first to last, for few rows; ``other`` is ``rows`` itself by default.

    Shape (rows, columns) with (others, columns) gives (rows, others).
    """
    right = rows if other is None else other
    return np.stack([ordered_sums(row * right) for row in rows])


# A linear program, solved exactly: Dantzig's simplex in rational numbers, with Bland's rule.
#
# Least of two objectives, the second among equals of the first, over x >= 0 with A x <= b and b >= 0. A solver in
# floating point finds the same least value, but among equal plans whichever its host's arithmetic leads it to; a
# decision has to be the same bytes everywhere (decision 0024). Bland's rule (the lowest variable that helps enters, the
# lowest that can leaves) never cycles, and with exact numbers the same program ends at the same vertex.
#
# The dual prices of the first objective are a certificate (Farkas): the rows that have one alone keep it from being
# less.

ConstraintRow = dict[int, Fraction]  # by number of the variable; what is not there is 0
ZERO = Fraction(0)


class Solution(NamedTuple):
    """The value of each variable, and the rows (by number) that have a price in the first objective."""

    values: list[Fraction]
    priced: list[int]


def solve_linear_program(
    first: ConstraintRow, second: ConstraintRow, rows: list[ConstraintRow], bounds: list[Fraction], variables: int
) -> Solution:
    """Return the solution; the program must be bounded, and every bound at least 0.

    Examples
    --------
    >>> one = Fraction(1)
    >>> solve_linear_program({0: -one, 1: -one}, {0: one}, [{0: one, 1: one}, {1: one}], [one * 4, one * 3], 2)
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


def _entering(goals: list[ConstraintRow]) -> int | None:
    """Return the lowest variable that lowers the first objective, or the second and not the first."""
    first, second = goals
    lower = [column for column, price in first.items() if price < 0]
    lower += [column for column, price in second.items() if price < 0 and not first.get(column)]
    return min(lower, default=None)


def _leaving(table: list[ConstraintRow], right: list[Fraction], basis: list[int], column: int) -> int:
    ratios = [(right[at] / row[column], basis[at], at) for at, row in enumerate(table) if row.get(column, ZERO) > 0]
    return min(ratios)[2]


def _pivot(table: list[ConstraintRow], right: list[Fraction], goals: list[ConstraintRow], at: int, column: int) -> None:
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


def _subtract(one: ConstraintRow, row: ConstraintRow, factor: Fraction) -> None:
    for number, value in row.items():
        left = one.get(number, ZERO) - factor * value
        if left:
            one[number] = left
        else:
            one.pop(number, None)
