"""Small linear algebra in a fixed order of operations: LAPACK and BLAS give other bits on other hosts.

See architecture.md, "Same bits".
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
SWEEPS_MAX: Final = 20
PRECISION: Final = 1e-13  # of the largest eigenvalue, what is left beside the diagonal


def mean(values: F8) -> F8:
    """Return the mean over the last axis, which must not be empty."""
    return np.asarray(totals(values) / values.shape[-1])


def solve(matrix: F8, right: F8) -> F8:
    """Solve ``matrix x = right`` for a symmetric positive definite matrix of a few rows, by Cholesky's factors.

    Examples
    --------
    >>> solve(np.array([[4.0, 2.0], [2.0, 3.0]]), np.array([2.0, 5.0])).tolist()
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


def product(weights: F8, rows: F8) -> F8:
    """Return ``weights @ rows`` for ``rows`` of shape (terms, columns), term by term."""
    out = np.zeros(rows.shape[1])
    for weight, row in zip(weights.tolist(), rows, strict=True):
        out += weight * row
    return out


def moments(rows: F8, other: F8 | None = None) -> F8:
    """Return ``rows @ other.T`` over the columns, first to last, for few rows; ``other`` is ``rows`` itself by default.

    Shape (rows, columns) with (others, columns) gives (rows, others).
    """
    right = rows if other is None else other
    return np.stack([totals(row * right) for row in rows])
