"""Records of the topic ``exposures`` as types (see ``outputs``); values of measures are float64 as JSON numbers."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class Output(Struct, forbid_unknown_fields=True, kw_only=True):
    """Strict, so that the test finds a field that is written and not documented."""


class AccountRow(Output):
    """Measures of an account, signed from its holder's side."""

    account: str
    equity: float
    gross_notional: float
    net_notional: float
    unrealised_pnl: float
    initial_margin: float
    maintenance_margin: float
    margin_ratio: float
    leverage: float
    distance_to_liquidation: float
    worst_case_notional: float | UnsetType = UNSET
    worst_case_initial_margin: float | UnsetType = UNSET
    distance_to_liquidation_alone: float | UnsetType = UNSET


class NettingSetRow(Output):
    """Measures of a netting set, from our side."""

    netting_set: str
    current_exposure: float
    collateral_held: float
    potential_exposure: float | UnsetType = UNSET
    exposure_at_default: float | UnsetType = UNSET
    potential_exposure_ew: float | UnsetType = UNSET
    wrong_way: float | UnsetType = UNSET
    margin_call: float | UnsetType = UNSET


class CounterpartyRow(Output):
    """Measures of a counterparty, from our side."""

    counterparty: str
    current_exposure: float
    collateral_held: float
    gross_notional: float
    net_notional: float
    pnl: float
    potential_exposure: float | UnsetType = UNSET
    exposure_at_default: float | UnsetType = UNSET
    potential_exposure_ew: float | UnsetType = UNSET
    settlement_exposure: float | UnsetType = UNSET
    wrong_way: float | UnsetType = UNSET


class GroupRow(Output):
    """Measures of a group of counterparties."""

    group: str
    current_exposure: float
    collateral_held: float
    gross_notional: float
    net_notional: float
    pnl: float
    potential_exposure: float
    exposure_at_default: float
    potential_exposure_ew: float
    settlement_exposure: float
    wrong_way: float


class UnderlyingRow(Output):
    """Measures of an underlying, over all accounts."""

    underlying: str
    gross_notional: float
    net_notional: float
    pnl: float
    delta: float
    gamma: float
    vega: float
    concentration: float


class VenueRow(Output):
    """Measures of a venue."""

    venue: str
    gross_notional: float
    net_notional: float
    pnl: float


class InstrumentRow(Output):
    """Measures of an instrument, over all accounts."""

    instrument: str
    gross_notional: float
    net_notional: float
    pnl: float
    concentration: float


class AssetRow(Output):
    """What all accounts hold of an asset, and what counterparties have given us of it, before haircuts."""

    asset: str
    gross_notional: float
    net_notional: float
    collateral_held: float
    concentration: float


class IssuerRow(Output):
    """What all accounts hold of the assets of an issuer, and of contracts on them."""

    issuer: str
    gross_notional: float
    net_notional: float
    collateral_held: float
    concentration: float


class StrategyRow(Output):
    """Measures of a strategy: of the fills that name it, from our side."""

    strategy: str
    gross_notional: float
    net_notional: float
    pnl: float


class FirmRow(Output):
    """Measures of the firm; empty where none moved."""

    gross_notional: float | UnsetType = UNSET
    net_notional: float | UnsetType = UNSET
    pnl: float | UnsetType = UNSET
    current_exposure: float | UnsetType = UNSET
    potential_exposure: float | UnsetType = UNSET
    exposure_at_default: float | UnsetType = UNSET
    potential_exposure_ew: float | UnsetType = UNSET
    settlement_exposure: float | UnsetType = UNSET


class Exposures(Output):
    """Rows of one shard in which a measure moved, and what is wrong with the prices that they were computed from.

    ``stale`` names held instruments whose mark is too old, ``missing`` those without any, ``unvalued`` held options
    without a volatility or a forward, ``expiring`` held instruments past their expiry without a settlement mark, and
    ``unpriced`` assets in which balances stand and that have no rate; each is left out where it names none.
    """

    shard: int
    seq: int
    as_of_us: int
    accounts: list[AccountRow]
    netting_sets: list[NettingSetRow]
    counterparties: list[CounterpartyRow]
    stale: list[str] | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET
    unvalued: list[str] | UnsetType = UNSET
    expiring: list[str] | UnsetType = UNSET
    unpriced: list[str] | UnsetType = UNSET


class WideExposures(Output):
    """Rows of the scopes that span shards, once per second of event time; the first three lists are empty.

    The last four are there where a limit names a scope of their kind.
    """

    shard: Literal["all"]
    seq: int
    as_of_us: int
    accounts: list[AccountRow]
    netting_sets: list[NettingSetRow]
    counterparties: list[CounterpartyRow]
    firm: FirmRow
    groups: list[GroupRow]
    underlyings: list[UnderlyingRow]
    venues: list[VenueRow]
    instruments: list[InstrumentRow] | UnsetType = UNSET
    assets: list[AssetRow] | UnsetType = UNSET
    issuers: list[IssuerRow] | UnsetType = UNSET
    strategies: list[StrategyRow] | UnsetType = UNSET
