"""Messages between the risk operators: one frame per slice, and what each operator adds to it.

Every operator takes the item of the one before and returns a new one that holds it; nothing is changed in place, so any
of them may be forked, skipped or used alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.schemas.records import Record

# Activity of accounts in a slice, as detection of unusual behaviour takes it: fills, orders, movements, margin calls.

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
NO_ACCOUNTS: I8 = np.zeros(0, dtype=np.int64)


class MarginCall(NamedTuple):
    """A margin call, as an ``obligation`` record tells of it: whose, since when collateral is due, whether open."""

    obligation: str
    counterparty: int
    since_us: int
    open: bool


class AccountActivity(NamedTuple):
    """What happened to the accounts of a shard; accounts by their number in the shard's tables.

    ``concentration`` stands at the end of a second in which the shard traded: the Herfindahl index of each account's
    positions by value, 0 without positions, 1 with a single one.
    """

    filled: I8
    ended: list[int]
    touched: list[int]
    calls: list[MarginCall]
    counterparty: I8
    concentration: F8 | None


# Messages between the risk operators: one frame per slice, and what each operator adds to it.

CAUSES_MAX = 10
CHOSEN_SOURCES = ("order", "manual")  # sources of fills that no venue forced


class MeasureTable(NamedTuple):
    """Measures of one kind of scope.

    ``values`` has shape (measures, scopes); ``names`` may have grown since, its first ``values.shape[1]`` are meant.
    """

    names: list[str]
    measures: tuple[str, ...]
    values: NDArray[np.float64]


def widen_table(table: MeasureTable, measures: tuple[str, ...], values: NDArray[np.float64]) -> MeasureTable:
    """Return a table with further measures, ``values`` of shape (measures, scopes)."""
    return MeasureTable(table.names, (*table.measures, *measures), np.concatenate([table.values, values]))


class ExternalEvent(NamedTuple):
    """Something to decide about that is not a measure: a venue's status, a notice, an alert."""

    kind: str
    subject: str
    state: str
    evidence: str


class MarketConditions(NamedTuple):
    """What limits adapt to, by underlying: arrays of shape (underlyings,), NaN where it is not known.

    Volatilities are fractions per year^½: ``volatility`` is today's, ``stressed`` the worst remembered, ``reference``
    the normal one. ``depth`` and ``depth_reference`` are in the reporting currency, from journaled signals.
    """

    names: list[str]
    volatility: NDArray[np.float64]
    stressed: NDArray[np.float64]
    reference: NDArray[np.float64]
    depth: NDArray[np.float64]
    depth_reference: NDArray[np.float64]


class OpenPositions(NamedTuple):
    """Open positions of a shard, a row each, and what is visible of the depth of instruments.

    ``accounts`` and ``instruments`` are the shard's numbers, ``units`` increments, ``notional`` is absolute and in the
    reporting currency. By instrument: ``names``, ``increments``, ``depth`` of the thinner side within 50 bp (NaN: not
    known), and ``price`` and event time of the mark across venues.
    """

    accounts: NDArray[np.int64]
    instruments: NDArray[np.int64]
    units: NDArray[np.int64]
    notional: NDArray[np.float64]
    names: list[str]
    increments: list[str]
    depth: NDArray[np.float64]
    price: NDArray[np.float64]
    time_us: NDArray[np.int64]


class RiskFactors(NamedTuple):
    """What a book's worth depends on, a row each: instruments first, by their numbers, then assets.

    ``driver`` is the instrument whose returns a factor follows, -1 where it stands still; ``coin`` that of the asset
    which an instrument settles in. ``kind``: 0 gains with its price, 1 is inverse, 2 an option, 3 an asset. ``name``
    is the asset whose stress moves it; ``stable``, ``coin_stable`` that it, or what it settles in, is a stablecoin;
    ``coin_name`` the settlement asset.
    """

    driver: NDArray[np.int64]
    coin: NDArray[np.int64]
    kind: NDArray[np.int64]
    stable: NDArray[np.bool_]
    coin_stable: NDArray[np.bool_]
    name: list[str]
    coin_name: list[str]


class LossBook(NamedTuple):
    """What losses need of a book at the end of a second, from our side, accounts held as agent left out.

    Rows, in order of ``party``, a counterparty's number: ``factor`` and ``amount``, which is what a position or balance
    is worth, of options the units. ``party_of`` is by account; ``unpriced``, by counterparty: something has no price.
    ``options`` has the columns of ``option_columns`` by instrument; one object until a directory changes: ``factors``.
    """

    party: NDArray[np.int64]
    factor: NDArray[np.int64]
    amount: NDArray[np.float64]
    names: list[str]
    party_of: NDArray[np.int64]
    unpriced: NDArray[np.bool_]
    factors: RiskFactors
    options: NDArray[np.float64]


