"""Messages between the risk operators: small frozen structs, each with what one step finds and others need.

A slice, or a second across shards, is a `Moment`. Its `Measures` and `Events` go into limits and mitigation, its
`Outputs` are what the steps say: records by topic and decisions for the audit. Nothing is changed in place, so any step
may be forked, skipped or used alone.
"""

from collections.abc import Iterator
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


# What measures are of: tables by kind of scope, markets, positions, and what losses and forecasts need of a book.

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


class Doubt(NamedTuple):
    """Doubt about measures, where something is held at prices that are not known, old, not confirmed or only promised.

    ``better`` are the first measures of accounts at the better ends of these prices. ``amounts`` say by kind of scope,
    and ``total`` for all, by how much measures in money may be better. ``unvalued`` are accounts of which nothing
    bounds what they are worth, or too little; ``spared`` those of them whose factor is out for very many, ``feeds``
    these factors, and ``notes`` what the rows of the unvalued say.
    """

    better: NDArray[np.float64] = np.zeros((0, 0))
    amounts: dict[str, NDArray[np.float64]] = {}  # noqa: RUF012 (never changed in place)
    total: float = 0.0
    unvalued: NDArray[np.bool_] = np.zeros(0, dtype=bool)
    spared: NDArray[np.bool_] = np.zeros(0, dtype=bool)
    notes: dict[str, dict[str, Any]] = {}  # noqa: RUF012 (never changed in place)
    feeds: list[str] = []  # noqa: RUF012 (never changed in place)


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
    """A fill as accounts are watched by it: units bought positive, a price, the position ``after`` its slice."""

    id: str
    instrument: str
    units: int
    price: float
    after: int


class FillCauses(NamedTuple):
    """The fills of one slice by scope, found only when a breach asks; without ``named`` they are of every scope.

    Ids, accounts by number with the names of these, their netting sets and counterparties; sources, and the trades
    themselves where the playbook watches what accounts trade.
    """

    ids: list[str]
    accounts: list[int] = []  # noqa: RUF012 (never changed in place)
    named: dict[int, tuple[str, str, str]] | None = None
    sources: list[str] | None = None
    trades: list[AccountTrade] | None = None

    def of(self, kind: str, name: str) -> list[str]:
        """Return up to ``CAUSES_MAX`` fills that moved a scope in this slice, as ``fill:<id>``."""
        place = {"account": 0, "netting_set": 1, "counterparty": 2}.get(kind)
        named = self.named
        if place is None or named is None:
            return [f"fill:{fill}" for fill in self.ids[:CAUSES_MAX]]
        found = (fill for fill, account in zip(self.ids, self.accounts, strict=True) if named[account][place] == name)
        return [f"fill:{fill}" for fill in islice(found, CAUSES_MAX)]

    def orders_of(self, kind: str, name: str) -> list[str]:
        """Return those of a scope's fills that came of orders, none of those that a venue forced."""
        found = self.of(kind, name)
        if not self.sources or not found:
            return found
        forced = {f"fill:{fill}" for fill, source in zip(self.ids, self.sources, strict=True) if source != "order"}
        return [fill for fill in found if fill not in forced]

    def trades_of(self, account: str) -> Iterator[AccountTrade]:
        """Yield an account's fills that nobody forced, where the playbook watches what accounts trade."""
        if self.trades is None or self.named is None:
            return
        sources = self.sources or ["order"] * len(self.ids)
        for trade, number, source in zip(self.trades, self.accounts, sources, strict=True):
            if source in CHOSEN_SOURCES and self.named[number][0] == account:
                yield trade


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
        Inputs that the playbook has computed (`ComputationInputs`).
    forecast, losses
        Where forecasts are made.
    explained, explained_us
        Terms of the last minute's P&L explain from our side, where it is made, and when that minute began and ended.
    doubt
        By how much its sums may be better than they are, because of prices that are not certain.
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
    explained: F8 | None = None
    explained_us: list[int] = msgspec.field(default_factory=list)
    doubt: float = 0.0


# What goes from step to step.
#
# Exposure, or the firm's sums, give a `MeasuredSlice`; the watch over accounts and the forecasts add to it. Limits take
# measures and events and give `Breaches`, mitigation takes all three and gives `Outputs`. From there on only outputs go
# on: published, signed, audited.


