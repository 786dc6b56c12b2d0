"""Small linear algebra in a fixed order of operations: LAPACK and BLAS give other bits on other hosts (DESIGN §1)."""

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals

F8 = NDArray[np.float64]


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