class Ownership(NamedTuple):
    """Whose accounts are: number of netting set and counterparty, and of venue and group (the number behind the last
    where there is none); ``sign`` turns what a client has to our side, ``stake`` is 0 for what is held as agent;
    ``nets`` whether its netting set is enforceable; and how many venues and groups there are.
    """

    netting_set: NDArray[np.int64]
    counterparty: NDArray[np.int64]
    venue: NDArray[np.int64]
    group: NDArray[np.int64]
    sign: NDArray[np.float64]
    stake: NDArray[np.float64]
    nets: NDArray[np.bool_]
    venues: int
    groups: int


class ForecastInputs(NamedTuple):
    """What forecasts need of a book at the end of a second.

    Rows are positions and coin balances: ``account``, ``instrument``, what equity (``gain``) and maintenance margin
    (``margin``) gain per move of 1, and the ``signed`` notional, 0 of balances. Instruments: ``price`` (NaN: none) and
    event time of the mark across venues, ``underlying`` and ``linear`` (no option), ``depth`` of the thinner side
    within 50 bp (NaN: unknown). Accounts: ``contributed``, the net of what was paid in, and whose they are
    (``owned``). ``losses``: where these are measured.
    """

    account: NDArray[np.int64]
    instrument: NDArray[np.int64]
    gain: NDArray[np.float64]
    margin: NDArray[np.float64]
    price: NDArray[np.float64]
    time_us: NDArray[np.int64]
    underlying: NDArray[np.int64]
    linear: NDArray[np.bool_]
    names: list[str]
    underlyings: list[str]
    depth: NDArray[np.float64]
    contributed: NDArray[np.float64]
    signed: NDArray[np.float64]
    owned: Ownership
    losses: LossBook | None = None


class Decision(NamedTuple):
    """One entry for the audit: what was decided, and the causes that the record itself does not carry."""

    kind: str
    body: dict[str, Any]


class AccountTrade(NamedTuple):
    """A fill that an account chose: units bought positive, at a price; ``after`` is its position after the slice."""

    id: str
    instrument: str
    units: int
    price: float
    after: int


class AccountTrades(NamedTuple):
    """The fills of a slice in columns: names of instruments by number; by fill instrument, units, price, after."""

    names: dict[int, str]
    instruments: list[int]
    units: list[int]
    prices: list[float]
    after: list[int]


class FillCauses:
    """The fills of one slice by scope, found only when a breach asks."""

    def __init__(
        self,
        ids: list[str],
        accounts: list[int],
        names: dict[int, tuple[str, str, str]],
        sources: list[str] | None = None,
        trades: "AccountTrades | None" = None,
    ) -> None:
        self._ids, self._accounts, self._names = ids, accounts, names
        self._sources = sources or []
        self._trades = trades

    def of(self, kind: str, name: str) -> list[str]:
        """Return up to ``CAUSES_MAX`` fills that moved a scope in this slice, as ``fill:<id>``."""
        place = {"account": 0, "netting_set": 1, "counterparty": 2}.get(kind)
        if place is None:
            return [f"fill:{fill}" for fill in self._ids[:CAUSES_MAX]]
        found = (
            fill for fill, account in zip(self._ids, self._accounts, strict=True) if self._names[account][place] == name
        )
        return [f"fill:{fill}" for fill in islice(found, CAUSES_MAX)]

    def orders_of(self, kind: str, name: str) -> list[str]:
        """Return those of a scope's fills that came of orders, none of those that a venue forced."""
        found = self.of(kind, name)
        if not self._sources or not found:
            return found
        forced = {f"fill:{fill}" for fill, source in zip(self._ids, self._sources, strict=True) if source != "order"}
        return [fill for fill in found if fill not in forced]

    def trades_of(self, account: str) -> Iterator[AccountTrade]:
        """Yield an account's fills that nobody forced, where the playbook watches what accounts trade."""
        if self._trades is None:
            return
        sources = self._sources or ["order"] * len(self._ids)
        names, instruments, units, prices, after = self._trades
        for at, (number, source) in enumerate(zip(self._accounts, sources, strict=True)):
            if source in CHOSEN_SOURCES and self._names[number][0] == account:
                yield AccountTrade(f"fill:{self._ids[at]}", names[instruments[at]], units[at], prices[at], after[at])


@dataclass(slots=True)  # frozen, making one takes 3.4 us instead of 0.3; still, nobody changes one
class Frame:
    """The measures of one slice of a shard (or of one second across shards) and the records that came with them."""

    key: str
    partition: int
    seq: int
    as_of_us: int
    cut_us: int
    decides: bool
    inputs: list[Any]
    configuration: dict[str, Any] | None
    tables: dict[str, MeasureTable]
    second: bool = False
    end: bool = False
    positions: NDArray[np.bool_] | None = None
    owners: list[tuple[str, ...]] = field(default_factory=list)
    causes: "FillCauses | None" = None
    news: list[ExternalEvent] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    activity: "AccountActivity | None" = None
    summary: "ShardSummary | None" = None  # for the firm, at the end of a second
    markets: MarketConditions | None = None  # once per second of event time
    ratings: dict[str, str] = field(default_factory=dict)  # of counterparties; the same object until one changes
    house: frozenset[str] = frozenset()  # scopes that hold an account of our own
    limit_documents: list[dict[str, Any]] = field(default_factory=list)  # journaled, so verified
    closable: frozenset[str] = frozenset()  # scopes of counterparties' accounts whose terms let us close them out
    book: OpenPositions | None = None  # this and the next four only where a playbook has something computed of them
    parties: dict[str, list[Any]] | None = None  # counterparty -> what we have there (`counterparty_holdings`)
    routes: dict[str, list[float]] | None = None  # venue -> visible depth, taker fee
    quotes: dict[str, list[Any]] | None = None  # instrument to hedge with -> `hedge_quotes`
    strategies: dict[str, list[str]] | None = None  # scope -> strategies that hold something in it
    holdings: ForecastInputs | None = None  # once per second of event time, where forecasts are made
    forecasts: "list[ShardForecast]" = field(default_factory=list)  # of the firm: what shards tell it once a minute
    losses: "list[ShardLosses]" = field(default_factory=list)  # and of what their books may lose


