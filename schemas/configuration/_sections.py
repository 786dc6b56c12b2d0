"""Sections of a configuration as tables: ``[kafka]``, ``[market]``, ``[health]``, stress losses, portfolio margins."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, get_args

from msgspec import field

from seawall.schemas.errors import UsageError
from seawall.schemas.tables import Name, Table, between, check_table, ruled, text_like

# The table ``[kafka]`` of a configuration: security, durability, patience and compression, checked.
#
# See contract.md, "Configuration".
#
# A secret never stands in a configuration: ``password``, ``key_password`` and ``client_secret`` name a file (``file:``)
# or an environment variable (``env:``) that holds it.

Compression = Literal["lz4", "zstd", "snappy", "gzip", "none"]
COMPRESSIONS: tuple[str, ...] = get_args(Compression)
_SECRET_RULE = 'must be "env:NAME" or "file:PATH"; no secret stands in this file'
_SECRET_FORM = text_like(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)?").pattern
_Secret: TypeAlias = Annotated[str, ruled(_SECRET_RULE, secret=True, pattern=_SECRET_FORM)]
_Copies: TypeAlias = Annotated[int, between(0, 9)]


class KafkaTable(Table, frozen=True):
    """How to talk to a cluster.

    Attributes
    ----------
    tls, ca, certificate, key, key_password
        Encryption; ``certificate`` and ``key`` are PEM files by which we authenticate.
    sasl, username, password
        Authentication by name; with OAUTHBEARER instead ``token_url``, ``client_id``, ``client_secret``, ``scope``.
    outage_s
        How long a run waits for a cluster that answered before and no longer does, until it stops; at most 900, because
        no cluster takes longer transactions by default.
    compression
        Of what a run writes.
    replication, min_insync_replicas
        Of topics made by ``seawall topics create``; 0: three and two where there are three brokers.
    retention_hours
        Of ``acknowledgements``, which others write; 0: for ever, as all that a run writes and numbers.
    """

    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: _Secret = ""
    sasl: Literal["", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "PLAIN"] = ""
    username: str = ""
    password: _Secret = ""
    token_url: str = ""
    client_id: str = ""
    client_secret: _Secret = ""
    scope: str = ""
    outage_s: Annotated[int, between(5, 900)] = 300
    compression: Compression = "lz4"
    replication: _Copies = 0
    min_insync_replicas: _Copies = 0
    retention_hours: Annotated[int, between(0, 1_000_000)] = 0

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together; name both or neither")
        wanted = {"OAUTHBEARER": ("token_url", "client_id", "client_secret"), "": ()}
        for name in wanted.get(self.sasl, ("username", "password")):
            if not getattr(self, name):
                raise ValueError(f"sasl = {self.sasl!r} needs {name}")


class KafkaTerms(KafkaTable, frozen=True):
    """How to talk to a cluster, and the ``directory`` that relative paths count from."""

    directory: Path = Path()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the table ``[kafka]`` of a TOML file, which may hold other tables too."""
        try:
            tables = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path} holds no settings of a cluster ({error}); correct ?settings= in bus") from None
        terms = check_table(tables.get("kafka", {}), KafkaTable, f"{path.name} [kafka]")
        return cls(directory=path.absolute().parent, **terms)


# What ``[market]`` of a configuration may say: how the dataflow ``market`` cuts, scores and judges.
#
# None of it is journaled: what ``market`` decided stands in the signals, and slices name the signals that were taken.

GROUPS_MAX = 4096


Divisor = Literal[1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000]
DIVIDES = ruled("must divide 1000")


class MarketTerms(Table, frozen=True):
    """Checked terms of the dataflow ``market``.

    Attributes
    ----------
    groups
        Instrument groups, also the partitions of ``signals``; never changes once records stand there.
    interval_ms
        One signal per group and interval in which anything happened; absent: the length of a slice.
    score_s
        Instruments are scored together, every so many seconds in which they were heard of.
    instruments_max
        Instruments remembered in each group; the one that was silent longest is forgotten first.
    stale_s
        A feed that is silent for longer while others go on is stale, and leaves the robust mark.
    gap_bp, gap_s
        Venues further apart than this for so long are an alert.
    look_back_fraction, reference_fraction
        The circuit breakers: against the past hour's range, and against the five-minute average for 15 seconds.
    alert_score, refractory_s
        A score from here on is an alert; the same kind is not repeated for an instrument within the refractory time.
    challenger
        Half-space trees, shared by each kind of instrument, challenge every model and answer where they prove better.
    """

    groups: Annotated[int, between(1, GROUPS_MAX)] = 4
    interval_ms: Annotated[Literal[0, Divisor], DIVIDES] = 100
    score_s: Annotated[int, between(1, 86_400)] = 1
    instruments_max: Annotated[int, between(1, 10_000_000)] = 10_000
    stale_s: Annotated[float, between(0.001, 1e9)] = 30
    gap_bp: Annotated[float, between(0, 1e6)] = 100
    gap_s: Annotated[float, between(0, 1e6)] = 1
    look_back_fraction: Annotated[float, between(0.0001, 1)] = 0.07
    reference_fraction: Annotated[float, between(0.0001, 1)] = 0.05
    alert_score: Annotated[float, between(0.5, 1)] = 0.6
    refractory_s: Annotated[float, between(0, 1e9)] = 300
    challenger: bool = False

    @property
    def interval_us(self) -> int:
        """Length of an interval."""
        return self.interval_ms * 1000

    @property
    def stale_us(self) -> int:
        """Silence after which a feed is stale."""
        return int(self.stale_s * 1_000_000)


