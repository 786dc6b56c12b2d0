"""Input records: one frozen struct per ``type`` (contract.md, "Input records").

A field that is absent has its default: an empty string stands for no value where the contract gives none, so
``record.venue or fallback`` reads naturally. Decimals stay the text that came in; whoever calculates converts them
(``schemas/decimals.py``). The aliases below say what a text must be; ``schemas/decoding.py`` enforces them.
"""

from typing import Annotated, Any, Literal, get_origin

import msgspec
from msgspec import Meta

from seawall.schemas import decimals

IDENTIFIER_PATTERN = "[A-Za-z0-9._:/-]{1,128}"
LEVELS_MAX = 50
SA_CCR_CLASSES = (
    "IR", "FX", "CRYPTO", "EQ", "EQ_SN", "EQ_IX", "EQ_CRYPTO",
    "CR", "CR_AAA", "CR_AA", "CR_A", "CR_BBB", "CR_BB", "CR_B", "CR_CCC", "CR_IX_IG", "CR_IX_SG",
    "CO", "CO_ENERGY", "CO_METALS", "CO_AGRICULTURAL", "CO_OTHER", "CO_ELECTRICITY",
)  # fmt: skip
"""What an asset can be for SA-CCR: its class and, after an underscore, its row in CRE52.72 (absent: SN, BBB, OTHER)."""

NO_TIME = -1
TIME_MIN_US = 1_230_768_000_000_000  # 2009-01-01, the year of the first crypto asset
TIME_MAX_US = 7_258_118_400_000_000  # 2200-01-01: venues give perpetuals a delivery date in 2100

_TIME = {"minimum": TIME_MIN_US, "exclusiveMaximum": TIME_MAX_US}
_ID = {"pattern": f"^{IDENTIFIER_PATTERN}$"}
_DECIMAL = {"pattern": f"^{decimals.PATTERN}$"}

# Each alias has metadata of its own so that the checks of schemas/decoding.py can tell them apart.
Identifier = Annotated[str, Meta(extra_json_schema=_ID, description="identifier")]
Amount = Annotated[str, Meta(extra_json_schema=_DECIMAL, description="decimal of either sign")]
Price = Annotated[str, Meta(extra_json_schema=_DECIMAL, description="decimal, positive")]
Quantity = Annotated[str, Meta(extra_json_schema=_DECIMAL, description="quantity, positive")]
Size = Annotated[str, Meta(extra_json_schema=_DECIMAL, description="quantity, not negative")]
NonNegative = Annotated[str, Meta(extra_json_schema=_DECIMAL, description="decimal, not negative")]
Fraction = Annotated[str, Meta(extra_json_schema=_DECIMAL, description="decimal from 0 to 1")]
Time = Annotated[int, Meta(extra_json_schema=_TIME, description="microseconds since the epoch, UTC")]
Expiry = Annotated[
    int, Meta(extra_json_schema={"minimum": 0}, description="microseconds since the epoch, UTC; 0: none")
]
Count = Annotated[int, Meta(extra_json_schema={"minimum": 1}, description="positive integer")]
Severity = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": 3}, description="0 to 3")]

FieldKind = Literal["text", "decimal", "time", "integer", "boolean", "pairs", "plain"]
_DECIMALS: tuple[Any, ...] = (Amount, Price, Quantity, Size, NonNegative, Fraction)


def field_kind(hint: Any) -> FieldKind:
    """Return how a field of an input record is written, from its type."""
    if hint in _DECIMALS:
        return "decimal"
    if hint in (Time, Expiry):
        return "time"
    if hint in (Count, Severity):
        return "integer"
    if hint is bool:
        return "boolean"
    if hint == list[tuple[Price, Size]]:
        return "pairs"
    return "text" if hint in (str, Identifier) or get_origin(hint) is Literal else "plain"


Status = Literal["active", "closed"]
Side = Literal["buy", "sell"]


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    """Base of all input records."""


class Dated(Record, frozen=True, kw_only=True):
    """A record that must say when it happened."""

    event_time_us: Time


class ReferenceRecord(Record, frozen=True, kw_only=True):
    """A record that replaces the earlier one of its id from its time; ``event_time_us`` is -1 when it has none."""

    event_time_us: Time = NO_TIME
    status: Status = "active"


