"""Inputs of SA-CCR: the supervisor's parameters, and trades and margin agreements as documents state them."""

from dataclasses import dataclass, replace
from typing import Any, Final

from seawall.operators.core.base import DocumentError, DocumentFields, shown_value

# Supervisory parameters of SA-CCR: factors, correlations, volatilities, floors, and the crypto regimes.
#
# Every number is a fraction unless its name says otherwise. CRE52 knows no crypto class: each regime that adds one is
# a named parameter set, and a set that was not read in its source says so in ``status``, which every result repeats.
#
# References
# ----------
# Basel Framework CRE52 (version effective 1 January 2023): Table 2 in CRE52.72; the rest as cited.
# OSFI, "Interim arrangements for the regulatory capital and liquidity treatment of cryptoasset exposures" (Advisory,
# Q2 2023), section 4.2.
# Basel Framework SCO60 (BCBS d545, December 2022, revised July 2024).

ALPHA: Final = 1.4  # CRE52.1
MULTIPLIER_FLOOR: Final = 0.05  # CRE52.23
BUSINESS_DAYS_PER_YEAR: Final = 250.0  # CRE52.49 and 52.53
MATURITY_FLOOR_DAYS: Final = 10.0  # for M (CRE52.48) and for the supervisory duration (CRE52.34)
DURATION_RATE: Final = 0.05  # CRE52.34
BASIS_FACTOR: Final = 0.5  # CRE52.46
VOLATILITY_FACTOR: Final = 5.0  # CRE52.47
ADJACENT_BUCKETS: Final = 1.4  # interest-rate buckets 1-2 and 2-3 (CRE52.57)
DISTANT_BUCKETS: Final = 0.6  # interest-rate buckets 1-3 (CRE52.57)

MARGIN_PERIOD_DAYS: Final = 10.0  # CRE52.50(1)
CLEARED_MARGIN_PERIOD_DAYS: Final = 5.0  # CRE54, clearing members' client trades
LONG_MARGIN_PERIOD_DAYS: Final = 20.0  # CRE52.51(1) and (2)
MANY_TRADES: Final = 5000  # CRE52.51(1): more than this
MANY_DISPUTES: Final = 2  # CRE52.51(3): more than this

DIGITAL_COLLAR: Final = (0.95, 1.05)  # CRE52.42(3)


@dataclass(frozen=True, slots=True)
class SupervisoryRow:
    """One row of Table 2: supervisory factor, correlation (0 where none applies) and option volatility per year^0.5."""

    factor: float
    correlation: float
    volatility: float


@dataclass(frozen=True, slots=True)
class CryptoRegime:
    """Treatment of derivatives on crypto assets by one supervisor: the mathematics of FX with other numbers."""

    name: str
    status: str
    parameters: SupervisoryRow
    own_netting_set: bool
    source: str


SUPERVISORY: Final[dict[tuple[str, str], SupervisoryRow]] = {
    ("IR", ""): SupervisoryRow(0.005, 0.0, 0.5),
    ("FX", ""): SupervisoryRow(0.04, 0.0, 0.15),
    ("CR", "AAA"): SupervisoryRow(0.0038, 0.5, 1.0),
    ("CR", "AA"): SupervisoryRow(0.0038, 0.5, 1.0),
    ("CR", "A"): SupervisoryRow(0.0042, 0.5, 1.0),
    ("CR", "BBB"): SupervisoryRow(0.0054, 0.5, 1.0),
    ("CR", "BB"): SupervisoryRow(0.0106, 0.5, 1.0),
    ("CR", "B"): SupervisoryRow(0.016, 0.5, 1.0),
    ("CR", "CCC"): SupervisoryRow(0.06, 0.5, 1.0),
    ("CR", "IX_IG"): SupervisoryRow(0.0038, 0.8, 0.8),
    ("CR", "IX_SG"): SupervisoryRow(0.0106, 0.8, 0.8),
    ("EQ", "SN"): SupervisoryRow(0.32, 0.5, 1.2),
    ("EQ", "IX"): SupervisoryRow(0.2, 0.8, 0.75),
    ("EQ", "CRYPTO"): SupervisoryRow(0.4, 0.5, 1.5),  # OSFI: funds and other indirect crypto exposures
    ("CO", "ELECTRICITY"): SupervisoryRow(0.4, 0.4, 1.5),
    ("CO", "ENERGY"): SupervisoryRow(0.18, 0.4, 0.7),
    ("CO", "METALS"): SupervisoryRow(0.18, 0.4, 0.7),
    ("CO", "AGRICULTURAL"): SupervisoryRow(0.18, 0.4, 0.7),
    ("CO", "OTHER"): SupervisoryRow(0.18, 0.4, 0.7),
}

