"""Sections of a configuration, checked: ``[kafka]``, ``[market]``, ``[health]`` and the scenarios of stress losses.

Each section has a table of its keys, a frozen struct of checked terms and one function that reads it.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.tables import Field, Table, check_table, number_in, one_of, text_like

# The table ``[kafka]`` of a configuration: security, durability, patience and compression, checked.
#
# See contract.md, "Configuration".
#
# A secret never stands in a configuration: ``password``, ``key_password`` and ``client_secret`` name a file (``file:``)
# or an environment variable (``env:``) that holds it.

COMPRESSIONS = ("lz4", "zstd", "snappy", "gzip", "none")
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "PLAIN")
SECRETS = ("key_password", "password", "client_secret")
_SECRET = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)?")

_KAFKA: Table = {
    "tls": Field("boolean", False),
    "ca": Field("text", ""),
    "certificate": Field("text", ""),
    "key": Field("text", ""),
    "key_password": Field("text", ""),
    "sasl": Field("text", "", one_of("", *MECHANISMS)),
    "username": Field("text", ""),
    "password": Field("text", ""),
    "token_url": Field("text", ""),
    "client_id": Field("text", ""),
    "client_secret": Field("text", ""),
    "scope": Field("text", ""),
    "outage_s": Field("integer", 300, number_in(5, 900)),
    "compression": Field("text", COMPRESSIONS[0], one_of(*COMPRESSIONS)),
    "replication": Field("integer", 0, number_in(0, 9)),
    "min_insync_replicas": Field("integer", 0, number_in(0, 9)),
    "retention_hours": Field("integer", 0, number_in(0, 1_000_000)),
}


class KafkaTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How to talk to a cluster.

    Attributes
    ----------
    directory
        What relative paths count from.
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

    directory: Path = Path()
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""
    key_password: str = ""
    sasl: str = ""
    username: str = ""
    password: str = ""
    token_url: str = ""
    client_id: str = ""
    client_secret: str = ""
    scope: str = ""
    outage_s: int = 300
    compression: str = COMPRESSIONS[0]
    replication: int = 0
    min_insync_replicas: int = 0
    retention_hours: int = 0


def read_kafka(table: dict[str, Any], directory: Path, file: str) -> KafkaTerms:
    """Check a table ``[kafka]``.

    Raises
    ------
    UsageError
        Naming what is wrong and the nearest valid name.
    """
    for name in SECRETS:
        if name in table and not _SECRET.fullmatch(str(table[name])):  # and never say what stands there
            raise UsageError(f'{file} [kafka]: {name} must be "env:NAME" or "file:PATH"; no secret stands in this file')
    found = check_table(table, _KAFKA, f"{file} [kafka]")
    if bool(found["certificate"]) != bool(found["key"]):
        raise UsageError(f"{file} [kafka]: certificate and key go together; name both or neither")
    wanted = {"OAUTHBEARER": ("token_url", "client_id", "client_secret"), "": ()}
    for name in wanted.get(found["sasl"], ("username", "password")):
        if not found[name]:
            raise UsageError(f"{file} [kafka]: sasl = {found['sasl']!r} needs {name}")
    return KafkaTerms(directory=directory, **found)


def load_kafka(path: Path) -> KafkaTerms:
    """Read the table ``[kafka]`` of a TOML file, which may hold other tables too."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} holds no settings of a cluster ({error}); correct ?settings= in bus") from None
    return read_kafka(tables.get("kafka", {}), path.absolute().parent, path.name)


# What ``[market]`` of a configuration may say: how the dataflow ``market`` cuts, scores and judges.
#
# None of it is journaled: what ``market`` decided stands in the signals, and slices name the signals that were taken.

GROUPS_MAX = 4096


def _divides_a_second(value: Any) -> str:
    return "" if value == 0 or (value > 0 and 1000 % value == 0) else "must divide 1000"


_MARKET: Table = {
    "groups": Field("integer", 4, number_in(1, GROUPS_MAX)),
    "interval_ms": Field("integer", 0, _divides_a_second),
    "score_s": Field("integer", 1, number_in(1, 86_400)),
    "instruments_max": Field("integer", 10_000, number_in(1, 10_000_000)),
    "stale_s": Field("number", 30, number_in(0.001, 1e9)),
    "gap_bp": Field("number", 100, number_in(0, 1e6)),
    "gap_s": Field("number", 1, number_in(0, 1e6)),
    "look_back_fraction": Field("number", 0.07, number_in(0.0001, 1)),
    "reference_fraction": Field("number", 0.05, number_in(0.0001, 1)),
    "alert_score": Field("number", 0.6, number_in(0.5, 1)),
    "refractory_s": Field("number", 300, number_in(0, 1e9)),
    "challenger": Field("boolean", False),
}


