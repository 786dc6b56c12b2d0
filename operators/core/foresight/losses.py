"""Loss measures of books over scenarios: value at risk, expected shortfall, and the worst of a named grid.

Scenarios weigh alike. Value at risk is the smallest loss that a share of at least 99 % does not exceed; expected
shortfall the mean of the worst 2.5 %, of which a scenario that lies across the bound counts with its part (Acerbi and
Tasche 2002, definition 2.6). A book that gains in all of them loses 0.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.columns import totals

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
CHUNK: Final = 64  # rows at once: their profits in a thousand scenarios stay in the cache of a core


def profits(scope: I8, factor: I8, amount: F8, moves: F8, scopes: int) -> F8:
    """Return the profit of each scope in each scenario, shape (scopes, scenarios).

    Parameters
    ----------
    scope, factor : int64, shape (rows,)
        Whose, ascending; and the row of ``moves``.
    amount : float64, shape (rows,)
        What each row holds of its factor.
    moves : float64, shape (factors, scenarios)
        What a unit of each factor gains.

    Examples
    --------
    >>> at = np.array([0, 0, 2]), np.array([0, 1, 1]), np.array([10.0, -5.0, 1.0])
    >>> profits(*at, np.array([[0.1, -0.1], [0.2, 0.0]]), 3).tolist()
    [[0.0, -1.0], [0.0, 0.0], [0.2, 0.0]]
    """
    found = np.zeros((scopes, moves.shape[1]))
    for first in range(0, len(scope), CHUNK):
        rows = slice(first, first + CHUNK)
        of, gained = scope[rows], amount[rows, None] * moves[factor[rows]]
        starts = np.append(0, (of[1:] != of[:-1]).nonzero()[0] + 1)
        found[of[starts]] += np.add.reduceat(gained, starts, axis=0)
    return found


def value_at_risk(gained: F8, tail: float = 0.01) -> F8:
    """Return the loss that a share ``1 - tail`` of scenarios does not exceed, at least 0, of each row.

    Examples
    --------
    >>> value_at_risk(-np.arange(1.0, 101.0)[None]).tolist()
    [99.0]
    """
    at = int(np.floor(tail * gained.shape[1] + 1e-9))
    return np.maximum(-np.partition(gained, at, axis=1)[:, at], 0.0)


def expected_shortfall(gained: F8, tail: float = 0.025) -> F8:
    """Return the mean loss of the worst share ``tail`` of scenarios, at least 0, of each row.

    Examples
    --------
    >>> expected_shortfall(-np.arange(1.0, 101.0)[None]).tolist()
    [99.2]
    """
    mass = tail * gained.shape[1]
    whole = int(np.floor(mass + 1e-9))
    worst = np.sort(np.partition(gained, whole, axis=1)[:, : whole + 1], axis=1)
    total = totals(worst[:, :whole]) + max(mass - whole, 0.0) * worst[:, whole]
    return np.asarray(np.maximum(-total / mass, 0.0))


def worst_of(gained: F8) -> tuple[F8, I8]:
    """Return the largest loss of each row, at least 0, and the scenario that makes it."""
    at = gained.argmin(axis=1)
    return np.maximum(-gained[np.arange(len(gained)), at], 0.0), at
