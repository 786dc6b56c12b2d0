"""Shard summaries: what a shard tells the firm at the end of a second of event time, as typed records.

An engine that carries bytes encodes them (`encode_part`, `pack`) and reads them back with `decode_part`. Field names on
the wire are older than the names here where the two differ.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seawall.operators.core.base._messages import ExternalEvent, MarketConditions

F8 = NDArray[np.float64]


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