class MarketTerms(msgspec.Struct, frozen=True, kw_only=True):
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

    groups: int = 4
    interval_ms: int = 100
    score_s: int = 1
    instruments_max: int = 10_000
    stale_s: float = 30
    gap_bp: float = 100
    gap_s: float = 1
    look_back_fraction: float = 0.07
    reference_fraction: float = 0.05
    alert_score: float = 0.6
    refractory_s: float = 300
    challenger: bool = False

    @property
    def interval_us(self) -> int:
        """Length of an interval."""
        return self.interval_ms * 1000

    @property
    def stale_us(self) -> int:
        """Silence after which a feed is stale."""
        return int(self.stale_s * 1_000_000)


def read_market(content: dict[str, Any], slice_ms: int, file: str) -> MarketTerms:
    """Return the terms of a ``[market]`` table, defaults filled in.

    Raises
    ------
    UsageError
        Naming the file, the key and the nearest valid name, or the rule.
    """
    found = check_table(content, _MARKET, f"{file} [market]")
    found["interval_ms"] = found["interval_ms"] or slice_ms
    return MarketTerms(**found)


# What ``[health]`` of a configuration may say: where a run answers whether it is alive, and when it says no.

_HEALTH: Table = {
    "listen": Field("text", "", text_like(r"([A-Za-z0-9_.-]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}|")),
    "check_s": Field("number", 2, number_in(0.05, 3600)),
    "stuck_s": Field("number", 30, number_in(0.5, 86_400)),
    "window_s": Field("number", 60, number_in(0.5, 86_400)),
    "lag_max": Field("integer", 10_000, number_in(1, 1 << 60)),
    "certificate": Field("text", ""),
    "key": Field("text", ""),
    "client_ca": Field("text", ""),
    "traces": Field("text", "", text_like(r"(https?://\S+)?")),
}


class HealthTerms(msgspec.Struct, frozen=True, kw_only=True):
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

    listen: str = ""
    check_s: float = 2
    stuck_s: float = 30
    window_s: float = 60
    lag_max: int = 10_000
    certificate: str = ""
    key: str = ""
    client_ca: str = ""
    traces: str = ""


def read_health(content: dict[str, Any], file: str) -> HealthTerms:
    """Return the terms of a ``[health]`` table, defaults filled in; raises UsageError naming key and rule."""
    terms = HealthTerms(**check_table(content, _HEALTH, f"{file} [health]"))
    if bool(terms.certificate) != bool(terms.key) or (terms.client_ca and not terms.certificate):
        raise UsageError(f"{file} [health]: certificate and key belong together, and client_ca needs both; set them")
    return terms


# Named scenarios of stress losses: what prices, implied volatilities and stablecoins do at once.
#
# Without scenarios of its own a configuration has :data:`STANDARD_SCENARIOS`. Moves are fractions of today's price by
# asset; ``*`` is every asset that none is named for. Currencies stand still.

MOVE_MIN, MOVE_MAX = -0.99, 10.0
SCENARIOS_MAX: Final = 50
_SCENARIO: Table = {
    "name": Field("text", rule=text_like(IDENTIFIER_PATTERN)),
    "moves": Field("table", {}),
    "volatility": Field("number", 0.0, number_in(-1.0, 10.0)),  # of implied volatilities, a fraction of theirs
    "stablecoins": Field("number", 0.0, number_in(MOVE_MIN, MOVE_MAX)),
}
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


def check_scenarios(found: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """Return scenarios with what they leave out filled in.

    Raises
    ------
    UsageError
        Naming the scenario and the rule that it breaks.
    """
    if len(found) > SCENARIOS_MAX:
        raise UsageError(f"{place}: {len(found)} scenarios, at most {SCENARIOS_MAX}; leave some out")
    checked = [_checked_scenario(one, f"{place} {at}") for at, one in enumerate(found, 1)]
    names = [one["name"] for one in checked]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{place}: two scenarios are named {twice}; rename one")
    return checked


def _checked_scenario(found: dict[str, Any], place: str) -> dict[str, Any]:
    scenario = check_table(found, _SCENARIO, place)
    moves = {asset: Field("number", rule=number_in(MOVE_MIN, MOVE_MAX)) for asset in scenario["moves"]}
    check_table(scenario["moves"], moves, f"{place} moves")
    return scenario


def scenarios_of(section: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scenarios of a configuration's ``[forecasts]``."""
    return section.get("stress") or STANDARD_SCENARIOS
