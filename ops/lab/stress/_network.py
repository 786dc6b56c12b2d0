"""Networks of claims, and losses that spread over them to the least fixed point, many scenarios at once.

Claims are kept in columns, one row per claim, and turned once into two sparse matrices: by borrower, so that the loss
of a failure's lenders is one slice, and by lender. The balance sheet of each node has its assets and debts outside the
network beside them. A node whose equity is at or below 0 has failed before any shock: its lenders bear that in every
scenario, also in the one without a shock.

Each model says how much of itself a node passes on, ``y = f(x)``, given what it has lost, ``x = shock + W y``. As ``f``
grows with ``x``, losses that spread from nothing settle at the *least* fixed point, which is the greatest clearing
vector.

1. The state without a shock is found first: nodes that have failed already make it differ from nothing.
2. A scenario starts from there, and only changes are passed on: a *front* of (scenario, node) pairs, kept as flat
   numbers. The cost is that of the claims which losses run along, not scenarios x nodes x rounds.
3. A change below ``TOLERANCE`` of what a node can pass on waits until more has come; it is never lost.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from seawall.schemas.errors import SeawallError, UsageError

# A network of claims: who lent what to whom, and the balance sheet around it.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes and the claims between them.

    Attributes
    ----------
    lender, borrower : int64, shape (claims,)
        Of each claim, by node number; several claims of one pair add up.
    amount : float64, shape (claims,)
        What the borrower owes, at or above 0.
    external_assets, external_liabilities : float64, shape (nodes,)
        What stands on the balance sheet beside the claims, at or above 0.
    equity : float64, shape (nodes,)
        As stated; any sign.
    names
        Of the nodes.
    """

    lender: I8
    borrower: I8
    amount: F8
    external_assets: F8
    external_liabilities: F8
    equity: F8
    names: tuple[str, ...]

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return len(self.names)

    @cached_property
    def lent(self) -> F8:
        """Return what each node has lent inside the network."""
        return np.asarray(np.bincount(self.lender, self.amount, self.nodes), dtype=np.float64)

    @cached_property
    def owed(self) -> F8:
        """Return what each node owes in all, outside included: Eisenberg and Noe's p-bar."""
        return np.asarray(np.bincount(self.borrower, self.amount, self.nodes) + self.external_liabilities)

    @cached_property
    def by_borrower(self) -> sparse.csr_array:
        """Return the claims as rows of borrowers and columns of lenders: Eisenberg and Noe's L."""
        shape = (self.nodes, self.nodes)
        return sparse.csr_array((self.amount, (self.borrower, self.lender)), shape=shape)


def make_network(
    claims: tuple[Sequence[int] | I8, Sequence[int] | I8, Sequence[float] | F8],
    external_assets: Sequence[float] | F8,
    external_liabilities: Sequence[float] | F8 | None = None,
    equity: Sequence[float] | F8 | None = None,
    names: Sequence[str] | None = None,
) -> Network:
    """Return a checked network.

    Parameters
    ----------
    claims
        Lenders, borrowers and amounts, one of each per claim.
    external_liabilities
        None: nothing is owed outside.
    equity
        None: what the balance sheet leaves.

    Raises
    ------
    UsageError
        A column that does not fit, a node that does not exist, a claim on itself, a number that is not finite, or one
        below 0 where it must not be: named with its row.
    """
    lender, borrower = (np.asarray(column, dtype=np.int64) for column in claims[:2])
    amount, assets = np.asarray(claims[2], dtype=np.float64), np.asarray(external_assets, dtype=np.float64)
    nodes = len(assets)
    debts = np.zeros(nodes) if external_liabilities is None else np.asarray(external_liabilities, dtype=np.float64)
    if not len(lender) == len(borrower) == len(amount):
        raise UsageError(
            f"claims: {len(lender)} lenders, {len(borrower)} borrowers, {len(amount)} amounts; as many each"
        )
    for name, column in (("lender", lender), ("borrower", borrower)):
        _refuse(name, (column < 0) | (column >= nodes), column, f"is not a node; there are {nodes}")
    _refuse("claim", lender == borrower, lender, "is a claim on itself; leave it out")
    for name, values in (("amount", amount), ("external_assets", assets), ("external_liabilities", debts)):
        _refuse(name, ~(np.isfinite(values) & (values >= 0)), values, "must be finite and at or above 0")
    if equity is None:
        left = assets - debts + np.bincount(lender, amount, nodes) - np.bincount(borrower, amount, nodes)
    else:
        left = np.asarray(equity, dtype=np.float64)
        _refuse("equity", ~np.isfinite(left), left, "must be finite")
    labels = tuple(names) if names is not None else tuple(map(str, range(nodes)))
    for name, length in (("external_liabilities", len(debts)), ("equity", len(left)), ("names", len(labels))):
        if length != nodes:
            raise UsageError(f"{name}: {length} values for {nodes} nodes; give one per node")
    return Network(lender, borrower, amount, assets, debts, left, labels)


