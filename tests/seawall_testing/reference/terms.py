"""Reference records in force by id, and the switches between the contract's rules and those of before."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from seawall_testing.reference.numbers import ONE, ZERO, exact

Json = dict[str, Any]
REFERENCE = {
    "asset": "asset", "instrument": "instrument", "counterparty": "counterparty", "netting_set": "netting_set",
    "account": "account",
}  # fmt: skip
SECOND = 1_000_000


@dataclass(frozen=True)
class Rules:
    """Definitions that a comparison may turn back to those of before; all on is the contract.

    Attributes
    ----------
    standing_decays
        A fresh price of a lower rung replaces a higher one older than ``mark_max_age_us``.
    intervals
        What has no price is an interval; off: it counts 0.
    all_holdings
        Delta and net notional count spot balances and coin collateral; off: positions alone.
    deposits_at_market
        What is owed to us for a deposit is its market value; off: the asset's haircut cuts it.
    funding_matched
        A payment closes one accrual, whichever comes first; off: it ends all accruals in its asset, before it.
    bilateral_maturity
        SA-CCR takes the remaining maturity of trades that are not settled daily; off: the floor for all.
    options_from_forward
        Options are valued by Black at ``as_of``; off: at their own last mark.
    ead_follows
        Exposure at default is of now; off: it is compared where it was computed anew alone.
    premium_is_paid
        The premium of an `upfront` option leaves the balance; off: it stays entry cost.
    undone_as_never
        A bust leaves the average entry as though the fill had never been; off: it is a trade the other way.
    """

    standing_decays: bool = True
    intervals: bool = True
    all_holdings: bool = True
    deposits_at_market: bool = True
    funding_matched: bool = True
    bilateral_maturity: bool = True
    options_from_forward: bool = True
    undone_as_never: bool = True
    premium_is_paid: bool = True
    ead_follows: bool = True
    mark_max_age_us: int = 60 * SECOND
    unvalued_factor: Fraction = Fraction(3)
    unvalued_tolerance: Fraction = Fraction(1, 100)
    peg_haircut: Fraction = Fraction(2, 100)
    confirm_tolerance: Fraction = Fraction(1, 100)
    confirm_us: int = 30 * SECOND
    peg_tolerance: Fraction = Fraction(2, 100)
    peg_return_us: int = 3600 * SECOND
    slice_us: int = 100_000
    reporting: str = "USD"


CONTRACT = Rules()
# What the code follows by now; streams are short, so a peg is back within a minute.
LANDED = Rules(peg_return_us=40 * SECOND)


@dataclass
class Terms:
    """Reference records in force, as the records themselves."""

    assets: dict[str, Json] = field(default_factory=dict)
    instruments: dict[str, Json] = field(default_factory=dict)
    counterparties: dict[str, Json] = field(default_factory=dict)
    netting_sets: dict[str, Json] = field(default_factory=dict)
    accounts: dict[str, Json] = field(default_factory=dict)
    schedules: dict[tuple[str, str], Json] = field(default_factory=dict)
    collateral_schedules: dict[tuple[str, str], Json] = field(default_factory=dict)


def terms_of(events: Iterable[Json]) -> Terms:
    """Return the reference records of some events; a later one replaces the earlier one of its id."""
    terms = Terms()
    for event in events:
        kind = event["type"]
        if kind in REFERENCE:
            getattr(terms, kind + "s" if kind != "counterparty" else "counterparties")[event[REFERENCE[kind]]] = event
        elif kind == "schedule":
            terms.schedules[event["venue"], event["instrument"]] = event
        elif kind == "collateral_schedule":
            terms.collateral_schedules[event["venue"], event["asset"]] = event
    return terms


def size(instrument: Json) -> Fraction:
    """Return the contract size."""
    return exact(instrument.get("contract_size", 1))


def underlying(instrument: Json) -> str:
    """Return the risk factor."""
    return str(instrument.get("underlying", instrument["base"]))


def unit_value(instrument: Json, price: Fraction) -> Fraction:
    """Return what one unit is worth in the settlement asset, up to a constant: linear and quanto +P, inverse -1/P."""
    if instrument.get("inverse", False) and instrument["kind"] != "option":
        return -size(instrument) / price
    return size(instrument) * price


def is_upfront(instrument: Json, rules: Rules) -> bool:
    """Tell an option whose premium is paid when it is bought."""
    return (
        rules.premium_is_paid and instrument["kind"] == "option" and instrument.get("premium", "upfront") == "upfront"
    )


def haircut(terms: Terms, asset: str) -> Fraction:
    """Return an asset's haircut as collateral."""
    return exact(terms.assets.get(asset, {}).get("haircut", 0))


def collateral_schedule(terms: Terms, account: Json, asset: str) -> Json | None:
    """Return the schedule in force of an account's venue for an asset."""
    found = terms.collateral_schedules.get((account.get("venue", ""), asset))
    return None if found is None or found.get("status") == "closed" else found


def lending_units(terms: Terms, account: Json, asset: str, amount: Fraction) -> Fraction:
    """Return the units of a balance that count as collateral: by its venue's tiers, else by the asset's haircut.

    Each tier counts what lies in it, nothing beyond the cap counts, and a debt counts ``borrow_weight`` times.
    """
    schedule = collateral_schedule(terms, account, asset)
    if schedule is None:
        return amount * (1 - haircut(terms, asset)) if amount > 0 else amount
    if amount <= 0:
        return amount * exact(schedule.get("borrow_weight", 1))
    counted = min(amount, exact(schedule["cap"])) if "cap" in schedule else amount
    starts = [exact(tier["amount_from"]) for tier in schedule["tiers"]]
    ends = [*starts[1:], counted]
    return sum(
        (max(min(counted, end) - start, ZERO) * (1 - exact(tier["haircut"]))
         for tier, start, end in zip(schedule["tiers"], starts, ends, strict=True)),
        ZERO,
    )  # fmt: skip


def margin_rate(
    terms: Terms, account: Json, instrument: Json, notional: Fraction, side: str
) -> tuple[Fraction, Fraction]:
    """Return rate and deduction of ``initial`` or ``maintenance`` margin: the venue's tier, else the instrument's."""
    key = f"{side}_margin_rate"
    schedule = terms.schedules.get((account.get("venue", ""), instrument["instrument"]))
    if account.get("margin_model", "rate") == "schedule" and schedule is not None:
        reached = [tier for tier in schedule["tiers"] if exact(tier["notional_from"]) <= notional]
        if reached:
            tier = max(reached, key=lambda tier: exact(tier["notional_from"]))
            return exact(tier[key]), exact(tier.get("deduction", 0))
    return exact(instrument.get(key, 0)), ZERO


def sign(account: Json) -> Fraction:
    """Return +1 for our account, -1 for one that a counterparty holds with us."""
    return ONE if account["holder"] == "house" else -ONE
