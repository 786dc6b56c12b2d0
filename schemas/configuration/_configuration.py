"""Configuration: what stands in the files, checked, and what of it the journal records (contract.md, "Configuration").

A key or name that does not exist is an error that names the nearest one that does. Everything that decides becomes part
of the journal through :func:`journaled_configuration`; paths, the bus and the signer do not, so that nothing in a topic
depends on where a run lies.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

import seawall
from seawall.schemas.configuration._playbook import read_playbook, read_response
from seawall.schemas.configuration._sections import (
    DIVIDES,
    SCENARIOS_MAX,
    Divisor,
    HealthTerms,
    KafkaTable,
    MarketTerms,
    PortfolioMargin,
    PortfolioMarginTable,
    StressTable,
)
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import check_forecast_limits, read_limits
from seawall.schemas.records import check_not_older
from seawall.schemas.tables import Name, Table, between, check_table, nearest, ruled, text_like, unknown

RUN_FILE = "run.toml"
SHARDS_MAX = 4096
SOURCES_MAX = 400  # each slice carries a position per source
CONFIGURATION_BYTES_MAX = 256 * 1024  # limits and playbook stand in one slice
STUCK_SNAPSHOTS_MIN = 2  # a dataflow that wrote its state late once is not stuck
TOML_BYTES_MAX = 1024 * 1024  # of a file
UNCHANGEABLE = ("shards", "slice_ms", "environment", "issuer", "reporting_currency")
_GRIDS = Path(__file__).resolve().parent / "grids"
OWN_TOPICS = ("signals", "acknowledgements", "redrive")  # which a run may follow
# Of journals that do not say, which are decided by these for ever; a later default of the file is journaled.
JOURNAL_DEFAULTS: dict[str, Any] = {
    "confirm_s": 30.0,
    "confirm_tolerance": 0.01,
    "peg_tolerance": 0.02,
    "peg_return_s": 3600.0,
    "price_max_age_s": 0.0,
    "unvalued_factor": 3.0,
    "unvalued_tolerance": 0.05,
    "unvalued_floor": 100.0,
    "unvalued_max_share": 0.1,
    "peg_haircut": 0.02,
    "potential_exposure_change_min": 0.01,
    "pnl_explain": False,
    "holidays": [],
}
HOT = (
    "exposure_change_min",
    "mark_max_age_s",
    "confirm_s",
    "confirm_tolerance",
    "peg_tolerance",
    "peg_return_s",
    "price_max_age_s",
    "unvalued_factor",
    "unvalued_tolerance",
    "unvalued_floor",
    "unvalued_max_share",
    "peg_haircut",
    "pnl_explain",
    "fill_memory",
    "crypto_regime",
    "potential_exposure_change_min",
    "holidays",
    "epoch",
    "conduct",
)


class InputsTable(Table, frozen=True):
    """``[inputs]``: bounded files, live topics, and the mapping files of foreign ones."""

    events: Annotated[tuple[str, ...], ruled(f"must name at most {SOURCES_MAX}", max_length=SOURCES_MAX)] = ()
    topics: tuple[str, ...] = ()
    market_topics: tuple[str, ...] | UnsetType = UNSET
    wait_ms: Annotated[int, between(0, 60_000)] = 0
    mappings: dict[str, str] = msgspec.field(default_factory=dict)


class LimitsTable(Table, frozen=True):
    """``[limits]``: a limits file, or the signed documents that say them."""

    file: str = ""
    documents: tuple[str, ...] = ()


class MitigationTable(Table, frozen=True):
    """``[mitigation]``: the playbook."""

    playbook: str = ""


class KeysTable(Table, frozen=True):
    """``[keys]``: who signs, and whose signatures count."""

    signer: str = "file:keys/dev.pem"
    set: str = ""
    set_sha256: Annotated[str, text_like("([0-9a-f]{64})?")] = ""
    sealer: str = "file:keys/sealer.pem"
    witnesses: tuple[str, ...] = ()


class ConductTable(Table, frozen=True):
    """``[conduct]``: thresholds of the watch over accounts."""

    enabled: bool = True
    level: Annotated[float, between(0, 1)] = 0.9
    persistence: Annotated[int, between(1, 1_000)] = 3
    refractory_s: Annotated[float, between(0, 1e6)] = 600
    warm_up: Annotated[int, between(1, 1_000_000)] = 50
    window_s: Annotated[float, between(0.001, 1e6)] = 60


class ForecastsTable(Table, frozen=True):
    """``[forecasts]``: whether forecasts are made, and the scenarios of stress losses."""

    enabled: bool = False
    losses: bool = False
    stress: Annotated[tuple[StressTable, ...], Meta(max_length=SCENARIOS_MAX)] = ()

    def __post_init__(self) -> None:
        if self.losses and not self.enabled:
            raise ValueError("losses = true needs forecasts; set enabled = true under [forecasts]")
        names = [one.name for one in self.stress]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"stress: two scenarios are named {twice}; rename one")


class RunTerms(Table, frozen=True):
    """Keys of a configuration outside its tables."""

    bus: str = "sqlite:seawall.db"
    environment: Literal["dev", "test", "prod"] = "dev"
    issuer: Name = "risk/dev"
    shards: Annotated[int, between(1, SHARDS_MAX)] = 4
    slice_ms: Annotated[Divisor, DIVIDES] = 100
    reporting_currency: Name = "USD"
    exposure_change_min: Annotated[float, between(0, 1)] = 0.001
    mark_max_age_s: Annotated[float, between(0, 1e9)] = 60
    confirm_s: Annotated[float, between(0, 1e9)] = JOURNAL_DEFAULTS["confirm_s"]
    confirm_tolerance: Annotated[float, between(0, 1)] = JOURNAL_DEFAULTS["confirm_tolerance"]
    peg_tolerance: Annotated[float, between(0, 1)] = JOURNAL_DEFAULTS["peg_tolerance"]
    peg_return_s: Annotated[float, between(0, 1e9)] = JOURNAL_DEFAULTS["peg_return_s"]
    price_max_age_s: Annotated[float, between(0, 1e9)] = JOURNAL_DEFAULTS["price_max_age_s"]
    unvalued_factor: Annotated[float, between(1, 1000)] = JOURNAL_DEFAULTS["unvalued_factor"]
    unvalued_tolerance: Annotated[float, between(0, 1e6)] = JOURNAL_DEFAULTS["unvalued_tolerance"]
    unvalued_floor: Annotated[float, between(0, 1e18)] = JOURNAL_DEFAULTS["unvalued_floor"]
    unvalued_max_share: Annotated[float, between(0, 1)] = JOURNAL_DEFAULTS["unvalued_max_share"]
    peg_haircut: Annotated[float, between(0, 1)] = JOURNAL_DEFAULTS["peg_haircut"]
    pnl_explain: bool = False
    fill_memory: Annotated[int, between(0, 10_000_000)] = 100_000
    crypto_regime: Literal["osfi", "basel"] = "osfi"
    potential_exposure_change_min: Annotated[float, between(0, 1)] = JOURNAL_DEFAULTS["potential_exposure_change_min"]
    holidays: tuple[Annotated[str, text_like("[0-9]{4}-[0-9]{2}-[0-9]{2}")], ...] = ()
    epoch: Annotated[int, between(1, 1_000_000)] = 1
    snapshot_s: Annotated[float, between(0.1, 3600)] = 1


FORMAT = 1  # of configuration files
_OTHER_VERSION = f"must be {FORMAT}; a file of another version needs its Seawall"


class ConfigurationFile(RunTerms, frozen=True):
    """A configuration as its file has it."""

    version: Annotated[int, ruled(_OTHER_VERSION, ge=FORMAT, le=FORMAT)] = FORMAT
    inputs: InputsTable = InputsTable()
    limits: LimitsTable = LimitsTable()
    mitigation: MitigationTable = MitigationTable()
    market: MarketTerms = MarketTerms()
    keys: KeysTable = KeysTable()
    conduct: ConductTable = ConductTable()
    forecasts: ForecastsTable = ForecastsTable()
    portfolio_margin: dict[Name, PortfolioMarginTable] = msgspec.field(default_factory=dict)
    kafka: KafkaTable = KafkaTable()
    health: HealthTerms = HealthTerms()

    def __post_init__(self) -> None:
        least = STUCK_SNAPSHOTS_MIN * self.snapshot_s
        if self.health.stuck_s < least:
            raise ValueError(
                f"health.stuck_s is {self.health.stuck_s:g} and snapshot_s {self.snapshot_s:g}: a run that is well "
                f"would count as stuck; set it to {least:g} at least"
            )
        if self.environment != "dev" and not self.price_max_age_s:
            raise ValueError(
                f"{self.environment} needs price_max_age_s, after which a price is not known any more; add "
                "price_max_age_s = 3600, or the longest silence of a feed that you trust"
            )
        for day in self.holidays:
            try:
                date.fromisoformat(day)
            except ValueError:
                raise ValueError(f"holidays: {day} is no day of the calendar; write YYYY-MM-DD") from None


class Configuration(RunTerms, frozen=True, kw_only=True):
    """A checked configuration.

    Attributes
    ----------
    path, directory
        The file, and the folder that relative paths count from.
    events, topics
        Bounded files in merge order, as written, and live topics; ``sources`` names each file in the journal.
    market_topics
        Those of ``topics`` that ``market`` reads: all where nothing is said.
    wait_ms
        How long after the end of an interval the live sequencer waits for stragglers before it cuts.
    mappings
        Mapping files of foreign sources (``connectors/feeds``), by what the journal calls the file, or by topic.
    epoch
        Which commands are ours: raised after a key was stolen, together with the key set's ``epoch_floor``.
    snapshot_s
        How often ``market`` and ``risk`` write their state: what a crash makes them compute again at most.
    limits, playbook
        What the files say, defaults filled in.
    response
        The terms of the playbook's ``[response]``; empty where it has none.
    limits_file, playbook_file
        Where they stand, None when there are none.
    limit_documents
        Files and folders of signed limit documents, instead of a limits file.
    key_set, key_set_sha256
        The key sets that say who is maker and checker, and the pinned hash of the first.
    signer, sealer
        Where the keys are that sign commands and the audit's checkpoints.
    witnesses
        ``URL VKEY`` of each witness that is asked to cosign checkpoints.
    conduct
        Thresholds of the watch over accounts (``operators/core/detection/_account_behaviour.py``), defaults filled in.
    forecasts
        Whether forecasts are made (``operators/core/foresight``); in the journal only where they are.
    portfolio_margin
        By venue the grids of its portfolio margin; in the journal only where there are any.
    market
        Terms of the dataflow ``market``.
    health
        Where a run answers whether it is alive.
    """

    path: Path
    directory: Path
    events: tuple[str, ...]
    sources: tuple[str, ...]
    topics: tuple[str, ...]
    market_topics: tuple[str, ...] = ()
    wait_ms: int
    mappings: dict[str, Path] = msgspec.field(default_factory=dict)
    limits_file: Path | None
    playbook_file: Path | None
    limits: list[dict[str, Any]]
    playbook: list[dict[str, Any]]
    signer: str
    limit_documents: tuple[Path, ...] = ()
    key_set: Path | None = None
    key_set_sha256: str = ""
    sealer: str
    witnesses: tuple[str, ...]
    conduct: dict[str, Any]
    forecasts: dict[str, Any]
    response: dict[str, Any] = msgspec.field(default_factory=dict)
    portfolio_margin: dict[str, Any] = msgspec.field(default_factory=dict)
    market: MarketTerms = MarketTerms()
    health: HealthTerms = HealthTerms()


def load_configuration(path: str | Path) -> Configuration:
    """Read and check a configuration and the files that it names.

    Raises
    ------
    UsageError
        Naming the file, what is wrong there, and the nearest valid name.
    """
    path = Path(path)
    content = read_toml(path)
    top = check_table(content, ConfigurationFile, path.name)
    del top["version"], top["kafka"]
    inputs, limits, mitigation, keys, conduct, forecasts, health = (
        top.pop(name) for name in ("inputs", "limits", "mitigation", "keys", "conduct", "forecasts", "health")
    )
    _check_limits_source(limits, keys, top["environment"], path.name)
    market, margins = top.pop("market"), top.pop("portfolio_margin")
    market["interval_ms"] = content.get("market", {}).get("interval_ms") or top["slice_ms"]
    directory = path.absolute().parent
    top["bus"] = _bus(top["bus"], content.get("kafka"), path)
    limits_file = directory / limits["file"] if limits["file"] else None
    playbook_file = directory / mitigation["playbook"] if mitigation["playbook"] else None
    rules = [] if limits_file is None else load_limits(limits_file)
    sources = source_names(inputs["events"], path.name)
    wrong = check_forecast_limits(rules, forecasts)
    if wrong:
        raise UsageError(f"{path.name}: {wrong}")
    return Configuration(
        path=path.absolute(),
        directory=directory,
        **top,
        events=tuple(inputs["events"]),
        sources=sources,
        topics=tuple(inputs["topics"]),
        market_topics=_market_topics(inputs, path.name),
        wait_ms=inputs["wait_ms"] or top["slice_ms"],
        mappings=_mappings(inputs, sources, path),
        limits_file=limits_file,
        playbook_file=playbook_file,
        limits=rules,
        playbook=[] if playbook_file is None else load_playbook(playbook_file, _limit_ids(rules, limits)),
        signer=keys["signer"],
        limit_documents=tuple(directory / name for name in limits["documents"]),
        key_set=directory / keys["set"] if keys["set"] else None,
        key_set_sha256=keys["set_sha256"],
        sealer=keys["sealer"],
        witnesses=tuple(keys["witnesses"]),
        conduct=conduct,
        response={} if playbook_file is None else load_response(playbook_file),
        forecasts=forecasts,
        portfolio_margin={
            venue: _portfolio_margin(venue, table, path, top["reporting_currency"]) for venue, table in margins.items()
        },
        market=MarketTerms(**market),
        health=HealthTerms(**health),
    )


def _portfolio_margin(venue: str, table: dict[str, Any], path: Path, currency: str) -> dict[str, Any]:
    """Return what the grid file of a venue says, with the factors that the configuration has in their place."""
    name, place = table["grid"], f"{path.name} [portfolio_margin]: {venue}"
    shipped = [file.stem for file in sorted(_GRIDS.glob("*.toml"))]
    if not name.endswith(".toml") and name not in shipped:
        raise UsageError(f"{place}: {unknown('grid', name, shipped)} A file of your own ends with .toml")
    file = path.absolute().parent / name if name.endswith(".toml") else _GRIDS / f"{name}.toml"
    margin: dict[str, Any] = check_table(read_toml(file), PortfolioMargin, file.name)
    if margin["currency"] not in ("", currency):
        text = f"{place}: amounts of {name} are in {margin['currency']}, and reporting_currency is {currency}"
        raise UsageError(f"{text}; name a file of your own, with them in {currency}")
    margin |= {factor: value for factor, value in table.items() if factor != "grid" and value}
    if margin["initial_factor"] < margin["maintenance_factor"]:
        least = f"{margin['initial_factor']:g} and maintenance_factor {margin['maintenance_factor']:g}"
        raise UsageError(f"{place}: initial_factor is {least} of {name}; set it here as the venue publishes it")
    return margin


def _bus(bus: str, kafka: dict[str, Any] | None, path: Path) -> str:
    """Return the address of the bus, which names this file where it has settings of a cluster."""
    if not kafka:
        return bus
    if not bus.startswith("kafka:"):
        raise UsageError(
            f'{path.name} [kafka]: bus is "{bus}"; set bus = "kafka://host:9092/desk" or take [kafka] away'
        )
    if "?" in bus:
        raise UsageError(f"{path.name}: bus names settings and [kafka] has some; keep one")
    return f"{bus}?settings={path.name}"


def load_limits(path: str | Path) -> list[dict[str, Any]]:
    """Read a limits file: one plain dict per limit, defaults filled in, absent levels left out."""
    return read_limits(read_toml(Path(path)), Path(path).name)


def load_playbook(path: str | Path, limits: list[str] | None = None) -> list[dict[str, Any]]:
    """Read a playbook: one plain dict per rule; with ``limits``, check that the limits it names are among them."""
    return read_playbook(read_toml(Path(path)), Path(path).name, limits)


def load_response(path: str | Path) -> dict[str, Any]:
    """Read the terms of a playbook's ``[response]``; empty where it has none."""
    return read_response(read_toml(Path(path)), Path(path).name)


