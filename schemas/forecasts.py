"""Records of the topic ``forecasts`` as types (see ``outputs``)."""

from typing import Literal

from msgspec import UNSET, UnsetType

from seawall.schemas.exposures import Output


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
    """How good the forecasts of one level and horizon have been.

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
    """How good the quantiles of returns have been: share of outcomes below, and pinball loss, by level."""

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
    """What P&L with a counterparty, or the firm's, may lose, in the reporting currency; 0 where it can only gain.

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
    """What moves of an underlying from -50 % to +50 %, in steps of 1 %, force present books to sell and to buy.

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
    """What a shard forecasts at the end of a second; once an hour with scores, on shard 0 with volatilities too.

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
