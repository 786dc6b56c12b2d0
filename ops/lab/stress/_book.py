"""Contagion of a run's own book: its network of claims, whose failure hurts most, and what clearing leaves unpaid.

Nodes are counterparties and the house. Claims are what counterparties owe us now, what clients have with us, and the
obligations of the records: the same as systemic stress is measured by. Own funds and default probabilities are those of
counterparties' records; the house has the equity of its own accounts. Where no record states own funds, twice of what
the node has lent is assumed, so the failure of others never makes it fail; where none states a default probability, the
node never fails in a joint draw. Such nodes are named. External assets are what own funds leave of the claims.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.forecasts import HOUSE_NODE
from seawall.operators.core.portfolio import Ledger, claims_of, own_funds_of
from seawall.ops.lab.stress._clearing import Clearing, clear_debts
from seawall.ops.lab.stress._models import (
    Ranking,
    debtrank,
    eisenberg_noe,
    estimate_losses,
    furfine,
    joint_failures,
    rank_failures,
    single_hit_debtrank,
)
from seawall.ops.lab.stress._network import (
    CELLS_MAX,
    ContagionModel,
    Network,
    Shocks,
    contagion_outcome,
    make_network,
    settle_scenarios,
    unshocked_state,
)
from seawall.schemas.errors import UsageError

F8 = NDArray[np.float64]
Json = dict[str, Any]
MODELS: Final = {"Eisenberg-Noe": eisenberg_noe, "Furfine": furfine, "DebtRank": debtrank}
LISTED_MAX: Final = 40
DRAWN_MAX: Final = 300
# Joint failures. The correlation is the upper end of the Basel formula for corporates (CRE31.5: 0.12 to 0.24).
JOINT_CORRELATION: Final = 0.24
JOINT_SCENARIOS: Final = 10_000
JOINT_SEED: Final = 1


class BookNetwork(NamedTuple):
    """A book's network, the nodes whose own funds are assumed, and the default probabilities that records state."""

    network: Network
    assumed: tuple[str, ...]
    default_probability: Mapping[str, float]


def book_network(ledgers: Iterable[Ledger]) -> BookNetwork:
    """Return the network of the ledgers of all shards, as they were last measured.

    Raises
    ------
    UsageError
        Nobody owes anybody anything.
    """
    claims: list[tuple[str, str, float]] = []
    told: dict[str, float] = {HOUSE_NODE: 0.0}
    stated: dict[str, float] = {}
    for ledger in ledgers:
        if not ledger.tables:
            ledger.measure(None)  # it comes from a snapshot
        found, ours = claims_of(ledger)
        claims += [claim for claim in found if claim[0] != claim[1]]
        told |= own_funds_of(ledger)
        told[HOUSE_NODE] += ours
        records = ledger.directory.counterparty_records.values()
        stated |= {one.counterparty: float(one.default_probability) for one in records if one.default_probability}
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
    return BookNetwork(made, assumed, {name: stated[name] for name in names if name in stated})


def rank_contagion(book: BookNetwork, cover: int = 2) -> Json:
    """Return the ranking of failures under each model, and what clearing, single hits and joint failures come to.

    Returns
    -------
    Json
        ``models``, each with failures ``alone`` and in ``covers``; ``clearing`` after the worst of Eisenberg-Noe's
        covers; ``single_hit``, DebtRank as first published; ``joint``, None where no record states a default
        probability; and ``picture``, the cascade to draw.
    """
    network = book.network
    found: Json = {"nodes": network.nodes, "claims": len(network.amount), "assumed": list(book.assumed), "models": {}}
    size = min(cover, network.nodes)
    for name, make in MODELS.items():
        model = make(network)
        found["models"][name] = _ranked(rank_failures(model, network.names, size, max(LISTED_MAX, size)))
        if name == "DebtRank":
            found["picture"] = _picture(network, model, _worst(found["models"][name]))
    return found | {
        "clearing": _cleared(network, _worst(found["models"]["Eisenberg-Noe"])),
        "single_hit": _single_hits(network),
        "joint": _joint_losses(book),
    }