CRYPTO_REGIMES: Final[dict[str, CryptoRegime]] = {
    "osfi": CryptoRegime(
        name="osfi",
        status="sourced",
        parameters=SupervisoryRow(0.4, 0.0, 1.5),
        own_netting_set=True,
        source="OSFI interim advisory on cryptoasset exposures (in force to the end of fiscal 2025), section 4.2",
    ),
    "basel": CryptoRegime(
        name="basel",
        status="to confirm",
        parameters=SupervisoryRow(0.32, 0.0, 1.2),
        own_netting_set=False,
        source="Basel SCO60, Group 2a (July 2024): factor and volatility from memory, the passage was not read",
    ),
}
CRYPTO_REGIME_DEFAULT: Final = "osfi"  # the stricter of the two and the one that was read


def margin_period_floor(
    remargin_business_days: float, centrally_cleared: bool, trades: int, illiquid: bool, long_disputes: int
) -> float:
    """Return the floor of the margin period of risk in business days (CRE52.50-52.51).

    Parameters
    ----------
    remargin_business_days
        Business days between two margin calls; 1 is daily.
    centrally_cleared
        Whether the set faces a central counterparty (or is a client's set with a clearing member).
    trades
        Number of trades in the netting set.
    illiquid
        Whether the set holds illiquid collateral or a trade that cannot be easily replaced.
    long_disputes
        Margin disputes of the last two quarters that outlasted the margin period.

    Examples
    --------
    >>> margin_period_floor(5, False, 6, False, 0)
    14.0
    """
    base = CLEARED_MARGIN_PERIOD_DAYS if centrally_cleared else MARGIN_PERIOD_DAYS
    floor = base - 1.0 + remargin_business_days
    if illiquid or (trades > MANY_TRADES and not centrally_cleared):
        floor = max(floor, LONG_MARGIN_PERIOD_DAYS)
    return 2.0 * floor if long_disputes > MANY_DISPUTES else floor


# The trades of a netting set as ``seawall saccr`` takes them, read strictly.
#
# A trade that breaks a rule, alone or beside the others, is refused with one line that names it, the field and the
# rule. Fields that only describe (``nature``, ``published``, …) may stand anywhere and are not read. The form in full:
# `exposure_at_default`.

ASSET_CLASSES = ("IR", "FX", "CR", "EQ", "CO", "CRYPTO")
PRICED_CLASSES = frozenset({"FX", "EQ", "CO", "CRYPTO"})  # adjusted notional = price x units, no duration
SUBCLASS_NAMES = {
    "CR": {"IG": "IX_IG", "SG": "IX_SG"},
    "EQ": {"": "SN", "SINGLE_NAME": "SN", "SINGLE NAME": "SN", "INDEX": "IX"},
    "CO": {"AGRICULTURE": "AGRICULTURAL"},
}


@dataclass(frozen=True, slots=True)
class OptionTerms:
    """An option's terms: price and strike in one unit, expiry in years; no volatility is the supervisory one."""

    call: bool
    bought: bool
    price: float
    strike: float
    expiry: float
    volatility: float | None
    shift: float
    digital_payoff: float | None


@dataclass(frozen=True, slots=True)
class SaccrTrade:
    """One trade: ``notional`` and ``value`` in the reporting currency, times in years."""

    id: str
    asset_class: str
    hedging_set: str
    entity: str
    subclass: str
    transaction: str
    basis: str
    long: bool
    notional: float
    value: float
    maturity: float
    start: float
    end: float
    option: OptionTerms | None
    tranche: tuple[float, float] | None


def read_trades(values: list[Any], where: str) -> tuple[SaccrTrade, ...]:
    """Return the trades of one netting set; refuse those that contradict themselves or each other.

    Raises
    ------
    DocumentError
        For the first trade that breaks a rule.
    """
    trades = tuple(_read_trade(value, number, where) for number, value in enumerate(values, 1))
    seen: set[str] = set()
    agreed: dict[tuple[str, ...], tuple[str, str | float]] = {}
    for trade in trades:
        place = _place(where, trade.id)
        if trade.id in seen:
            raise DocumentError(place, "id", "TRADE_ID_MUST_BE_UNIQUE")
        seen.add(trade.id)
        for key, value, field, rule in _agreements(trade):
            other, first = agreed.setdefault(key, (trade.id, value))
            if first != value:
                raise DocumentError(
                    place, field, rule, f"{shown_value(value)}, but {shown_value(first)} in trade {other}"
                )
    return trades