class Asset(ReferenceRecord, frozen=True, kw_only=True, tag="asset"):
    """Asset that balances are kept in."""

    asset: Identifier
    asset_class: Literal["fiat", "stablecoin", "coin", "token", "security"] = msgspec.field(name="class")
    peg: Identifier = ""
    issuer: Identifier = ""
    haircut: Fraction = "0"
    sa_ccr_class: Identifier = ""


class Instrument(ReferenceRecord, frozen=True, kw_only=True, tag="instrument"):
    """Instrument that is traded."""

    instrument: Identifier
    kind: Literal["spot", "perpetual", "future", "option"]
    base: Identifier
    quote: Identifier
    settlement: Identifier
    quantity_increment: Price
    contract_size: Price = "1"
    inverse: bool = False
    underlying: Identifier = ""
    expiry_us: Expiry = 0
    strike: Price = ""
    option_type: Literal["call", "put", ""] = ""
    forward: Identifier = ""
    discount_rate: Amount = "0"
    premium: Literal["upfront", "futures_style"] = "upfront"
    initial_margin_rate: NonNegative = ""
    maintenance_margin_rate: NonNegative = ""

    @property
    def expires_us(self) -> int:
        """Time of its expiry, 0 for never: what venues give as the delivery date of a perpetual is none."""
        return self.expiry_us if self.kind in ("future", "option") else 0


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Margin rates from a notional upwards."""

    notional_from: NonNegative
    initial_margin_rate: NonNegative
    maintenance_margin_rate: NonNegative
    deduction: NonNegative = "0"


class Schedule(ReferenceRecord, frozen=True, kw_only=True, tag="schedule"):
    """Margin tiers and fees of an instrument at a venue."""

    venue: Identifier
    instrument: Identifier
    tiers: list[Tier] = []
    open_interest_lower: NonNegative = ""
    open_interest_upper: NonNegative = ""
    maker_fee_rate: Amount = ""
    taker_fee_rate: Amount = ""


class HaircutTier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Haircut of what a balance holds from an amount upwards."""

    amount_from: NonNegative
    haircut: Fraction


class CollateralSchedule(ReferenceRecord, frozen=True, kw_only=True, tag="collateral_schedule"):
    """Lending value of an asset at a venue: haircuts by amount held, the most that counts, and how debts weigh."""

    venue: Identifier
    asset: Identifier
    tiers: list[HaircutTier]
    cap: Quantity = ""
    borrow_weight: NonNegative = "1"


class Counterparty(ReferenceRecord, frozen=True, kw_only=True, tag="counterparty"):
    """Counterparty that we face."""

    counterparty: Identifier
    name: str
    role: Literal["venue", "client", "dealer", "custodian", "lender", "issuer"]
    group: Identifier = ""
    rating: str = ""
    own_funds: Amount = ""
    default_probability: Fraction = ""
    jurisdiction: str = ""


class NettingSet(ReferenceRecord, frozen=True, kw_only=True, tag="netting_set"):
    """Netting set, and the terms of its margining."""

    netting_set: Identifier
    counterparty: Identifier
    agreement: str = ""
    enforceable: bool = True
    margined: bool = False
    they_post: bool = True
    we_post: bool = True
    threshold: NonNegative = "0"
    minimum_transfer_amount: NonNegative = "0"
    our_threshold: NonNegative = "0"
    our_minimum_transfer_amount: NonNegative = "0"
    independent_amount: Amount = "0"
    currency: Identifier = ""
    rounding: NonNegative = "0"
    remargin_business_days: Count = 1
    margin_period_business_days: Count = 10
    eligible: dict[Identifier, Fraction] = {}
    close_out: bool = False


class Account(ReferenceRecord, frozen=True, kw_only=True, tag="account"):
    """Account that holds positions and balances."""

    account: Identifier
    counterparty: Identifier
    holder: Literal["house", "counterparty"]
    netting_set: Identifier = ""
    venue: Identifier = ""
    capacity: Literal["principal", "agency"] = "principal"
    margin_model: Literal["rate", "schedule", "scenario"] = "rate"
    margin_mode: Literal["cross", "isolated"] = "cross"
    books_funding: bool = False


class Mark(Dated, frozen=True, kw_only=True, gc=False, tag="mark"):
    """A price of an instrument."""

    instrument: Identifier
    price: Price
    kind: Literal["mark", "index", "mid", "last", "settlement"] = "mark"
    venue: Identifier = ""
    implied_volatility: NonNegative = ""