def _ranked(found: Ranking) -> Json:
    return {"alone": [one._asdict() for one in found.alone[:LISTED_MAX]], "covers": [o._asdict() for o in found.covers]}


def _worst(ranked: Json) -> list[str]:
    """Return the nodes of the widest cover, or the worst single one."""
    (worst,) = ranked["covers"][-1:] or ranked["alone"][:1]
    return list(worst["nodes"])


def _cleared(network: Network, failing: list[str]) -> Json:
    """Return the clearing after some nodes have lost their external assets: who pays how much, and in which round.

    ``contagion`` is what claims lose beyond the clearing without that shock: the figure that Eisenberg-Noe's ranking
    gives for the same nodes, found by linear systems and not by rounds.
    """
    lost = np.isin(network.names, failing)
    before, after = clear_debts(network), clear_debts(network, np.where(lost, network.external_assets, 0.0))
    order: dict[int, int] = {}
    for number, broken in enumerate(after.rounds):
        order |= {at: number for at in broken if at not in order}
    rows = [
        {"node": network.names[at], "round": number, "owed": float(network.owed[at])}
        | {"paid": float(after.payments[at]), "worth": float(after.worth[at])}
        for at, number in sorted(order.items(), key=lambda item: (item[1], item[0]))
    ]
    contagion = _unpaid(network, after) - _unpaid(network, before)
    return {
        "nodes": failing, "contagion": contagion, "rounds": len(after.rounds), "defaults": len(rows),
        "before": len(before.rounds[-1]) if before.rounds else 0, "payments": rows[:LISTED_MAX],
    }  # fmt: skip


def _unpaid(network: Network, found: Clearing) -> float:
    """Return what is not paid of the claims inside the network; debts outside share alike and are left out."""
    share = 1.0 - found.payments / np.where(network.owed > 0, network.owed, 1.0)
    return float((network.amount * share[network.borrower]).sum())


def _single_hits(network: Network) -> Json:
    """Return DebtRank of 2012 for every node, the worst first, and for no failure at all.

    A node without equity has failed before; what it passes on is in ``before``, and in every other figure too.
    """
    nodes, size = network.nodes, max(CELLS_MAX // network.nodes, 1)
    found = [single_hit_debtrank(network, np.eye(nodes)[first : first + size]) for first in range(0, nodes, size)]
    ranks = np.concatenate(found)
    alone = [
        {"nodes": [network.names[at]], "debtrank": float(ranks[at])}
        for at in np.argsort(-ranks, kind="stable")[:LISTED_MAX].tolist()
    ]
    return {"before": float(single_hit_debtrank(network, np.zeros((1, nodes)))[0]), "alone": alone}


def _joint_losses(book: BookNetwork) -> Json | None:
    """Return what others lose when nodes fail together at random, under each model; None: no probability is stated."""
    network, stated = book.network, book.default_probability
    if not stated:
        return None
    probability = np.array([stated.get(name, 0.0) for name in network.names])
    found: Json = {
        "correlation": JOINT_CORRELATION, "scenarios": JOINT_SCENARIOS, "seed": JOINT_SEED,
        "default_probability": dict(stated), "unknown": [name for name in network.names if name not in stated],
        "models": {},
    }  # fmt: skip
    for name, make in MODELS.items():
        model = make(network)
        drawn = joint_failures(model, probability, JOINT_CORRELATION, JOINT_SCENARIOS, JOINT_SEED)
        losses = estimate_losses(contagion_outcome(model, drawn).contagion)
        found["models"][name] = {part: getattr(losses, part)._asdict() for part in ("mean", "quantile", "shortfall")}
    return found


def _picture(network: Network, model: ContagionModel, failing: Iterable[str]) -> Json:
    """Return nodes and edges of the cascade after some nodes fail, those with the largest claims and debts."""
    hit = np.array([network.names.index(name) for name in failing])
    every = np.arange(network.nodes)
    (rest,) = settle_scenarios(
        model, Shocks.failing(model, np.zeros(len(hit), dtype=np.int64), hit, 1), unshocked_state(model)
    )
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
