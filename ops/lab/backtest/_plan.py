"""Plan of a backtest: one TOML file with history, book, reactions of the world, and variants to compare.

``ops/docs/manual/lab.md`` has a complete plan. Everything that shapes a result is in the plan or in the files that it
names, so the SHA-256 over their contents names the result.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from seawall.connectors.venues import VENUES
from seawall.schemas.configuration import Configuration, load_configuration, load_limits, load_playbook, load_response
from seawall.schemas.configuration import read_toml as read
from seawall.schemas.errors import UsageError
from seawall.schemas.tables import Table, between, check_table, text_like, unknown

FORMATS = ("ohlcv", "events", "funding", "hyperliquid_accounts", *VENUES)
HEDGED_AT = "house/venue"  # of a book that is made


class HistoryTable(Table, frozen=True):
    """A ``[[history]]``: files of one format, and how to read them."""

    format: str
    files: tuple[str, ...]
    venue: str = ""
    pattern: str = ""
    instrument: str = ""
    terms: dict[str, Any] = msgspec.field(default_factory=dict)
    names: dict[str, Any] = msgspec.field(default_factory=dict)
    interval_s: Annotated[int, between(0, 86_400 * 31)] = 0
    stamp: str = ""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(unknown("format", self.format, FORMATS))


class BookTable(Table, frozen=True):
    """``[book]``: the clients that are made for a history without any."""

    accounts: str
    clients: Annotated[int, between(1, 100_000)] = 60
    notional: Annotated[float, between(1, 1e15)] = 1e8
    leverage_max: Annotated[float, between(0.1, 1_000)] = 10
    hedged: Annotated[float, between(0, 1)] = 1.0


class ReactionsTable(Table, frozen=True):
    """``[reactions]``: what the world does when it is commanded."""

    latency_ms: Annotated[int, between(0, 86_400_000)] = 500
    slippage: Annotated[float, between(0, 1)] = 0.002
    pays_after_s: Annotated[float, between(0, 1e7)] = 3600
    payers_one_in: Annotated[int, between(0, 1_000_000)] = 3
    means: Annotated[float, between(0, 1_000)] = 0.5
    depth_share: Annotated[float, between(0, 1)] = 0.0
    hedged_at: str = ""


class DetectionTable(Table, frozen=True):
    """``[detection]``: which moves of prices a detector should have told of."""

    move: Annotated[float, between(0.001, 10)] = 0.1
    within_s: Annotated[int, between(60, 86_400 * 7)] = 3600
    quiet_s: Annotated[int, between(60, 86_400 * 31)] = 6 * 3600


class VariantTable(Table, frozen=True):
    """A ``[[variant]]``: other limits, another playbook, or nobody who obeys."""

    name: Annotated[str, text_like("[a-z][a-z0-9-]{0,30}")]
    limits: str = ""
    playbook: str = ""
    obeys: bool = True


class BacktestFile(Table, frozen=True):
    """A plan as its file has it."""

    configuration: str
    history: tuple[HistoryTable, ...]
    from_: str = msgspec.field(default="", name="from")
    to: str = ""
    book: BookTable | msgspec.UnsetType = msgspec.UNSET
    reactions: ReactionsTable = ReactionsTable()
    detection: DetectionTable = DetectionTable()
    variant: tuple[VariantTable, ...] = ()


class History(NamedTuple):
    """Files of one format, and how to read them."""

    format: str
    files: tuple[Path, ...]
    venue: str
    pattern: str
    instrument: str
    terms: dict[str, Any]
    names: dict[str, str]
    interval_s: int
    stamp: str


class Variant(NamedTuple):
    """One run over the same history: its name, its configuration, and whether anyone obeys its commands."""

    name: str
    configuration: Configuration
    obeys: bool


class BacktestPlan(NamedTuple):
    """A checked plan."""

    path: Path
    configuration: Configuration
    first_us: int
    last_us: int
    history: tuple[History, ...]
    book: dict[str, Any]
    reactions: dict[str, Any]
    detection: dict[str, Any]
    variants: tuple[Variant, ...]

    def terms(self) -> dict[str, Any]:
        """Return what of the plan itself shapes a result."""
        times = {"first_us": self.first_us, "last_us": self.last_us}
        return times | {"book": self.book, "reactions": self.reactions, "detection": self.detection}


def load_backtest_plan(path: Path) -> BacktestPlan:
    """Read and check a plan.

    Without ``[[variant]]`` two are run: ``mitigated`` with the configuration as it stands, and ``unmitigated`` with the
    same limits and nobody to act on them.

    Raises
    ------
    UsageError
        Naming the file, what is wrong there, and the nearest valid name.
    """
    found = {name: value for name, value in read(path).items() if (name, value) != ("book", {})}
    top = check_table(found, BacktestFile, path.name)
    configuration = load_configuration(path.parent / top["configuration"])
    if configuration.limit_documents or configuration.limits_file is None:
        raise UsageError(
            f"{configuration.path.name} [limits]: a backtest takes limits from a file; write those in force with "
            "seawall limits show --json, or name the file that was proposed"
        )
    first_us, last_us = (_time(top[name], f"{path.name}: {name}") for name in ("from", "to"))
    reactions, book = top["reactions"], top.get("book", {})
    if book:
        reactions["hedged_at"] = reactions["hedged_at"] or HEDGED_AT
    return BacktestPlan(
        path, configuration, first_us, last_us or (1 << 53) - 1,
        tuple(_history(table, path, number) for number, table in enumerate(top["history"], 1)),
        book,
        reactions,
        top["detection"],
        tuple(_variants(top["variant"], configuration, path)),
    )  # fmt: skip


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _time(text: str, place: str) -> int:
    if not text:
        return 0
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{place} is {text!r}; write a time such as 2021-05-19T09:00") from None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return int(found.timestamp()) * 1_000_000


def _history(table: dict[str, Any], path: Path, number: int) -> History:
    place = f"{path.name} [[history]] {number}"
    files = [file for name in table["files"] for file in _glob(path.parent, name, place)]
    return History(**{**table, "files": tuple(files)})


def _glob(base: Path, name: str, place: str) -> list[Path]:
    """Return the files that a name with wildcards means, in order."""
    whole = Path(name) if Path(name).is_absolute() else base / name
    anchor = Path(*whole.parts[: _first_wild(whole)])
    rest = whole.parts[_first_wild(whole) :]
    found = sorted(anchor.glob("/".join(rest))) if rest else [anchor]
    if not found or not all(file.is_file() for file in found):
        raise UsageError(f"{place}: {name} names no file; correct files")
    return found


def _first_wild(path: Path) -> int:
    return next((at for at, part in enumerate(path.parts) if any(c in part for c in "*?[")), len(path.parts))


def _variants(tables: list[dict[str, Any]], base: Configuration, path: Path) -> list[Variant]:
    if not tables:
        bare = msgspec.structs.replace(base, playbook=[], response={})
        return [Variant("unmitigated", bare, False), Variant("mitigated", base, True)]
    names = [table["name"] for table in tables]
    if len(set(names)) < len(names):
        raise UsageError(f"{path.name} [[variant]]: two have the same name; name each once")
    return [_variant(table, base, path) for table in tables]


def _variant(table: dict[str, Any], base: Configuration, path: Path) -> Variant:
    changed: dict[str, Any] = {}
    if table["limits"]:
        changed["limits"] = load_limits(path.parent / table["limits"])
    if table["playbook"] == "none":
        changed |= {"playbook": [], "response": {}}
    elif table["playbook"]:
        file = path.parent / table["playbook"]
        limits = [limit["id"] for limit in changed.get("limits", base.limits)]
        changed |= {"playbook": load_playbook(file, limits), "response": load_response(file)}
    return Variant(table["name"], msgspec.structs.replace(base, **changed), table["obeys"])