def _refuse(name: str, wrong: NDArray[np.bool_], values: NDArray[Any], rule: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise UsageError(f"{name}, row {row}: {values[row]} {rule}")


# The step that all models of contagion by claims share: the least fixed point of losses, many scenarios at once.

B1 = NDArray[np.bool_]
TOLERANCE: Final = 1e-12
ROUNDS_MAX: Final = 20_000
CELLS_MAX: Final = 100_000  # (scenario, node) pairs held at once: 800 kB an array, which a cache holds


class CascadeError(SeawallError):
    """A cascade did not come to rest within the rounds allowed."""


class ContagionModel(NamedTuple):
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
    """Shocks, in rows of (scenario, node, loss); ``scenario`` ascends from 0 to below ``total``."""

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
    def failing(cls, model: ContagionModel, scenario: I8, node: I8, count: int) -> "Shocks":
        """Return scenarios in which nodes are made to fail, in rows of (scenario, node)."""
        return cls(scenario, node, model.fatal[node], count)

    @classmethod
    def sweep(cls, model: ContagionModel) -> "Shocks":
        """Return one scenario per node, in which that node is made to fail."""
        every = np.arange(len(model.fatal))
        return cls.failing(model, every, every, len(every))


class SettledScenarios(NamedTuple):
    """Scenarios at rest, from the one numbered ``first`` on, arrays of shape (scenarios, nodes).

    ``entered`` is the round in which a node first passed anything on; -1: never, or before the shock.
    """

    first: int
    losses: F8
    passed: F8
    entered: NDArray[np.int32]
    rounds: int


class ContagionOutcome(NamedTuple):
    """Outcome of scenarios, one value each; all is beyond the state without a shock.

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


def unshocked_state(model: ContagionModel) -> SettledScenarios:
    """Return the state without a shock, one scenario."""
    nodes = len(model.scale)
    return _rest(model, np.zeros((1, nodes)), np.zeros((1, nodes)), np.arange(nodes), 0)


def settle_scenarios(
    model: ContagionModel, shocks: Shocks, before: SettledScenarios | None = None
) -> Iterator[SettledScenarios]:
    """Yield all scenarios at rest, some at a time, in order.

    Raises
    ------
    CascadeError
        They do not come to rest in ``ROUNDS_MAX`` rounds.
    """
    nodes, before = len(model.scale), before or unshocked_state(model)
    size = max(CELLS_MAX // max(nodes, 1), 1)
    for first in range(0, shocks.total, size):
        count = min(size, shocks.total - first)
        rows = slice(*np.searchsorted(shocks.scenario, (first, first + count)))
        losses, passed = np.repeat(before.losses, count, axis=0), np.repeat(before.passed, count, axis=0)
        hit = (shocks.scenario[rows] - first) * nodes + shocks.node[rows]
        np.add.at(losses.reshape(-1), hit, shocks.loss[rows])
        yield _rest(model, losses, passed, np.unique(hit), first)


def contagion_outcome(
    model: ContagionModel, shocks: Shocks, seen: Callable[[int], None] = lambda done: None
) -> ContagionOutcome:
    """Return what all scenarios come to; ``seen`` is told how many are done as they are."""
    before, every = unshocked_state(model), np.arange(len(model.scale))
    failed_before, had = model.fails(before.losses, every)[0], model.lost(before.losses, every)[0]
    at_once, taken = _alone(model, shocks, before.losses[0])
    hit = np.bincount(shocks.scenario, at_once, shocks.total).astype(np.int64)
    gone = np.bincount(shocks.scenario, taken, shocks.total)
    failures, money, rounds = np.empty(shocks.total, dtype=np.int64), np.empty(shocks.total), 0
    for rest in settle_scenarios(model, shocks, before):
        part = slice(rest.first, rest.first + len(rest.losses))
        failures[part] = model.fails(rest.losses, every).sum(axis=1) - failed_before.sum()
        money[part] = (model.lost(rest.losses, every) - had).sum(axis=1)
        rounds = max(rounds, rest.rounds)
        seen(part.stop)
    return ContagionOutcome(hit, failures - hit, np.maximum(money - gone, 0.0), rounds)


def _alone(model: ContagionModel, shocks: Shocks, losses: F8) -> tuple[B1, F8]:
    """Return, per row of shocks, whether its node fails by it alone and did not before, and the money it takes."""
    node = shocks.node
    start = losses[node]
    then = start + shocks.loss
    failed = model.fails(then, node) & ~model.fails(start, node)
    return failed, model.lost(then, node) - model.lost(start, node)


def _rest(model: ContagionModel, losses: F8, passed: F8, hit: I8, first: int) -> SettledScenarios:
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
            return SettledScenarios(first, losses, passed, entered.reshape(losses.shape), number)
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
