"""The trades of a netting set as ``seawall saccr`` takes them, read strictly.

A trade that breaks a rule, alone or beside the others, is refused with one line that names it, the field and the rule.
Fields that only describe (``nature``, ``published``, …) may stand anywhere and are not read. The form in full:
``exposure_at_default`` in ``saccr``.
"""

from dataclasses import dataclass
from typing import Any

from seawall.operators.core.saccr.document import DocumentError, Fields, shown
from seawall.operators.core.saccr.saccr_parameters import SUPERVISORY

ASSET_CLASSES = ("IR", "FX", "CR", "EQ", "CO", "CRYPTO")
PRICED_CLASSES = frozenset({"FX", "EQ", "CO", "CRYPTO"})  # adjusted notional = price x units, no duration
SUBCLASS_NAMES = {
    "CR": {"IG": "IX_IG", "SG": "IX_SG"},
    "EQ": {"": "SN", "SINGLE_NAME": "SN", "SINGLE NAME": "SN", "INDEX": "IX"},
    "CO": {"AGRICULTURE": "AGRICULTURAL"},
}


@dataclass(frozen=True, slots=True)
class Option:
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
class Trade:
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
    option: Option | None
    tranche: tuple[float, float] | None


def read_trades(values: list[Any], where: str) -> tuple[Trade, ...]:
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
                raise DocumentError(place, field, rule, f"{shown(value)}, but {shown(first)} in trade {other}")
    return trades


def _agreements(trade: Trade) -> list[tuple[tuple[str, ...], str | float, str, str]]:
    """What all trades on one factor must say alike: ``(key, value, field, rule)``."""
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


def _read_trade(value: object, number: int, where: str) -> Trade:
    unnamed = Fields(value, _place(where, f"number {number}"))
    name = unnamed.text("id")
    fields = Fields(value, _place(where, name))
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
    trade = Trade(
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


def _read_factor(fields: Fields, asset_class: str) -> tuple[str, str, str]:
    """Return hedging set, entity (or commodity type) and subclass of a trade, in the spelling of the tables."""
    if asset_class in ("FX", "CRYPTO"):
        pair = fields.text("hedging_set").upper()
        if pair.count("/") != 1 or "" in pair.split("/") or len(set(pair.split("/"))) == 1:
            fields.refuse("hedging_set", "MUST_BE_A_PAIR_OF_TWO_SUCH_AS_EUR/USD", f"got {shown(pair)}")
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
        fields.refuse("subclass", f"MUST_BE_ONE_OF_{'|'.join(allowed)}", f"got {shown(given)}")
    return "", fields.text("entity"), subclass


def _read_option(fields: Fields, asset_class: str) -> Option:
    terms = Fields(fields.values["option"], fields.where, "option.")
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
    option = Option(call, bought, price, strike, terms.positive("T"), volatility, shift, payoff)
    terms.finish()
    return option


def _read_tranche(fields: Fields, asset_class: str) -> tuple[float, float]:
    if asset_class != "CR":
        fields.refuse("cdo", "TRANCHE_MUST_BE_OF_CLASS_CR")
    terms = Fields(fields.values["cdo"], fields.where, "cdo.")
    attachment, detachment = terms.number("attachment", low=0.0), terms.number("detachment", low=0.0)
    if not attachment < detachment <= 1:
        terms.refuse("detachment", "MUST_LIE_ABOVE_ATTACHMENT_AND_NOT_ABOVE_1", f"{attachment:g} to {detachment:g}")
    terms.finish()
    return attachment, detachment


def _read_direction(fields: Fields, option: Option | None) -> bool:
    """Return whether the trade gains when its risk factor rises; an option says so itself and is not contradicted."""
    if option is None:
        return fields.choice("direction", ("long", "short")) == "long"
    long = option.call == option.bought
    implied = "long" if long else "short"
    if fields.choice("direction", ("long", "short"), implied) != implied:
        fields.refuse("direction", "DIRECTION_MUST_AGREE_WITH_OPTION", f"this option is {implied} in its underlying")
    return long


def _read_notional(fields: Fields, asset_class: str, option: Option | None) -> float:
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