class Enforced(NamedTuple):
    """A frame and the breaches found in it: values of the ``breaches`` topic, their records, and audit decisions."""

    frame: Frame
    breaches: list[dict[str, Any]]
    records: list[Record]
    decisions: list[Decision] = []  # noqa: RUF012 (never changed in place)


class Planned(NamedTuple):
    """An enforced frame and the commands decided for it: payload bytes with target keys, not yet signed.

    ``state`` are the state documents and the heartbeat of a second, where they are published; ``releases`` the payloads
    of what people released in it.
    """

    enforced: Enforced
    commands: list[Record]
    decisions: list[Decision] = []  # noqa: RUF012 (never changed in place)
    state: list[Record] = []  # noqa: RUF012 - never changed in place
    releases: list[bytes] = []  # noqa: RUF012 - never changed in place


class Signed(NamedTuple):
    """A planned frame whose commands and state documents carry their signatures."""

    planned: Planned
    commands: list[Record]
    state: list[Record] = []  # noqa: RUF012 - never changed in place


class Audited(NamedTuple):
    """All records of one slice by topic, the audit records last."""

    key: str
    partition: int
    seq: int
    records: dict[str, list[Record]]


# Shard summaries: what a shard tells the firm at the end of a second of event time, as typed records.
#
# An engine that carries bytes encodes them (`encode_part`, `pack`) and reads them back with `decode_part`. Field names
# on the wire are older than the names here where the two differ.


class ShardForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What systemic forecasts need of a shard, once a minute where forecasts are made.

    Attributes
    ----------
    collateral
        The worth of all balances, of the stablecoins among them, and what these lack to their pegs.
    claims, own_funds, house
        Who owes whom how much; own funds by counterparty; the equity of our own accounts.
    funding, interest, price, depth, seen
        Markets, which shard 0 tells of: by instrument the first two, by underlying depth; prices; and deviations by
        horizon, correlation with the factor and what has too few prices.
    liquidations
        The forced sales and purchases of the book, and the notional of each underlying.
    sensitivities
        By kind of scope, those of its measures to underlyings, where limits on them have forecasts.
    """

    collateral: F8
    claims: list[tuple[str, str, float]]
    own_funds: dict[str, float]
    house: float
    funding: F8 | None = None
    interest: F8 | None = None
    price: F8 | None = None
    depth: F8 | None = None
    seen: tuple[list[F8], F8, NDArray[np.bool_]] | None = None
    liquidations: tuple[F8, F8] | None = msgspec.field(default=None, name="map")
    sensitivities: dict[str, F8] = msgspec.field(default_factory=dict, name="leanings")


class ShardLosses(msgspec.Struct, frozen=True):
    """The profit of a shard's book in every scenario, and how much is known of it."""

    profits: F8
    state: int


class ShardSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the firm needs of a shard at the end of a second.

    Attributes
    ----------
    configuration
        That of the second, where it changed.
    news
        External events for the firm: those of venues and notices from shard 0, alerts of accounts from their own.
    alerts, names, markets, quotes
        Alerts of signals, names of groups, underlyings and venues, markets, quotes to hedge with: from shard 0 only.
    sums, named
        Sums by kind of scope; those of kinds that limits name, with the shard's own names.
    fills
        The first ids of the second's fills.
    digest
        SHA-256 of the slice.
    parties, routes, strategies
        Inputs that the playbook has computed (`Frame`).
    forecast, losses
        Where forecasts are made.
    """

    shard: int
    seq: int
    as_of_us: int
    cut_us: int
    end: bool
    configuration: dict[str, Any] | None
    news: list[ExternalEvent]
    alerts: list[dict[str, Any]]
    sums: dict[str, F8] = msgspec.field(name="wide")
    named: dict[str, tuple[list[str], F8]] = msgspec.field(name="asked")
    names: list[list[str]] | None
    fills: list[str]
    digest: str
    markets: MarketConditions | None
    limit_documents: list[dict[str, Any]]
    parties: dict[str, list[Any]] | None = None
    routes: dict[str, list[float]] | None = None
    quotes: dict[str, list[Any]] | None = None
    strategies: dict[str, list[str]] | None = None
    forecast: ShardForecast | None = msgspec.field(default=None, name="foreseen")
    losses: ShardLosses | None = None
