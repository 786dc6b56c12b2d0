"""Walk-forward splits: what is judged always lies after what was fitted, with an embargo between the two.

The period is cut into blocks of equal length. Fold k fits on blocks 0 … k and is judged on block k + 1, whose first
``embargo`` is left out: a position or a score at the end of training would otherwise be worth in both. Blocks are
played on their own, each with a new book, so nothing else runs from one into the next.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Block(NamedTuple):
    """A stretch of time, the end exclusive."""

    first_us: int
    last_us: int


class Fold(NamedTuple):
    """The blocks that train, and the one that tests, by number."""

    train: tuple[int, ...]
    test: int


def blocks(first_us: int, last_us: int, count: int, embargo_us: int) -> list[Block]:
    """Return the blocks of a period, each purged of the embargo at its beginning, except the first.

    Raises
    ------
    ValueError
        The embargo leaves nothing of a block.

    Examples
    --------
    >>> blocks(0, 100, 4, 5)[1]
    Block(first_us=30, last_us=50)
    """
    edges = [first_us + (last_us - first_us) * at // count for at in range(count + 1)]
    found = [Block(edges[at] + (embargo_us if at else 0), edges[at + 1]) for at in range(count)]
    if any(block.first_us >= block.last_us for block in found):
        raise ValueError("the embargo is longer than a block; take fewer blocks or a shorter embargo")
    return found


def folds(count: int) -> list[Fold]:
    """Return the folds: training grows, testing moves on.

    Examples
    --------
    >>> folds(3)
    [Fold(train=(0,), test=1), Fold(train=(0, 1), test=2)]
    """
    return [Fold(tuple(range(at)), at) for at in range(1, count)]


class Judged(NamedTuple):
    """One fold: which candidate training chose, and what it and the values in force cost per block."""

    fold: Fold
    chosen: int
    train: float
    train_default: float
    test: float
    test_default: float
    test_rank: int


def walk_forward(costs: Sequence[Sequence[float]]) -> list[Judged]:
    """Return every fold of a study.

    Parameters
    ----------
    costs
        By candidate and block; candidate 0 is what is in force.
    """
    found = []
    for fold in folds(len(costs[0])):
        trained = [sum(row[at] for at in fold.train) / len(fold.train) for row in costs]
        chosen = best(trained)
        tested = [row[fold.test] for row in costs]
        rank = 1 + sum(value < tested[chosen] for value in tested)
        found.append(Judged(fold, chosen, trained[chosen], trained[0], tested[chosen], tested[0], rank))
    return found


def best(costs: Sequence[float]) -> int:
    """Return the cheapest candidate, the first among equals: what is in force stays unless something is better."""
    return min(range(len(costs)), key=lambda at: (costs[at], at))
