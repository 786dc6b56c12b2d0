"""Networks of banks in CSV files, which the benchmark of contagion reads."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seawall.ops.lab.stress import make_network
from seawall.ops.lab.stress._network import Network
from seawall.schemas.errors import UsageError

F8 = NDArray[np.float64]


@dataclass(frozen=True)
class Loaded:
    """A network read from files, and what was not taken as it stood there."""

    network: Network
    negative_claims: int
    insolvent: int


def read_network(nodes: Path, edges: Path) -> Loaded:
    """Read balance sheets and claims from two CSV files (``.gz`` too); the source of an edge is its lender.

    Nodes have ``Total_assets``, ``Total_liabilities`` and ``Equity``, edges ``Sourceid``, ``Targetid``, ``Weights``. A
    claim below 0 is none: it is left out and counted. What is not lent inside is external; where more is lent inside
    than a node has in all, its external assets are 0.
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
    return Loaded(made, int((~kept).sum()), int((sheet[3] <= 0).sum()))


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