def _agreements(trade: SaccrTrade) -> list[tuple[tuple[str, ...], str | float, str, str]]:
    """Fields in which all trades on one factor must agree: ``(key, value, field, rule)``."""
    rules: list[tuple[tuple[str, ...], str | float, str, str]] = []
    if trade.entity:
        key = ("entity", trade.asset_class, trade.hedging_set, trade.entity)
        rules.append((key, trade.subclass, "subclass", "ENTITY_MUST_HAVE_ONE_SUBCLASS"))
    if trade.asset_class in ("FX", "CRYPTO"):
        legs = tuple(sorted(trade.hedging_set.upper().split("/")))
        rule = "PAIR_MUST_BE_QUOTED_ONE_WAY_IN_ALL_TRADES"
        rules.append((("pair", trade.asset_class, *legs), trade.hedging_set, "hedging_set", rule))
    if trade.asset_class == "IR" and trade.option is not None:
        rule = "LAMBDA_MUST_BE_THE_SAME_FOR_ALL_OPTIONS_IN_A_CURRENCY"
        rules.append((("shift", trade.hedging_set), trade.option.shift, "option.lambda", rule))
    return rules


def _read_trade(value: object, number: int, where: str) -> SaccrTrade:
    unnamed = DocumentFields(value, _place(where, f"number {number}"))
    name = unnamed.text("id")
    fields = DocumentFields(value, _place(where, name))
    fields.text("id")
    asset_class = fields.choice("asset_class", ASSET_CLASSES)
    hedging_set, entity, subclass = _read_factor(fields, asset_class)
    option = _read_option(fields, asset_class) if fields.has("option") else None
    tranche = _read_tranche(fields, asset_class) if fields.has("cdo") else None
    if option is not None and tranche is not None:
        fields.refuse("cdo", "TRADE_MUST_NOT_BE_OPTION_AND_TRANCHE")
    transaction = fields.choice("transaction", ("plain", "basis", "volatility"), "plain")
    basis = fields.text("basis") if transaction == "basis" else ""
    timed = asset_class not in PRICED_CLASSES
    start, end = fields.number("S", 0.0), fields.number("E", None if timed else 0.0)
    if timed and end <= max(start, 0.0):
        fields.refuse("E", "END_MUST_LIE_AFTER_START_AND_TODAY", f"S {start:g}, E {end:g}")
    trade = SaccrTrade(
        id=name,
        asset_class=asset_class,
        hedging_set=hedging_set,
        entity=entity,
        subclass=subclass,
        transaction=transaction,
        basis=basis,
        long=_read_direction(fields, option),
        notional=_read_notional(fields, asset_class, option),
        value=fields.number("mtm"),
        maturity=fields.number("M", low=0.0),
        start=start,
        end=end,
        option=option,
        tranche=tranche,
    )
    fields.finish()
    return trade


def _read_factor(fields: DocumentFields, asset_class: str) -> tuple[str, str, str]:
    """Return hedging set, entity (or commodity type) and subclass of a trade, in the spelling of the tables."""
    if asset_class in ("FX", "CRYPTO"):
        pair = fields.text("hedging_set").upper()
        if pair.count("/") != 1 or "" in pair.split("/") or len(set(pair.split("/"))) == 1:
            fields.refuse("hedging_set", "MUST_BE_A_PAIR_OF_TWO_SUCH_AS_EUR/USD", f"got {shown_value(pair)}")
        return pair, "", ""
    if asset_class == "IR":
        return fields.text("hedging_set"), "", ""
    if asset_class == "CO":
        sets = ("Energy", "Metals", "Agricultural", "Other")
        name = fields.values.get("hedging_set")
        agriculture = isinstance(name, str) and name.strip().lower() == "agriculture"
        hedging_set = "Agricultural" if agriculture else fields.choice("hedging_set", sets)
        fields.taken.add("hedging_set")
        commodity = fields.text("commodity_type")
        electric = commodity.lower() in ("electricity", "power") or fields.text("subclass", "").lower() == "electricity"
        if electric and hedging_set != "Energy":
            fields.refuse("hedging_set", "ELECTRICITY_MUST_BE_IN_ENERGY", f"got {hedging_set}")
        return hedging_set, commodity, "ELECTRICITY" if electric else hedging_set.upper()
    allowed = tuple(sub for cls, sub in SUPERVISORY if cls == asset_class)
    given = fields.text("subclass", "" if asset_class == "EQ" else None).upper()
    subclass = SUBCLASS_NAMES[asset_class].get(given, given)
    if subclass not in allowed:
        fields.refuse("subclass", f"MUST_BE_ONE_OF_{'|'.join(allowed)}", f"got {shown_value(given)}")
    return "", fields.text("entity"), subclass