class Trade(Dated, frozen=True, kw_only=True, gc=False, tag="trade"):
    """A public trade; ``side`` of the taker."""

    venue: Identifier
    instrument: Identifier
    price: Price
    quantity: Quantity
    side: Literal["buy", "sell", ""] = ""


class Quote(Dated, frozen=True, kw_only=True, gc=False, tag="quote"):
    """Best bid and ask."""

    venue: Identifier
    instrument: Identifier
    bid: Price
    ask: Price
    bid_size: Size = ""
    ask_size: Size = ""


class Depth(Dated, frozen=True, kw_only=True, tag="depth"):
    """The order book, best first, at most 50 levels a side."""

    venue: Identifier
    instrument: Identifier
    bids: list[tuple[Price, Size]]
    asks: list[tuple[Price, Size]]


class Bar(Dated, frozen=True, kw_only=True, gc=False, tag="bar"):
    """An interval of trading; the time is that of its close."""

    venue: Identifier
    instrument: Identifier
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Size
    interval_us: Count


class Funding(Dated, frozen=True, kw_only=True, gc=False, tag="funding"):
    """A funding rate per interval; positive: longs pay."""

    venue: Identifier
    instrument: Identifier
    rate: Amount
    interval_us: Count
    kind: Literal["predicted", "settled"] = "settled"
    price: Price = ""


class OpenInterest(Dated, frozen=True, kw_only=True, gc=False, tag="open_interest"):
    """Open interest in instrument units."""

    venue: Identifier
    instrument: Identifier
    quantity: Size


class Liquidation(Dated, frozen=True, kw_only=True, gc=False, tag="liquidation"):
    """A forced order; ``side`` is its own."""

    venue: Identifier
    instrument: Identifier
    side: Side
    price: Price
    quantity: Quantity


class VenueStatus(Dated, frozen=True, kw_only=True, tag="venue_status"):
    """State of a venue: which orders and transfers it still takes."""

    venue: Identifier
    status: Literal["up", "degraded", "down", "withdrawals_blocked"]
    detail: str = ""


class Notice(Dated, frozen=True, kw_only=True, tag="notice"):
    """News about a counterparty, an asset, an instrument or a jurisdiction."""

    notice_id: Identifier
    subject: Identifier
    kind: Literal["rating", "regulation", "exploit", "insolvency", "reserves", "delisting", "outage"]
    severity: Severity
    effective_us: Time = 0
    detail: str = ""


class Fill(Dated, frozen=True, kw_only=True, gc=False, tag="fill"):
    """An execution in an account; ``side`` is the account holder's."""

    fill_id: Identifier
    account: Identifier
    instrument: Identifier
    side: Side
    quantity: Quantity
    price: Price
    venue: Identifier = ""
    fee: Amount = "0"
    fee_asset: Identifier = ""
    source: Literal["order", "liquidation", "adl", "settlement", "manual"] = "order"
    action: Literal["new", "correct", "bust"] = "new"
    ref_fill_id: Identifier = ""
    strategy: Identifier = ""
    trader: Identifier = ""


class Order(Dated, frozen=True, kw_only=True, gc=False, tag="order"):
    """State of a working order; an open quantity of 0 means gone."""

    order_id: Identifier
    account: Identifier
    instrument: Identifier
    side: Side
    open_quantity: Size
    price: Price = ""
    reduce_only: bool = False
    venue: Identifier = ""
    strategy: Identifier = ""
    trader: Identifier = ""


Purpose = Literal[
    "deposit",
    "withdrawal",
    "variation_margin",
    "independent_amount",
    "funding",
    "fee",
    "interest",
    "settlement",
    "transfer",
]


class Collateral(Dated, frozen=True, kw_only=True, gc=False, tag="collateral"):
    """A movement of an asset; positive adds to the account holder's balance.

    ``instrument`` and ``interval_end_us`` say for which interval of which contract ``funding`` was paid.
    """

    transfer_id: Identifier
    account: Identifier
    asset: Identifier
    amount: Amount
    purpose: Purpose = "deposit"
    segregated: bool = False
    held_by: Identifier = ""
    instrument: Identifier = ""
    interval_end_us: Time = 0


