"""A network of claims: who lent what to whom, and the balance sheet around it.

Claims are kept in columns, one row per claim, and turned once into two sparse matrices: by borrower, so that what a
failure does to its lenders is one slice, and by lender. The balance sheet of each node has what it owns and owes
outside the network beside them.

Equity is what the balance sheet states where it states it. A node whose equity is at or below 0 has failed before any
shock: its lenders bear that in every scenario, also in the one without a shock (:mod:`.contagion`).
"""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from seawall.schemas.errors import UsageError

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


@dataclass(frozen=True)
class Loaded:
    """A network read from files, and what was not taken as it stood there."""

    network: Network
    negative_claims: int
    assets_raised: int
    insolvent: int


def read_network(nodes: Path, edges: Path) -> Loaded:
    """Read balance sheets and claims from two CSV files (``.gz`` too); the source of an edge is its lender.

    Nodes have ``Total_assets``, ``Total_liabilities`` and ``Equity``, edges ``Sourceid``, ``Targetid``, ``Weights``. A
    claim below 0 is none: it is left out and counted. What is not lent inside is external; where more is lent inside
    than a node has in all, its external assets are 0, and it is counted as raised.
    """
    sheet, claims = _columns(nodes, 4), _columns(edges, 3)
    lender, borrower = claims[0].astype(np.int64), claims[1].astype(np.int64)
    kept = claims[2] >= 0
    lender, borrower, amount = lender[kept], borrower[kept], claims[2][kept]
    count = sheet.shape[1]
    outside = sheet[1] - np.bincount(lender, amount, count)
    debts = np.maximum(sheet[2] - np.bincount(borrower, amount, count), 0.0)
    names = [str(int(value)) for value in sheet[0]]
    made = make_network((lender, borrower, amount), np.maximum(outside, 0.0), debts, sheet[3], names)
    return Loaded(made, int((~kept).sum()), int((outside < 0).sum()), int((sheet[3] <= 0).sum()))


def _columns(path: Path, count: int) -> F8:
    """Return the first columns of a CSV with a header, shape (columns, rows)."""
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            rows = list(csv.reader(file))[1:]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; name an existing file") from error
    try:
        return np.array([[float(value) for value in row[:count]] for row in rows]).T
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}; the first {count} columns must be numbers") from error