def _read_option(fields: DocumentFields, asset_class: str) -> OptionTerms:
    terms = DocumentFields(fields.values["option"], fields.where, "option.")
    call = terms.choice("type", ("call", "put")) == "call"
    bought = terms.choice("position", ("bought", "sold")) == "bought"
    shift = terms.number("lambda", 0.0, low=0.0)
    if shift and asset_class != "IR":
        terms.refuse("lambda", "SHIFT_IS_FOR_INTEREST_RATES_ONLY")
    price, strike = terms.number("P"), terms.number("K")
    for field, value in (("P", price), ("K", strike)):
        if value + shift <= 0:
            terms.refuse(field, "MUST_BE_POSITIVE_AFTER_ADDING_LAMBDA", f"got {value:g}, lambda {shift:g}")
    volatility = terms.positive("sigma") if terms.has("sigma") else None
    payoff = terms.positive("digital_payoff") if terms.has("digital_payoff") else None
    if payoff is not None and asset_class not in PRICED_CLASSES:
        terms.refuse("digital_payoff", "DIGITAL_IS_FOR_FX_EQ_CO_AND_CRYPTO_ONLY")
    option = OptionTerms(call, bought, price, strike, terms.positive("T"), volatility, shift, payoff)
    terms.finish()
    return option


def _read_tranche(fields: DocumentFields, asset_class: str) -> tuple[float, float]:
    if asset_class != "CR":
        fields.refuse("cdo", "TRANCHE_MUST_BE_OF_CLASS_CR")
    terms = DocumentFields(fields.values["cdo"], fields.where, "cdo.")
    attachment, detachment = terms.number("attachment", low=0.0), terms.number("detachment", low=0.0)
    if not attachment < detachment <= 1:
        terms.refuse("detachment", "MUST_LIE_ABOVE_ATTACHMENT_AND_NOT_ABOVE_1", f"{attachment:g} to {detachment:g}")
    terms.finish()
    return attachment, detachment


def _read_direction(fields: DocumentFields, option: OptionTerms | None) -> bool:
    """Return whether the trade gains when its risk factor rises; an option says so itself and is not contradicted."""
    if option is None:
        return fields.choice("direction", ("long", "short")) == "long"
    long = option.call == option.bought
    implied = "long" if long else "short"
    if fields.choice("direction", ("long", "short"), implied) != implied:
        fields.refuse("direction", "DIRECTION_MUST_AGREE_WITH_OPTION", f"this option is {implied} in its underlying")
    return long


def _read_notional(fields: DocumentFields, asset_class: str, option: OptionTerms | None) -> float:
    """Return the notional: as given, price x units, the larger of two foreign legs, or that of a digital's collar."""
    if option is not None and option.digital_payoff is not None:
        fields.number("notional", 0.0, low=0.0)
        return option.price * option.digital_payoff / (0.1 * option.strike)
    if asset_class in PRICED_CLASSES and fields.has("units"):
        if fields.has("notional"):
            fields.refuse("notional", "GIVE_NOTIONAL_OR_PRICE_AND_UNITS_NOT_BOTH")
        return fields.number("price", low=0.0) * fields.number("units", low=0.0)
    notional = fields.number("notional", low=0.0)
    if asset_class in ("FX", "CRYPTO"):
        return max(notional, fields.number("second_notional", 0.0, low=0.0))
    return notional


def _place(where: str, trade: str) -> str:
    return ", ".join(part for part in (where, f"trade {trade}") if part)


# Margin agreements as ``seawall saccr`` takes them: what is held, what may stay uncalled, how long close-out takes.


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


def read_margin_terms(value: object, where: str, trades: int) -> MarginTerms:
    """Return the terms of ``margin_agreement``; none at all is an unmargined set without collateral.

    Raises
    ------
    DocumentError
        For a field that is missing, unknown or of a wrong sign, and for terms without a margin period.
    """
    if value is None:
        return MarginTerms()
    fields = DocumentFields(value, where, "margin_agreement.")
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


def _margin_period(fields: DocumentFields, trades: int, margined: bool, notes: list[str]) -> float:
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


def combine_terms(terms: list[MarginTerms]) -> MarginTerms:
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
