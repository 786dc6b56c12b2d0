"""The network of claims that a run's book holds, and whose failure in it hurts most.

Nodes are counterparties and the house. Claims are what counterparties owe us now, what clients have with us, and the
obligations that records tell of: the same as systemic stress is measured by. Own funds are those of counterparties'
records; the house has the equity of its own accounts. Of whom nobody told own funds, twice of what it has lent is
assumed, so the failure of others never makes it fail; such nodes are named.

What a node has and owes beside these claims is not known: external assets are what its own funds leave of them.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np

from seawall.operators.core.foresight.contagion import HOUSE
from seawall.operators.core.ledger import Ledger
from seawall.operators.core.surroundings import claims_of, own_funds_of
from seawall.ops.lab.cascade.contagion import Model, Shocks, calm, spread
from seawall.ops.lab.cascade.models import debtrank, eisenberg_noe, furfine
from seawall.ops.lab.cascade.network import Network, make_network
from seawall.ops.lab.cascade.ranking import Ranking, rank_failures
from seawall.schemas.errors import UsageError

Json = dict[str, Any]
MODELS: Final = {"Eisenberg-Noe": eisenberg_noe, "Furfine": furfine, "DebtRank": debtrank}
LISTED_MAX: Final = 40
DRAWN_MAX: Final = 300


class Held(NamedTuple):
    """A book's network, and the nodes whose own funds are assumed."""

    network: Network
    assumed: tuple[str, ...]


def held(ledgers: Iterable[Ledger]) -> Held:
    """Return the network of the ledgers of all shards, as they were last measured.

    Raises
    ------
    UsageError
        Nobody owes anybody anything.
    """
    claims: list[tuple[str, str, float]] = []
    told: dict[str, float] = {HOUSE: 0.0}
    for ledger in ledgers:
        if not ledger.tables:
            ledger.remeasure()  # it comes from a snapshot
        found, ours = claims_of(ledger)
        claims += [claim for claim in found if claim[0] != claim[1]]
        told |= own_funds_of(ledger)
        told[HOUSE] += ours
    if not claims:
        raise UsageError("nobody in this book owes anybody anything; contagion needs claims (obligation records)")
    debtors, creditors, amounts = zip(*claims, strict=True)
    names = sorted({*debtors, *creditors})
    number = {name: at for at, name in enumerate(names)}
    borrower, lender = (np.array([number[name] for name in side]) for side in (debtors, creditors))
    amount = np.array(amounts)
    lent, owed = (np.bincount(side, amount, len(names)) for side in (lender, borrower))
    assumed = tuple(name for name in names if name not in told)
    equity = np.array([told.get(name, np.nan) for name in names])
    equity = np.where(np.isnan(equity), 2.0 * lent + 1.0, equity)
    outside = equity - lent + owed
    made = make_network((lender, borrower, amount), np.maximum(outside, 0.0), np.maximum(-outside, 0.0), equity, names)
    return Held(made, assumed)


def contagion(book: Held, cover: int = 2) -> Json:
    """Return who hurts most by failing, alone and together, under each model, and the worst cover to draw."""
    network = book.network
    found: Json = {"nodes": network.nodes, "claims": len(network.amount), "assumed": list(book.assumed), "models": {}}
    size = min(cover, network.nodes)
    for name, make in MODELS.items():
        model = make(network)
        found["models"][name] = _ranked(rank_failures(model, network.names, size, max(LISTED_MAX, size)))
        if name == "DebtRank":
            worst = found["models"][name]["covers"][-1:] or found["models"][name]["alone"][:1]
            found["picture"] = _picture(network, model, worst[0]["nodes"])
    return found


def _ranked(found: Ranking) -> Json:
    return {"alone": [one._asdict() for one in found.alone[:LISTED_MAX]], "covers": [o._asdict() for o in found.covers]}


def _picture(network: Network, model: Model, failing: Iterable[str]) -> Json:
    """Return nodes and edges of the cascade after some nodes fail, those with the largest claims and debts."""
    hit = np.array([network.names.index(name) for name in failing])
    every = np.arange(network.nodes)
    (rest,) = spread(model, Shocks.failing(model, np.zeros(len(hit), dtype=np.int64), hit, 1), calm(model))
    failed, size = model.fails(rest.losses, every)[0], network.lent + network.owed
    shown = sorted({*np.argsort(-size, kind="stable")[:DRAWN_MAX].tolist(), *hit.tolist()})
    rounds = {at: max(int(rest.entered[0, at]), 0) if failed[at] else None for at in shown}
    kept = np.isin(network.borrower, shown) & np.isin(network.lender, shown)
    return {
        "nodes": [{"id": network.names[at], "size": float(size[at]), "round": rounds[at]} for at in shown],
        "edges": [
            [network.names[network.borrower[row]], network.names[network.lender[row]], float(network.amount[row])]
            for row in kept.nonzero()[0].tolist()
        ],
    }
