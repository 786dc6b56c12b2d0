"""Records of the topics ``exposures`` and ``forecasts`` as types (contract.md, "Output records").

Values of measures are floats, rounded as the record says; money and quantities are decimal strings.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

# Records of the topic ``exposures`` as types (see ``outputs``); values of measures are float64 as JSON numbers.


class Output(Struct, forbid_unknown_fields=True, kw_only=True):
    """Strict, so that the test finds a field that is written and not documented."""


class AccountRow(Output):
    """Measures of an account, signed from its holder's side.

    ``state`` is there where nothing bounds what the account is worth, or too little: ``missing`` names what has no
    price, and ``mend`` what would give it one.
    """

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
    state: Literal["unvalued"] | UnsetType = UNSET
    missing: list[str] | UnsetType = UNSET
    mend: str | UnsetType = UNSET


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
    """Measures of an underlying, over all accounts; without ``theta`` that is 0."""

    underlying: str
    gross_notional: float
    net_notional: float
    pnl: float
    delta: float
    gamma: float
    vega: float
    concentration: float
    theta: float | UnsetType = UNSET


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
    """Holdings of an asset in all accounts, and the collateral of it that we were given, before haircuts."""

    asset: str
    gross_notional: float
    net_notional: float
    collateral_held: float
    concentration: float


class IssuerRow(Output):
    """Holdings of an issuer's assets in all accounts, and of contracts on them."""

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


class ExplainRow(Output):
    """P&L explain of an account (from its holder's side) or the firm (from ours) since ``since_us``.

    The terms between ``pnl`` and the end add up to ``pnl``.
    """

    scope: str
    since_us: int
    pnl: float
    delta: float
    gamma: float
    vega: float
    theta: float
    funding: float
    fees: float
    new_trades: float
    unexplained: float


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
    ``unpriced`` assets in which balances stand and that have no rate, ``depegged`` those whose market stands alone,
    because their peg is broken, ``pegged`` those that stand at their peg; ``outage`` is what has no price and leaves so
    many accounts unvalued that it is told once for all; each is left out where it names none.
    ``explained`` stands in records of its own, once a minute where P&L is explained.
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
    depegged: list[str] | UnsetType = UNSET
    pegged: list[str] | UnsetType = UNSET
    outage: list[str] | UnsetType = UNSET
    explained: list[ExplainRow] | UnsetType = UNSET


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
    explained: list[ExplainRow] | UnsetType = UNSET


# Records of the topic ``forecasts`` as types (see ``outputs``).


class Forecast(Output):
    """The probability that a scope comes to a level within a horizon.

    ``state``: ``warming`` before enough outcomes are known (a probability from a wide prior), ``ready``, ``lost`` where
    the model has come apart from what happens, ``no_volatility`` where something held has too few prices, ``constant``
    where nothing held has moved, ``flat`` where an account that was forecast holds nothing any more.
    ``contributions`` are the terms that move the log-odds most; ``limit`` whose level it is, that of accounts' margin
    left out. ``loss_given_breach``: what we are expected to lose, in the reporting currency, by closing out the account
    once it is there, after its collateral and netting.
    """

    scope: str
    measure: str
    level: Literal["soft", "hard"]
    horizon_s: int
    probability: float
    state: Literal["warming", "ready", "lost", "no_volatility", "constant", "flat"]
    model: str | UnsetType = UNSET
    contributions: dict[str, float] | UnsetType = UNSET
    limit: str | UnsetType = UNSET
    loss_given_breach: float | UnsetType = UNSET


class ModelFigures(Output):
    """Discounted scores of one model; ``lost``: its calibration is."""

    log_loss: float
    brier: float
    lost: bool


class Score(Output):
    """Accuracy of past forecasts of one level and horizon.

    ``table`` has a row per bin of the champion's probability, split at ``bounds``: forecasts, their sum, breaches.
    """

    measure: str
    level: str
    horizon_s: int
    state: str
    champion: str
    outcomes: int
    breaches: int
    models: dict[str, ModelFigures]
    bounds: list[float]
    table: list[list[float]]
    limit: str | UnsetType = UNSET


class QuantileScore(Output):
    """Accuracy of past quantiles of returns: share of outcomes below, and pinball loss, by level."""

    horizon_s: int
    outcomes: int
    qlike: float
    coverage: dict[str, float]
    pinball: dict[str, float]


class Volatility(Output):
    """The forecast of one instrument: volatility as a fraction per year^½, quantiles of the log return by level."""

    scope: str
    horizon_s: int
    volatility: float
    quantiles: dict[str, float]
    state: Literal["warming", "constant", "ready"]


class Loss(Output):
    """Possible loss with a counterparty, or of the firm, in the reporting currency; 0 where P&L can only gain.

    Within a day, and within an hour (``_1h``): ``var_99`` is exceeded in 1 % of scenarios, ``es_975`` the mean of the
    worst 2.5 %; ``stress_loss`` that of the scenario ``worst``. ``state``: ``warming`` where something held has too few
    hours of its own (scenarios of a wide prior), ``unpriced`` where something held has no price and is left out.
    """

    scope: str
    state: Literal["ready", "warming", "unpriced"]
    var_99: float
    es_975: float
    var_99_1h: float
    es_975_1h: float
    stress_loss: float
    worst: str


class Liquidations(Output):
    """Sales and purchases that moves of an underlying from -50 % to +50 %, in steps of 1 %, force on present books.

    ``alone`` moves only it, ``with_betas`` all others too. ``cascade_multiplier``: how many times its size each move
    becomes, null where it does not come to rest; ``diverges_at`` the smallest such move. ``depth`` is the notional
    within 50 basis points, by default (not ``depth_known``) 1 % of what is exposed.
    """

    scope: str
    depth: float
    depth_known: bool
    alone_sold: list[float]
    alone_bought: list[float]
    with_betas_sold: list[float]
    with_betas_bought: list[float]
    cascade_multiplier: list[float | None]
    diverges_at: float | None


class SystemicPart(Output):
    """An indicator: its value, its score from 0 to 1, its weight in the composite, and whether it is known.

    ``state``: ``warming`` before two days of it are known, ``constant`` where no price has moved, ``singular`` where
    some asset is a sum of others, ``empty`` where there is nothing to look at, ``no_own_funds`` where fewer than two
    own funds are known. What is not known has no score, except what is left of a turbulence that was.
    """

    value: float
    score: float
    state: Literal["warming", "constant", "singular", "empty", "no_own_funds", "ready"]
    weight: float


class SystemicStress(Output):
    """The composite, from 0 (calm) to 1 (crisis), and its parts.

    ``rank`` is the share of the last ``hours`` (up to 720) that it was below all the time; ``most_central`` whose
    default would cost the others most, empty for nobody.
    """

    systemic_stress: float
    rank: float
    hours: int
    most_central: str
    parts: dict[str, SystemicPart]


class Forecasts(Output):
    """Forecasts of a shard at the end of a second; once an hour with scores, on shard 0 with volatilities too.

    Of ``all`` shards, once a minute: systemic stress, and the liquidation maps that moved, once an hour every one.
    """

    shard: int | Literal["all"]
    seq: int
    as_of_us: int
    forecasts: list[Forecast]
    scores: list[Score] | UnsetType = UNSET
    quantiles: list[QuantileScore] | UnsetType = UNSET
    volatility: list[Volatility] | UnsetType = UNSET
    liquidations: list[Liquidations] | UnsetType = UNSET
    losses: list[Loss] | UnsetType = UNSET
    systemic: SystemicStress | UnsetType = UNSET
