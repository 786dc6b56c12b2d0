"""Margin agreements as ``seawall saccr`` takes them: what is held, what may stay uncalled, how long close-out takes."""

from dataclasses import dataclass, replace

from seawall.operators.core.saccr.document import Fields
from seawall.operators.core.saccr.saccr_parameters import margin_period_floor


@dataclass(frozen=True, slots=True)
class MarginTerms:
    """Terms and holdings of one margin agreement, in the reporting currency; ``margin_period`` in business days.

    ``collateral`` is C: everything held after haircuts, net, variation margin and independent amounts once each.
    """

    margined: bool = False
    collateral: float = 0.0
    threshold: float = 0.0
    minimum_transfer_amount: float = 0.0
    net_independent_amount: float = 0.0
    margin_period: float = 0.0
    notes: tuple[str, ...] = ()

    def unmargined(self) -> "MarginTerms":
        """Return the same holdings without the agreement: what the cap of CRE52.2 compares with."""
        return replace(self, margined=False, margin_period=0.0, notes=())


def read_terms(value: object, where: str, trades: int) -> MarginTerms:
    """Return the terms of ``margin_agreement``; none at all is an unmargined set without collateral.

    Raises
    ------
    DocumentError
        For a field that is missing, unknown or of a wrong sign, and for terms without a margin period.
    """
    if value is None:
        return MarginTerms()
    fields = Fields(value, where, "margin_agreement.")
    margined, they_post = fields.flag("margined", False), fields.flag("they_post", True)
    independent = fields.number("NICA", 0.0)
    threshold, transfer = fields.number("TH", 0.0, low=0.0), fields.number("MTA", 0.0, low=0.0)
    notes: list[str] = []
    if fields.has("VM_held"):
        implied = independent + fields.number("VM_held")
        collateral = fields.number("C", implied)
        if abs(collateral - implied) > 1e-9 * max(abs(collateral), abs(implied), 1.0):
            notes.append(f"C {collateral:.15g} is used; it is not VM_held + NICA = {implied:.15g}")
    else:
        collateral = fields.number("C", None if margined else independent)
    if margined and not they_post:
        notes.append("only we post variation margin: unmargined (CRE52.2)")
    days = _margin_period(fields, trades, margined and they_post, notes)
    fields.finish()
    is_margined = margined and they_post
    return MarginTerms(is_margined, collateral, threshold, transfer, independent, days, tuple(notes))


def _margin_period(fields: Fields, trades: int, margined: bool, notes: list[str]) -> float:
    """Return the higher of the estimate and its floor (CRE52.50), 0 for an unmargined set."""
    stated = fields.has("mpor_days") or fields.has("remargin_business_days")
    floor = margin_period_floor(
        fields.number("remargin_business_days", 1.0, low=1.0),
        fields.flag("centrally_cleared", False),
        max(trades, fields.count("number_of_trades")),
        fields.flag("illiquid", False),
        fields.count("long_disputes"),
    )
    estimate = fields.positive("mpor_days") if fields.has("mpor_days") else floor
    if not margined:
        return 0.0
    if not stated:
        fields.refuse("mpor_days", "MARGIN_PERIOD_IS_REQUIRED", "give mpor_days or remargin_business_days")
    if estimate < floor:
        notes.append(f"mpor_days {estimate:g} is below its floor, {floor:g} is used (CRE52.50-52.51)")
    return max(estimate, floor)


def add_up(terms: list[MarginTerms]) -> MarginTerms:
    """Return what several agreements in one netting set amount to for its replacement cost (CRE52.74 FAQ 1).

    Collateral, independent amounts, thresholds and transfer amounts are each added over the agreements; the set is
    margined where any of them is.
    """
    total = MarginTerms()
    for one in terms:
        total = MarginTerms(
            total.margined or one.margined,
            total.collateral + one.collateral,
            total.threshold + one.threshold,
            total.minimum_transfer_amount + one.minimum_transfer_amount,
            total.net_independent_amount + one.net_independent_amount,
            max(total.margin_period, one.margin_period),
            total.notes + one.notes,
        )
    return total
