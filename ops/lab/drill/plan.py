"""What a drill does: which faults, when, on which configuration, and how it asks whether the system still decides.

::

    config = "desk.toml"         # live, of dev or test; the drill starts it, starts it again when it ends, and stops it
    topic = "fills"              # where the drill sends its marks and probes
    instrument = "ETH-PERP"      # known to the run, with a margin rate
    price = "100"                # at which the drill marks it, every feed_s
    feed_s = 0.5
    within_s = 60                # what has not come by then has not come

    [[fault]]
    kind = "kill"                # kill | cut | freeze | skew | corrupt
    after_s = 5                  # from the recovery of the one before
    hold_s = 2                   # how long it lasts (cut, freeze), or until the run is started again (kill, corrupt)
    skew_s = 90000               # skew: how far ahead the clock of a producer is
"""

import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

from seawall.schemas.configuration import Configuration, load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.tables import Field, check_table, number_in, one_of

KINDS: Final = ("kill", "cut", "freeze", "skew", "corrupt")
_TOP = {
    "config": Field("text"),
    "topic": Field("text"),
    "instrument": Field("text"),
    "price": Field("text", "100"),
    "feed_s": Field("number", 0.5, number_in(0.05, 60)),
    "within_s": Field("number", 60.0, number_in(1, 3600)),
    "fault": Field("tables"),
}
_FAULT = {
    "kind": Field("text", rule=one_of(*KINDS)),
    "after_s": Field("number", 2.0, number_in(0, 86_400)),
    "hold_s": Field("number", 2.0, number_in(0, 3600)),
    "skew_s": Field("number", 90_000.0, number_in(1, 10 * 365 * 86_400)),
}


class Fault(NamedTuple):
    """One fault of the schedule."""

    kind: str
    after_s: float
    hold_s: float
    skew_s: float


class Drill(NamedTuple):
    """A checked plan."""

    configuration: Configuration
    topic: str
    instrument: str
    price: str
    feed_s: float
    within_s: float
    faults: tuple[Fault, ...]
    content: dict[str, Any]


def load_drill(path: Path) -> Drill:
    """Return the plan of a file.

    Raises
    ------
    UsageError
        The file, or the configuration that it names, is not as it must be.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name an existing file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} is no TOML: {error}") from error
    top = check_table(content, _TOP, path.name)
    faults = [check_table(one, _FAULT, f"{path.name}: fault {at}") for at, one in enumerate(top["fault"], 1)]
    if not faults:
        raise UsageError(f"{path.name}: nothing fails; add a [[fault]]")
    configuration = load_configuration(path.parent / top["config"])
    _check(configuration, top, path.name)
    kept = {name: top[name] for name in ("topic", "instrument", "price", "feed_s", "within_s")}
    return Drill(configuration, **kept, faults=tuple(Fault(**one) for one in faults), content=content)


def _check(configuration: Configuration, top: dict[str, Any], name: str) -> None:
    if configuration.environment == "prod":
        raise UsageError(
            f"{name}: {top['config']} is of prod; a drill puts accounts of its own into the book: use test"
        )
    if top["topic"] not in configuration.topics:
        live = ", ".join(configuration.topics) or "none: it has no live topics"
        raise UsageError(f"{name}: topic {top['topic']!r} is not one that the run reads; choose from {live}")
    sqlite = configuration.bus.startswith("sqlite:")
    if not sqlite and any(one["kind"] == "cut" for one in top["fault"]):
        raise UsageError(f"{name}: cut works on the embedded bus; cut a cluster's network with its own tools")