class Moment(NamedTuple):
    """A slice of a shard, or a second across shards (key ``all``): which one, and of what time.

    ``decides`` is false where more of it follows, ``second`` says that it ends one, ``end`` that it is the last of a
    bounded run; ``inputs`` are what the audit says went in.
    """

    key: str
    partition: int
    seq: int
    as_of_us: int
    cut_us: int
    decides: bool = True
    second: bool = False
    end: bool = False
    inputs: list[Any] = []  # noqa: RUF012 (never changed in place)


class ComputationInputs(NamedTuple):
    """Inputs of computed commands, each only where the playbook has something computed of it.

    Open positions of a shard; of the firm, by counterparty what we have there (`counterparty_holdings`), by venue
    visible depth and taker fee, quotes of instruments to hedge with, by scope the strategies that hold something in it.
    """

    book: OpenPositions | None = None
    parties: dict[str, list[Any]] | None = None
    routes: dict[str, list[float]] | None = None
    quotes: dict[str, list[Any]] | None = None
    strategies: dict[str, list[str]] | None = None


class Measures(NamedTuple):
    """Measures at a moment, empty tables where it does not decide, and what they are compared with.

    ``positions`` says by account whether it holds any, ``owners`` what an account is part of. ``markets`` come once per
    second of event time. ``ratings`` of counterparties and ``owners`` are one object until one changes. ``house`` are
    scopes that hold an account of our own, ``closable`` scopes whose terms let us close them out. ``doubt`` is what
    prices that are not certain leave of them.
    """

    moment: Moment
    tables: dict[str, MeasureTable]
    positions: NDArray[np.bool_] | None = None
    owners: list[tuple[str, ...]] = []  # noqa: RUF012 (never changed in place)
    markets: MarketConditions | None = None
    ratings: dict[str, str] = {}  # noqa: RUF012 (never changed in place)
    house: frozenset[str] = frozenset()
    closable: frozenset[str] = frozenset()
    computation: ComputationInputs = ComputationInputs()
    doubt: Doubt | None = None


class Events(NamedTuple):
    """Events of a slice beside its measures: a configuration that begins, verified limit documents, external events,
    the fills that may have caused what moved, and what accounts did.
    """

    configuration: dict[str, Any] | None = None
    limit_documents: list[dict[str, Any]] = []  # noqa: RUF012 (never changed in place)
    external: list[ExternalEvent] = []  # noqa: RUF012 (never changed in place)
    causes: FillCauses | None = None
    activity: AccountActivity | None = None


class Outputs(NamedTuple):
    """Outputs of a slice or second so far: records by topic, commands and state documents among them, and decisions.

    ``releases`` are the payloads of what people released in it, ``configuration`` is one that begins with it. Once
    audited only moment and records are left, the audit records last.
    """

    moment: Moment
    records: dict[str, list[Record]]
    decisions: list[Decision] = []  # noqa: RUF012 (never changed in place)
    releases: list[bytes] = []  # noqa: RUF012 (never changed in place)
    configuration: dict[str, Any] | None = None

    @property
    def commands(self) -> list[Record]:
        """Commands in it, signed once they have been."""
        return self.records.get("commands", [])


class Breaches(NamedTuple):
    """Changes of levels of limits: values of the ``breaches`` topic, their records, and decisions for the audit."""

    values: list[dict[str, Any]] = []  # noqa: RUF012 (never changed in place)
    records: list[Record] = []  # noqa: RUF012 (never changed in place)
    decisions: list[Decision] = []  # noqa: RUF012 (never changed in place)


NO_BREACHES = Breaches()


class MeasuredSlice(NamedTuple):
    """Measures, events and outputs of a slice or second, as they are before anything is decided.

    ``summary`` is for the firm, at the end of a second; ``holdings`` come once per second where forecasts are made,
    ``forecasts`` and ``losses`` (of the firm: what all shards tell) once a minute. ``breaches`` are those found in it,
    where limits have been enforced.
    """

    measures: Measures
    events: Events
    outputs: Outputs
    summary: ShardSummary | None = None
    holdings: ForecastInputs | None = None
    forecasts: list[ShardForecast] = []  # noqa: RUF012 (never changed in place)
    losses: list[ShardLosses] = []  # noqa: RUF012 (never changed in place)
    breaches: Breaches = NO_BREACHES


def add_outputs(outputs: Outputs, breaches: Breaches, planned: Outputs) -> Outputs:
    """Return what was said before with what limits and mitigation say."""
    broken = {"breaches": breaches.records} if breaches.records else {}
    return outputs._replace(
        records={**outputs.records, **broken, **planned.records},
        decisions=[*outputs.decisions, *breaches.decisions, *planned.decisions],
        releases=planned.releases,
    )