class Obligation(Dated, frozen=True, kw_only=True, tag="obligation"):
    """Something owed; ``from`` and ``to`` are counterparties or ``house``, an amount of 0 means gone."""

    obligation_id: Identifier
    from_: Identifier = msgspec.field(name="from")
    to: Identifier
    asset: Identifier
    amount: NonNegative
    kind: Literal["loan", "withdrawal", "margin_call", "settlement", "estimate"]
    due_us: Time = 0
    status: Literal["open", "paid", "failed"] = "open"


class PositionReport(Dated, frozen=True, kw_only=True, tag="position_report"):
    """Position of an account as its venue reports it, or as it opens."""

    account: Identifier
    instrument: Identifier
    quantity: Amount
    entry_price: Price = ""
    kind: Literal["opening", "venue"] = "venue"


class BalanceReport(Dated, frozen=True, kw_only=True, tag="balance_report"):
    """Balance of an account as its venue reports it, or as it opens."""

    account: Identifier
    asset: Identifier
    amount: Amount
    kind: Literal["opening", "venue"] = "venue"


class Limit(Dated, frozen=True, kw_only=True, tag="limit"):
    """A signed limit document."""

    document: dict[str, Any]


class Release(Dated, frozen=True, kw_only=True, tag="release"):
    """A REINSTATE command that people signed: the target is no longer restricted."""

    document: dict[str, Any]


class Acknowledgement(Dated, frozen=True, kw_only=True, tag="acknowledgement"):
    """A subscriber's answer to a command."""

    command_id: Identifier
    subscriber: Identifier
    outcome: Literal["accepted", "completed", "partial", "rejected", "unknown"]
    detail: str = ""


class SignalVenue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One venue's mark of an instrument, and its book: quantity within 10, 50, 100 and 500 bp, bids then asks."""

    venue: str
    price: float
    kind: Literal["mark", "mid", "last"]
    time_us: int
    depth: list[float] = []
    stale: bool = False


class SignalRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Result of one instrument in an interval.

    ``source`` is ``robust`` where several venues are known, otherwise the kind of the one venue's mark; ``time_us`` is
    the newest price in it. ``depth`` is the sum over the venues that are not stale. ``state`` is empty, features and
    volatilities are absent, unless the instrument was scored in this interval.
    """

    instrument: str
    price: float
    source: Literal["robust", "mark", "mid", "last"]
    time_us: int
    venues: list[SignalVenue] = []
    depth: list[float] = []
    realised_volatility: float = 0.0
    ew_volatility: float = 0.0
    features: dict[str, float] = {}
    state: Literal["ready", "warming", ""] = ""
    score: float = 0.0


class SignalAlert(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something to look at in a market: a rule fired (score 1), or a detector found something unusual."""

    kind: str
    scope: str
    score: float
    severity: int
    text: str
    contributions: dict[str, float] = {}


class SignalModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something that happened in the life of a learned model, of one instrument and family of features.

    ``version`` counts how often the model that answers was replaced; ``text`` has the figures that decided.
    """

    instrument: str
    family: str
    event: Literal["started_from_class", "warmed_up", "drifted", "promoted", "rolled_back", "kept", "evicted"]
    version: int
    text: str


class Signal(Dated, frozen=True, kw_only=True, tag="signal"):
    """Result of one instrument group's markets in one interval, which ends before ``event_time_us``.

    ``models``: what happened to learned models. ``more``: the next record has the same interval. ``sources``: per live
    topic and partition the offset of the next record, so that a restart cuts alike. ``end``: the last of a bounded run.
    """

    group: int
    groups: int
    seq: int
    events: int = 0
    instruments: list[SignalRow] = []
    alerts: list[SignalAlert] = []
    models: list[SignalModel] = []
    more: bool = False
    sources: dict[str, int] = {}
    end: bool = False


Event = (
    Asset
    | Instrument
    | Schedule
    | CollateralSchedule
    | Counterparty
    | NettingSet
    | Account
    | Mark
    | Trade
    | Quote
    | Depth
    | Bar
    | Funding
    | OpenInterest
    | Liquidation
    | VenueStatus
    | Notice
    | Fill
    | Order
    | Collateral
    | Obligation
    | PositionReport
    | BalanceReport
    | Limit
    | Release
    | Acknowledgement
    | Signal
)
