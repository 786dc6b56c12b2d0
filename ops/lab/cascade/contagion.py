"""What all models of contagion by claims share: the least fixed point of losses that spread, many scenarios at once.

Each model says how much of itself a node passes on, ``y = f(x)``, given what it has lost, ``x = shock + W y``. As ``f``
grows with ``x``, losses that spread from nothing come to rest at the *least* fixed point, which is the greatest
clearing vector.

1. The state without a shock is found first: nodes that have failed already make it differ from nothing.
2. A scenario starts from there, and only what changes is passed on: a *front* of (scenario, node) pairs, kept as flat
   numbers. The cost is that of the claims which losses run along, not scenarios x nodes x rounds.
3. A change below ``TOLERANCE`` of what a node can pass on waits until more has come; it is never lost.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from seawall.schemas.errors import SeawallError

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
TOLERANCE: Final = 1e-12
ROUNDS_MAX: Final = 20_000
CELLS_MAX: Final = 100_000  # (scenario, node) pairs held at once: 800 kB an array, which a cache holds


class CascadeError(SeawallError):
    """A cascade did not come to rest within the rounds allowed."""


class Model(NamedTuple):
    """A model of contagion over some nodes; functions take losses and the numbers of the nodes that have them.

    Attributes
    ----------
    weights : sparse, shape (nodes, nodes)
        Rows are who passes on, columns who loses: what a node loses per unit that the row's node passes on.
    respond
        What nodes pass on; grows with their losses.
    scale : float64, shape (nodes,)
        The most that each can pass on.
    fails
        Whether nodes have failed.
    lost
        What nodes have lost in money.
    fatal : float64, shape (nodes,)
        The loss by which each node is made to fail.
    """

    weights: sparse.csr_array
    respond: Callable[[F8, I8], F8]
    scale: F8
    fails: Callable[[F8, I8], B1]
    lost: Callable[[F8, I8], F8]
    fatal: F8


class Shocks(NamedTuple):
    """What hits whom, in rows of (scenario, node, loss); ``scenario`` ascends from 0 to below ``total``."""

    scenario: I8
    node: I8
    loss: F8
    total: int

    @classmethod
    def dense(cls, losses: F8) -> "Shocks":
        """Return the shocks of a table, shape (scenarios, nodes)."""
        scenario, node = losses.nonzero()
        return cls(scenario, node, losses[scenario, node], len(losses))

    @classmethod
    def failing(cls, model: Model, scenario: I8, node: I8, count: int) -> "Shocks":
        """Return scenarios in which nodes are made to fail, in rows of (scenario, node)."""
        return cls(scenario, node, model.fatal[node], count)

    @classmethod
    def sweep(cls, model: Model) -> "Shocks":
        """Return one scenario per node, in which that node is made to fail."""
        every = np.arange(len(model.fatal))
        return cls.failing(model, every, every, len(every))


class Rest(NamedTuple):
    """Scenarios at rest, from the one numbered ``first`` on, arrays of shape (scenarios, nodes).

    ``entered`` is the round in which a node first passed anything on; -1: never, or before the shock.
    """

    first: int
    losses: F8
    passed: F8
    entered: NDArray[np.int32]
    rounds: int


class Outcome(NamedTuple):
    """What scenarios come to, one value each; all is beyond the state without a shock.

    Attributes
    ----------
    hit : int64
        Nodes that the shock itself makes fail.
    failures : int64
        Nodes that fail after these.
    contagion : float64
        Money that nodes lose through others; what the shock itself takes is not in it.
    rounds
        Of the longest cascade.
    """

    hit: I8
    failures: I8
    contagion: F8
    rounds: int


def calm(model: Model) -> Rest:
    """Return the state without a shock, one scenario."""
    nodes = len(model.scale)
    return _rest(model, np.zeros((1, nodes)), np.zeros((1, nodes)), np.arange(nodes), 0)


def spread(model: Model, shocks: Shocks, before: Rest | None = None) -> Iterator[Rest]:
    """Yield all scenarios at rest, some at a time, in order.

    Raises
    ------
    CascadeError
        They do not come to rest in ``ROUNDS_MAX`` rounds.
    """
    nodes, before = len(model.scale), before or calm(model)
    size = max(CELLS_MAX // max(nodes, 1), 1)
    for first in range(0, shocks.total, size):
        count = min(size, shocks.total - first)
        rows = slice(*np.searchsorted(shocks.scenario, (first, first + count)))
        losses, passed = np.repeat(before.losses, count, axis=0), np.repeat(before.passed, count, axis=0)
        hit = (shocks.scenario[rows] - first) * nodes + shocks.node[rows]
        np.add.at(losses.reshape(-1), hit, shocks.loss[rows])
        yield _rest(model, losses, passed, np.unique(hit), first)


def outcome(model: Model, shocks: Shocks, seen: Callable[[int], None] = lambda done: None) -> Outcome:
    """Return what all scenarios come to; ``seen`` is told how many are done as they are."""
    before, every = calm(model), np.arange(len(model.scale))
    stood, had = model.fails(before.losses, every)[0], model.lost(before.losses, every)[0]
    at_once, taken = _alone(model, shocks, before.losses[0])
    hit = np.bincount(shocks.scenario, at_once, shocks.total).astype(np.int64)
    gone = np.bincount(shocks.scenario, taken, shocks.total)
    failures, money, rounds = np.empty(shocks.total, dtype=np.int64), np.empty(shocks.total), 0
    for rest in spread(model, shocks, before):
        part = slice(rest.first, rest.first + len(rest.losses))
        failures[part] = model.fails(rest.losses, every).sum(axis=1) - stood.sum()
        money[part] = (model.lost(rest.losses, every) - had).sum(axis=1)
        rounds = max(rounds, rest.rounds)
        seen(part.stop)
    return Outcome(hit, failures - hit, np.maximum(money - gone, 0.0), rounds)


def _alone(model: Model, shocks: Shocks, losses: F8) -> tuple[B1, F8]:
    """Return, per row of shocks, whether its node fails by it alone and did not before, and the money it takes."""
    node = shocks.node
    start = losses[node]
    then = start + shocks.loss
    failed = model.fails(then, node) & ~model.fails(start, node)
    return failed, model.lost(then, node) - model.lost(start, node)


def _rest(model: Model, losses: F8, passed: F8, hit: I8, first: int) -> Rest:
    """Bring losses to rest, where ``hit`` holds the pairs whose losses have changed."""
    nodes = len(model.scale)
    x, y = losses.reshape(-1), passed.reshape(-1)
    entered, touched = np.full(len(x), -1, dtype=np.int32), np.zeros(len(x), dtype=bool)
    for number in range(ROUNDS_MAX):
        node = hit % nodes
        change = model.respond(x[hit], node) - y[hit]
        grown = change > TOLERANCE * model.scale[node]
        front, change = hit[grown], change[grown]
        if not len(front):
            return Rest(first, losses, passed, entered.reshape(losses.shape), number)
        entered[front[(entered[front] < 0) & (y[front] == 0)]] = number
        y[front] += change
        target, more = _along(model.weights, front, change)
        np.add.at(x, target, more)
        touched[target] = True
        hit = touched.nonzero()[0]
        touched[hit] = False
    raise CascadeError(f"the cascade has not come to rest in {ROUNDS_MAX} rounds; claims go round almost without loss")


def _along(weights: sparse.csr_array, front: I8, change: F8) -> tuple[I8, F8]:
    """Return what the front passes on: flat numbers of who loses, and how much."""
    nodes = weights.shape[0]
    node = front % nodes
    start, count = weights.indptr[node].astype(np.int64), np.diff(weights.indptr)[node].astype(np.int64)
    at = np.repeat(start - (count.cumsum() - count), count) + np.arange(int(count.sum()))
    target = np.repeat(front - node, count) + weights.indices[at]
    return target, weights.data[at] * np.repeat(change, count)
