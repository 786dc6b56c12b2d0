"""Which counterparties' failure hurts most: each alone, and together as the cover standards of clearing houses ask.

Cover 2 asks what the joint failure of the two that together hurt most would cost (CPMI-IOSCO, Principles for Financial
Market Infrastructures, principle 4). All pairs of the ``candidates`` that hurt most alone are tried, so the answer is
exact among these; a wider cover adds one node at a time to the best set so far.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from seawall.ops.lab.cascade.contagion import Model, Outcome, Shocks, outcome
from seawall.ops.lab.cascade.network import I8
from seawall.schemas.errors import UsageError

Seen = Callable[[int], None]


class Failure(NamedTuple):
    """What a set of nodes does by failing together."""

    nodes: tuple[str, ...]
    contagion: float
    failures: int


class Ranking(NamedTuple):
    """All nodes, the worst first, and the worst set of each size from 2 on."""

    alone: list[Failure]
    covers: list[Failure]


def rank_failures(
    model: Model, names: Sequence[str], cover: int = 2, candidates: int = 40, seen: Seen = lambda done: None
) -> Ranking:
    """Return what failures cost others, nodes one by one and in sets of up to ``cover``.

    Of equal ones the first by number comes first. ``seen`` is told how many of the single failures are done.
    """
    if not 1 <= cover <= candidates:
        raise UsageError(f"cover {cover} must be at least 1 and at most the {candidates} candidates")
    found = outcome(model, Shocks.sweep(model), seen)
    order = np.argsort(-found.contagion, kind="stable")
    alone = [_failure(names, (int(at),), found, int(at)) for at in order]
    tried = sorted(order[:candidates].tolist())
    covers: list[Failure] = []
    best: tuple[int, ...] = ()
    for size in range(2, min(cover, len(tried)) + 1):
        sets: list[tuple[int, ...]] = (
            list(combinations(tried, 2)) if size == 2 else [(*best, at) for at in tried if at not in best]
        )
        together = outcome(model, _joint(model, sets))
        worst = int(together.contagion.argmax())
        best = sets[worst]
        covers.append(_failure(names, best, together, worst))
    return Ranking(alone, covers)


def _joint(model: Model, sets: Sequence[tuple[int, ...]]) -> Shocks:
    node: I8 = np.array(sets, dtype=np.int64)
    scenario = np.repeat(np.arange(len(sets)), node.shape[1])
    return Shocks.failing(model, scenario, node.reshape(-1), len(sets))


def _failure(names: Sequence[str], nodes: tuple[int, ...], found: Outcome, at: int) -> Failure:
    return Failure(tuple(names[node] for node in nodes), float(found.contagion[at]), int(found.failures[at]))