# What ``[health]`` of a configuration may say: where a run answers whether it is alive, and when it says no.

_LISTEN = r"([A-Za-z0-9_.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}|"


class HealthTerms(Table, frozen=True):
    """Checked terms of the endpoint.

    Attributes
    ----------
    listen
        ``HOST:PORT``; empty: no endpoint.
    check_s
        How often the run is looked at.
    stuck_s
        What must move and did not for so long is stuck.
    window_s
        A lag whose later half of this time lies above the earlier one is growing.
    lag_max
        Records that a reader may be behind and still be ready.
    certificate, key
        PEM files of the endpoint's TLS, relative to the configuration; empty: none.
    client_ca
        PEM file of who vouches for those who may ask; empty: whoever reaches it.
    traces
        Where a collector of OpenTelemetry takes traces, such as ``http://127.0.0.1:4318/v1/traces``; empty: none.
    """

    listen: Annotated[str, text_like(_LISTEN)] = ""
    check_s: Annotated[float, between(0.05, 3600)] = 2
    stuck_s: Annotated[float, between(0.5, 86_400)] = 30
    window_s: Annotated[float, between(0.5, 86_400)] = 60
    lag_max: Annotated[int, between(1, 1 << 60)] = 10_000
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    traces: Annotated[str, text_like(r"(https?://\S+)?")] = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key) or (self.client_ca and not self.certificate):
            raise ValueError("certificate and key belong together, and client_ca needs both; set them")


# Named scenarios of stress losses: what prices, implied volatilities and stablecoins do at once.
#
# Without scenarios of its own a configuration has :data:`STANDARD_SCENARIOS`. Moves are fractions of today's price by
# asset; ``*`` is every asset that none is named for. Currencies stand still.

MOVE_MIN, MOVE_MAX = -0.99, 10.0
SCENARIOS_MAX: Final = 50
_Move: TypeAlias = Annotated[float, between(MOVE_MIN, MOVE_MAX)]


class StressTable(Table, frozen=True):
    """A ``[[forecasts.stress]]``: what prices by asset, implied volatilities and stablecoins do, as fractions."""

    name: Name
    moves: dict[str, _Move] = field(default_factory=dict)
    volatility: Annotated[float, between(-1.0, 10.0)] = 0.0
    stablecoins: _Move = 0.0


STANDARD_SCENARIOS: Final[list[dict[str, Any]]] = [
    {"name": "all-down-10", "moves": {"*": -0.1}, "volatility": 0.2, "stablecoins": 0.0},
    {"name": "all-down-30", "moves": {"*": -0.3}, "volatility": 0.5, "stablecoins": 0.0},
    {"name": "all-down-50", "moves": {"*": -0.5}, "volatility": 1.0, "stablecoins": 0.0},
    {"name": "all-up-10", "moves": {"*": 0.1}, "volatility": 0.2, "stablecoins": 0.0},
    {"name": "all-up-30", "moves": {"*": 0.3}, "volatility": 0.5, "stablecoins": 0.0},
    {"name": "all-up-50", "moves": {"*": 0.5}, "volatility": 1.0, "stablecoins": 0.0},
    # the worst 24 hours of Binance's spot prices in either crash; of coins not named, the worst that any had
    {
        "name": "march-2020",
        "moves": {"*": -0.53, "BTC": -0.46, "ETH": -0.48, "LTC": -0.45, "XRP": -0.41, "ADA": -0.46, "BCH": -0.49},
        "volatility": 1.0,
        "stablecoins": 0.0,
    },
    {
        "name": "may-2021",
        "moves": {"*": -0.55, "BTC": -0.32, "ETH": -0.44, "XRP": -0.46, "LINK": -0.47, "ADA": -0.5, "DOT": -0.51},
        "volatility": 1.0,
        "stablecoins": 0.0,
    },
    {"name": "others-halve", "moves": {"*": -0.5, "BTC": 0.0, "ETH": 0.0}, "volatility": 0.0, "stablecoins": 0.0},
    {"name": "others-double", "moves": {"*": 1.0, "BTC": 0.0, "ETH": 0.0}, "volatility": 0.0, "stablecoins": 0.0},
    {"name": "volatility-doubles", "moves": {}, "volatility": 1.0, "stablecoins": 0.0},
    {"name": "volatility-halves", "moves": {}, "volatility": -0.5, "stablecoins": 0.0},
    {"name": "stablecoins-down-10", "moves": {}, "volatility": 0.0, "stablecoins": -0.1},
]


