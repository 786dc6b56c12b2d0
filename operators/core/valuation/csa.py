"""Netting-set collateral terms: what is held, what may stay uncalled, and what is to be called or returned.

Everything is signed from our side: value that they owe us and collateral that they gave us count positive.

1. Collateral received counts less its haircut, collateral posted counts plus its haircut (CRE52.11).
2. Variation margin and independent amounts count once each: C = net variation margin + NICA.
3. NICA is every independent amount received, segregated or not, less those that we posted unsegregated; what we posted
   into a bankruptcy-remote account comes back and counts nowhere (CRE52.17).
4. A call brings what was delivered to what is required: exposure beyond the threshold of the side that owes, plus the
   independent amount beside it, not inside it. Nothing moves below the minimum transfer amount of the side that
   would transfer. What is delivered is rounded up, what is returned is rounded down.

Arrays have the shape (netting sets,) or (holdings,), amounts are in the reporting currency.

References
----------
Basel Framework CRE52.10-52.19. ISDA 1994 Credit Support Annex (New York law), paragraphs 3 and 13(b): delivery and
return amounts, threshold, minimum transfer amount, rounding.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.saccr import saccr_formulas as formulas

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
B1 = NDArray[np.bool_]
AMOUNTS: Final = (
    "threshold",
    "minimum_transfer_amount",
    "our_threshold",
    "our_minimum_transfer_amount",
    "rounding",
)


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of netting sets; ``threshold`` and ``minimum_transfer_amount`` are theirs, ``our_…`` ours.

    ``independent_amount`` is what one side owes beside variation margin: positive in our favour. ``rounding`` is the
    unit of a transfer, 0 for none.
    """

    margined: B1
    they_post: B1
    we_post: B1
    threshold: F8
    minimum_transfer_amount: F8
    our_threshold: F8
    our_minimum_transfer_amount: F8
    independent_amount: F8
    rounding: F8


@dataclass(frozen=True, slots=True)
class Holdings:
    """Pieces of collateral: value before haircut (negative: posted by us), haircut (a fraction), and what it is."""

    netting_set: I8
    value: F8
    haircut: F8
    independent: B1
    segregated: B1


@dataclass(frozen=True, slots=True)
class Collateral:
    """What the holdings of each netting set amount to after haircuts.

    ``variation`` is net variation margin, ``net_independent`` NICA, ``collateral`` C. ``delivered`` also counts what
    we posted into segregated accounts: it was asked for and given, and only a call needs it.
    """

    variation: F8
    net_independent: F8
    collateral: F8
    delivered: F8


@dataclass(frozen=True, slots=True)
class Calls:
    """What is due now: ``call`` from them (of which ``returned`` was ours), ``due`` from us; at most one is above 0."""

    call: F8
    due: F8
    returned: F8
    required: F8


def terms_fault(name: str, value: float) -> str | None:
    """Return the rule that a term breaks, None where it breaks none.

    Examples
    --------
    >>> terms_fault("threshold", -1.0)
    'THRESHOLD_MUST_NOT_BE_NEGATIVE'
    """
    if not abs(value) < float("inf"):
        return f"{name.upper()}_MUST_BE_FINITE"
    if name in AMOUNTS and value < 0:
        return f"{name.upper()}_MUST_NOT_BE_NEGATIVE"
    return "HAIRCUT_MUST_BE_0_TO_1" if name == "haircut" and not 0 <= value <= 1 else None


def collateral_held(holdings: Holdings, netting_sets: int) -> Collateral:
    """Return what is held per netting set; an unpriced piece is value 0 here and is reported by the caller.

    Examples
    --------
    >>> both = np.zeros(2, np.int64)
    >>> pieces = Holdings(both, np.array([80.0, 12.5]), np.array([0.0, 0.2]), np.array([False, True]), both > 0)
    >>> held = collateral_held(pieces, 1)
    >>> float(held.variation[0]), float(held.net_independent[0]), float(held.collateral[0])
    (80.0, 10.0, 90.0)
    """
    ours, counted = holdings.value < 0, holdings.value
    if holdings.haircut.any():
        counted = counted * np.where(ours, 1.0 + holdings.haircut, 1.0 - holdings.haircut)
    remote = ours & holdings.segregated
    if not (holdings.independent.any() or holdings.segregated.any()):
        variation = np.bincount(holdings.netting_set, counted, netting_sets).astype(np.float64)
        return Collateral(variation, np.zeros(netting_sets), variation, variation)
    variation = _totals(holdings.netting_set, counted, ~holdings.independent & ~remote, netting_sets)
    independent = _totals(holdings.netting_set, counted, holdings.independent & ~remote, netting_sets)
    given_remote = _totals(holdings.netting_set, counted, remote, netting_sets)
    held = variation + independent
    return Collateral(variation, independent, held, held + given_remote)


def margin_calls(terms: Terms, value: F8, delivered: F8) -> Calls:
    """Return the transfers that are due on netting sets of market value ``value``.

    Parameters
    ----------
    terms
        An unmargined set calls for its independent amount only.
    value : float64
        Market value of the trades; NaN (a missing mark) gives NaN amounts.
    delivered : float64
        ``Collateral.delivered``.

    Examples
    --------
    >>> one, yes = (lambda x: np.array([x])), np.array([True])
    >>> terms = Terms(yes, yes, yes, *(one(x) for x in (10.0, 1.0, 0.0, 1.0, 5.0, 0.5)))
    >>> calls = margin_calls(terms, one(42.2), one(20.0))
    >>> float(calls.required[0]), float(calls.call[0])
    (37.2, 17.5)
    """
    theirs = np.where(terms.margined & terms.they_post, np.maximum(value - terms.threshold, 0.0), 0.0 * value)
    ours = np.where(terms.margined & terms.we_post, np.maximum(-value - terms.our_threshold, 0.0), 0.0 * value)
    required = theirs - ours + terms.independent_amount
    change = required - delivered
    from_them = np.where(change >= terms.minimum_transfer_amount, np.maximum(change, 0.0), 0.0 * change)
    from_us = np.where(-change >= terms.our_minimum_transfer_amount, np.maximum(-change, 0.0), 0.0 * change)
    call, returned = _rounded(from_them, np.maximum(-delivered, 0.0), terms.rounding)
    due, _ = _rounded(from_us, np.maximum(delivered, 0.0), terms.rounding)
    return Calls(call, due, returned, required)


def replacement_costs(terms: Terms, value: F8, held: Collateral) -> F8:
    """Return the replacement cost: margined where they post variation margin, otherwise unmargined (CRE52.2, 52.18)."""
    margined = formulas.margined_replacement_cost(
        value, held.collateral, terms.threshold, terms.minimum_transfer_amount, held.net_independent
    )
    plain = formulas.replacement_cost(value, held.collateral)
    return np.where(terms.margined & terms.they_post, margined, plain)


def _totals(netting_set: I8, values: F8, chosen: B1, netting_sets: int) -> F8:
    weights = np.where(chosen, values, 0.0)
    return np.bincount(netting_set, weights=weights, minlength=netting_sets).astype(np.float64)


def _rounded(amount: F8, returnable: F8, unit: F8) -> tuple[F8, F8]:
    """Return a transfer and the part of it that gives back, in whole units: returns down, deliveries up."""
    back = np.minimum(amount, returnable)
    if not unit.any():
        return amount, back
    fresh = amount - back
    step = np.where(unit > 0, unit, 1.0)
    back = np.where(unit > 0, np.floor(back / step) * step, back)
    fresh = np.where(unit > 0, np.ceil(fresh / step) * step, fresh)
    return back + fresh, back