def where(path: str | Path) -> Configuration:
    """Return the configuration that WHERE of the command line names: a run directory or a configuration file."""
    path = Path(path)
    if not path.is_dir():
        return load_configuration(path)
    if not (path / RUN_FILE).exists():
        raise UsageError(f"{path} holds no {RUN_FILE}: name a run directory or a configuration file")
    return load_configuration(path / RUN_FILE)


def check_unchanged(configuration: Configuration, begun: Mapping[str, Any]) -> None:
    """Refuse a configuration that is not that of a journal, by what the journal says; empty: nothing yet.

    Raises
    ------
    UsageError
        Names what may never change, its value here, and the one that the journal was begun with.
    """
    for name in UNCHANGEABLE if begun else ():
        value = getattr(configuration, name)
        if begun[name] != value:
            text = f"{configuration.path.name}: {name} is {value!r} but the journal was begun with {begun[name]!r}"
            raise UsageError(f"{text}; set it back or begin another journal")


def journaled_configuration(
    configuration: Configuration, previous: dict[str, Any] | None, key_set: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Return the configuration event that the journal needs next, or None when nothing changed since ``previous``.

    Parameters
    ----------
    key_set
        Version and SHA-256 of the key set that says who signs limit documents, where a run takes such documents.

    Raises
    ------
    UsageError
        When something changed that never may.
    """
    body = {name: getattr(configuration, name) for name in (*UNCHANGEABLE, *HOT)}
    for name, default in JOURNAL_DEFAULTS.items():  # a journal without them is of a version without them, or has these
        if body[name] == default:
            del body[name]
    if configuration.forecasts["enabled"]:  # a journal without forecasts is that of a version without them
        body["forecasts"] = configuration.forecasts
    if configuration.portfolio_margin:
        body["portfolio_margin"] = configuration.portfolio_margin
    last = previous or {}
    if last.get("chained_states", not last):  # a journal of a version without them goes on without them
        body["chained_states"] = True
    check_unchanged(configuration, last)
    check_not_older(last.get("code", ""))
    if configuration.epoch < last.get("epoch", 1):
        raise UsageError(
            f"{configuration.path.name}: epoch is {configuration.epoch} but the journal stands at {last['epoch']}; "
            "it only rises, because subscribers refuse what is older"
        )
    event = {
        "version": last.get("version", 0) + 1,
        "code": seawall.__version__,
        **body,
        "limits": _limits_section(configuration, last.get("limits"), key_set),
        "playbook": playbook_section(configuration.playbook, configuration.response, last.get("playbook")),
    }
    if len(msgspec.json.encode(event)) > CONFIGURATION_BYTES_MAX:
        raise UsageError(
            f"{configuration.path.name}: limits and playbook exceed {CONFIGURATION_BYTES_MAX} bytes; use * scopes"
        )
    return None if {**event, "version": last.get("version")} == last else event


def playbook_section(
    rules: list[dict[str, Any]], response: dict[str, Any], previous: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a playbook as the journal has it: version, hash, rules, and its terms where it states any."""
    if not response:
        return _versioned("rules", rules, previous)
    section = _versioned("rules", rules, previous, {"rules": rules, "response": response})
    return {**section, "response": response}


def _mappings(inputs: dict[str, Any], sources: tuple[str, ...], path: Path) -> dict[str, Path]:
    """Return the mapping files by source; each must be of an input."""
    known = {**dict(zip(inputs["events"], sources, strict=True)), **{topic: topic for topic in inputs["topics"]}}
    found = {}
    for name, file in inputs["mappings"].items():
        place = f"{path.name} [inputs] mappings"
        if name not in known:
            near = f"; did you mean {nearest(name, known)!r}?" if known else ""
            raise UsageError(f"{place}: {name!r} is neither among events nor topics{near}")
        if name in OWN_TOPICS:
            raise UsageError(f"{place}: {name} holds records of Seawall's own; map other people's topics")
        found[known[name]] = path.absolute().parent / file
    return found


def _market_topics(inputs: dict[str, Any], file: str) -> tuple[str, ...]:
    """Return the live topics that ``market`` reads; it makes no signal of Seawall's own."""
    topics = inputs["topics"]
    for name in inputs.get("market_topics", ()):
        place = f"{file} [inputs] market_topics"
        if name not in topics:
            near = f"; did you mean {nearest(name, topics)!r}?" if topics else ""
            raise UsageError(f"{place}: {name!r} is not among topics{near}")
        if name in OWN_TOPICS:
            raise UsageError(f"{place}: {name} holds records of Seawall's own; market reads other people's topics")
    return tuple(inputs.get("market_topics", topics))


def _limits_section(
    configuration: Configuration, previous: dict[str, Any] | None, key_set: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the limits of a limits file; where documents say them, which key set they are checked with."""
    if not configuration.limit_documents:
        return _versioned("limits", configuration.limits, previous)
    return {"version": 0, "sha256": "", "limits": [], "documents": True, "key_set": key_set}


def _check_limits_source(limits: dict[str, Any], keys: dict[str, Any], environment: str, file: str) -> None:
    """Check where limits come from: a file, or in prod only documents that people signed."""
    if limits["file"] and environment == "prod":
        raise UsageError(
            f'{file} [limits] file: prod takes signed limit documents; set documents = ["limits"] and write the first '
            f"with: seawall limits propose {file} --file {limits['file']}"
        )
    if limits["file"] and limits["documents"]:
        raise UsageError(f"{file} [limits]: file and documents exclude each other; keep one")
    if limits["documents"] and not (keys["set"] and keys["set_sha256"]):
        raise UsageError(
            f"{file} [keys]: limit documents need set (the file of key sets) and set_sha256 (the first one's hash)"
        )


def _limit_ids(limits: list[dict[str, Any]], source: dict[str, Any]) -> list[str] | None:
    """Return the limits that a playbook may name; None where documents say them."""
    return None if source["documents"] else [limit["id"] for limit in limits]


def content_sha256(content: Any) -> str:
    """Return SHA-256 of the canonical JSON (sorted keys, no spaces) of a document."""
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


def source_names(events: list[str], file: str = "inputs") -> tuple[str, ...]:
    """Return what the journal calls each file: the shortest end of its path that no other shares.

    Examples
    --------
    >>> source_names(["../data/marks.jsonl", "a/fills.jsonl", "b/fills.jsonl"])
    ('marks.jsonl', 'a/fills.jsonl', 'b/fills.jsonl')
    """
    parts = [PurePosixPath(event).parts for event in events]
    names = []
    for mine in parts:
        others = [other for other in parts if other is not mine]
        for length in range(1, len(mine) + 1):
            if all(other[-length:] != mine[-length:] for other in others):
                break
        else:
            raise UsageError(f"{file}: {'/'.join(mine)} stands twice in events; list each file once")
        names.append("/".join(mine[-length:]))
    return tuple(names)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    UsageError
        Absent, unreadable or no TOML; in one line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(TOML_BYTES_MAX + 1)
        if len(content) > TOML_BYTES_MAX:
            raise UsageError(f"{path} has more than {TOML_BYTES_MAX} bytes; split it, or name another file")
        return tomllib.loads(content.decode())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; name an existing file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None


def _versioned(
    name: str, content: list[dict[str, Any]], previous: dict[str, Any] | None, hashed: Any = None
) -> dict[str, Any]:
    digest = content_sha256(content if hashed is None else hashed)
    before = previous or {"version": 0, "sha256": ""}
    return {"version": before["version"] + (digest != before["sha256"]), "sha256": digest, name: content}