# Portfolio margins of venues: what a venue's scenarios are, and what it charges beside their worst loss.
#
# ``[portfolio_margin.VENUE]`` names a file of this form: one of ``grids`` beside this module, each figure with its
# source, or one's own. The journal records what the file says, not its name.

_Factor: TypeAlias = Annotated[float, between(0, 10)]


class VolatilityMove(Table, frozen=True):
    """A move of implied volatilities by days to expiry, in a straight line between ``days``.

    Attributes
    ----------
    days
        Rising; before the first and beyond the last the move is as there.
    relative, points
        At each of ``days``, or one for all: fractions of the volatility, and volatility points as fractions.
    near_power, far_power
        ``relative`` is multiplied by (30 / days)^power: the first below 30 days, the second from there on.
    floor
        A moved volatility is no smaller.
    """

    days: tuple[Annotated[float, between(0, 100_000)], ...] = (30.0,)
    relative: tuple[_Move, ...] = (0.0,)
    points: tuple[_Move, ...] = (0.0,)
    near_power: _Factor = 0.0
    far_power: _Factor = 0.0
    floor: _Factor = 0.0

    def __post_init__(self) -> None:
        if not self.days or list(self.days) != sorted({*self.days}):
            raise ValueError("days must be given and rise; put them in order, each once")
        if not {len(self.relative), len(self.points)} <= {1, len(self.days)}:
            raise ValueError("relative and points have one number, or one for each of days; write as many")


class ExtendedMoves(Table, frozen=True):
    """Price moves beyond the range, at one volatility move, of whose loss a part counts.

    Attributes
    ----------
    weight
        The part that counts.
    price_range
        Above 0: a loss counts ``price_range / |move|`` of that part, so that a linear position loses no more than at
        the edge of the range.
    dampener
        Amount in the reporting currency, times ``|move| / price_range - 1``, that is let off the loss.
    """

    moves: tuple[_Move, ...]
    volatility: VolatilityMove = VolatilityMove()
    weight: Annotated[float, between(0, 1)] = 1.0
    price_range: Annotated[float, between(0, 0.99)] = 0.0
    dampener: Annotated[float, between(0, 1e12)] = 0.0

    def __post_init__(self) -> None:
        if any(not move or abs(move) < self.price_range for move in self.moves):
            raise ValueError("moves: each lies beyond price_range, and 0 is no move; take the others away")


class MarginGrid(Table, frozen=True):
    """A ``[[grids]]``: scenarios and charges of some underlyings.

    Attributes
    ----------
    underlyings
        Without any: every underlying that no other grid of the file names.
    moves, volatilities
        Every price move is taken with every volatility move.
    roll_rate, roll_min
        The net delta of each expiry is charged the larger of ``roll_rate`` per year to go and ``roll_min``.
    short_option
        Charge per unit of options that are net short at a strike, as a fraction of the underlying.
    """

    moves: tuple[_Move, ...]
    underlyings: tuple[Name, ...] = ()
    volatilities: tuple[VolatilityMove, ...] = (VolatilityMove(),)
    extended: tuple[ExtendedMoves, ...] = ()
    roll_rate: _Factor = 0.0
    roll_min: _Factor = 0.0
    short_option: _Factor = 0.0


class PortfolioMargin(Table, frozen=True):
    """A file of a venue's grids.

    Attributes
    ----------
    initial_factor, maintenance_factor
        Initial and maintenance margin as multiples of what the grids give; 0: not known, the configuration says it.
    currency
        Of the amounts in it; without one they are in the reporting currency, whatever that is.
    """

    currency: str = ""
    initial_factor: _Factor = 0.0
    maintenance_factor: _Factor = 1.0
    grids: tuple[MarginGrid, ...] = ()

    def __post_init__(self) -> None:
        named = [name for grid in self.grids for name in grid.underlyings or ("all others",)]
        if len(named) != len({*named}):
            raise ValueError("grids: two have the same underlyings, or none; name each underlying once")


class PortfolioMarginTable(Table, frozen=True):
    """A ``[portfolio_margin.VENUE]``: a shipped grid or the path of a file, and factors in place of the file's."""

    grid: str
    initial_factor: _Factor = 0.0
    maintenance_factor: _Factor = 0.0
