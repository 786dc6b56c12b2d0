"""Harness of the benchmarks: commands, data or a skip, timing in turns, desks, clusters, bars and tables.

Rules of a figure. Variants run in turns in one process or one run, against a baseline that the table states, so that
what else the machine does falls on all of them. The least processor time of several rounds counts, because other work
only ever adds to it. A benchmark whose data or programs are not here says which and exits with 77.
"""

import csv
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, NoReturn

import numpy as np
import typer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.ops import run as runner
from seawall.ops.kafka.cluster import Cluster, missing
from seawall.schemas.configuration import load_configuration

Json = dict[str, Any]
Clock = Callable[[], float]
Process = subprocess.Popen[bytes]
OPS = Path(__file__).resolve().parents[1]
DATA = OPS.parents[1] / "shared" / "data"
ACCOUNTS_2023 = DATA / "hyperliquid_accounts_2023"
CLI = [sys.executable, "-c", "from seawall.ops.cli._app import main; main()"]
SKIPPED = 77  # the exit code by which automake and others know a test that could not run
USUAL = {"kind": "perpetual", "quote": "USD", "settlement": "USD", "quantity_increment": "0.001"}
MARGINS = {"initial_margin_rate": "0.02", "maintenance_margin_rate": "0.01"}  # those of 50 times leverage
RULE = """[[rule]]
id = "{id}"
when = {{ limit = "{limit}", level = "{level}" }}
commands = [ {commands} ]
"""


def suite(doc: str | None) -> typer.Typer:
    """Return the command line of a file: each function below ``@suite.command()`` is a sub-command."""
    return typer.Typer(help=doc, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def skip(reason: str) -> NoReturn:
    """End here, saying why nothing was measured."""
    print(f"skipped: {reason}", file=sys.stderr)
    raise SystemExit(SKIPPED)


def need(path: Path) -> Path:
    """Return a path of the data; skip where it is not."""
    return path if path.exists() else skip(f"{path} is not here")


# --- timing -----------------------------------------------------------------------------------------------------------


class Spent:
    """Seconds that a block took, by the clock and of the processor."""

    wall = cpu = 0.0


@contextmanager
def spending(clock: Clock = time.process_time) -> Iterator[Spent]:
    """Measure a block."""
    spent, wall, cpu = Spent(), time.perf_counter(), clock()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - wall, clock() - cpu


def in_turns(
    works: Mapping[str, Callable[[int], object]], rounds: int, clock: Clock = time.process_time
) -> dict[str, list[float]]:
    """Return the processor seconds of every round of each work; each is told the number of its round."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in works.items():
            with spending(clock) as spent:
                work(number)
            found[name].append(spent.cpu)
    return found


def least(
    works: Mapping[str, Callable[[], object]], rounds: int = 7, clock: Clock = time.process_time
) -> dict[str, float]:
    """Return the least processor seconds of each work, which take turns."""
    numbered = {name: lambda _, work=work: work() for name, work in works.items()}
    return {name: min(times) for name, times in in_turns(numbered, rounds, clock).items()}


def processor_s(*pids: int) -> float:
    """Return the processor seconds that processes took so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def used_s(*whose: int) -> float:
    """Return the processor seconds of this process or of its children that ended (``resource.RUSAGE_…``)."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, whose))


def resident_mib(*pids: int) -> float:
    """Return the resident memory of processes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def load() -> float:
    """Return how many processes of the whole machine wanted a processor, of the last minute."""
    return round(os.getloadavg()[0], 1)


# --- tables -----------------------------------------------------------------------------------------------------------


def table(head: str, rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown, each row as soon as it is known; ``head`` divides its columns by bars."""
    columns = [name.strip() for name in head.split("|")]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def spread(values: Iterable[float], unit: str = "") -> str:
    """Return the least, the median and the most of some values as text."""
    found = sorted(values)
    return f"least {found[0]:.2f}{unit}, median {median(found):.2f}{unit}, most {found[-1]:.2f}{unit}"


def average_precision(came: Any, said: Any) -> float:
    """Return the area under the precision-recall curve; tied scores enter together."""
    order = np.argsort(-said, kind="stable")
    came, said = np.asarray(came)[order].cumsum(), said[order]
    last = np.flatnonzero(np.append(said[1:] != said[:-1], True))
    return float((np.diff(np.append(0.0, came[last] / came[-1])) * came[last] / (last + 1)).sum())


def utc(time_us: float | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in UTC as text; nothing for None."""
    return "" if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC).strftime(form)


def micros(day: str) -> int:
    """Return the microseconds of a day or time in UTC."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1_000_000)


# --- data -------------------------------------------------------------------------------------------------------------


class Bars(NamedTuple):
    """Bars of one file, by column; times are those of their opening."""

    time_us: Any
    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Return the rows of a CSV file, compressed or not."""
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def read_bars(path: Path, first_us: float = 0, last_us: float = float("inf")) -> Bars:
    """Return the bars of a file that open between two times."""
    rows = read_csv(path)
    time_ms = next(name for name in rows[0] if name.startswith("open_time"))
    rows = [row for row in rows if first_us <= int(row[time_ms]) * 1000 < last_us]
    times = np.array([int(row[time_ms]) * 1000 for row in rows])
    return Bars(times, *(np.array([float(row[name]) for row in rows]) for name in Bars._fields[1:]))


def read_json(path: Path) -> Any:
    """Return what a JSON file says."""
    return json.loads(path.read_text())


class Grid(NamedTuple):
    """Bars of several instruments on one grid: times in seconds, prices (times, instruments, high low close), NaN."""

    step_s: int
    time_s: Any
    prices: Any


def read_grid(folder: Path, pattern: str, step_s: int) -> Grid:
    """Return the bars of all files of a folder on the grid from the first to the last."""
    found = [read_bars(path) for path in sorted(folder.glob(pattern))]
    first, last = (edge(bars.time_us[at] for bars in found) // 1_000_000 for edge, at in ((min, 0), (max, -1)))
    grid = np.arange(first, last + step_s, step_s)
    prices = np.full((len(grid), len(found), 3), np.nan)
    for at, bars in enumerate(found):
        prices[(bars.time_us // 1_000_000 - first) // step_s, at] = np.stack([bars.high, bars.low, bars.close], axis=1)
    return Grid(step_s, grid, prices)


def coin_of(path: Path) -> str:
    """Return the coin of a file of bars against the dollar, ``VENUE-BTCUSDT-….csv.gz``."""
    return path.name.split("-")[1].removesuffix("USDT")


# --- desks ------------------------------------------------------------------------------------------------------------


def instrument(name: str, base: str, **fields: str) -> Json:
    """Return the record of a perpetual."""
    return {"type": "instrument", "instrument": name, "base": base, **USUAL, **fields}


def party(name: str, role: str = "client", holder: str = "counterparty", account: str = "") -> list[Json]:
    """Return the records of a counterparty and of its account."""
    whose = {"type": "account", "account": account or name, "counterparty": name, "holder": holder}
    return [{"type": "counterparty", "counterparty": name, "name": name, "role": role}, whose]


def fill(time_us: int, id: str, account: str, name: str, side: str, quantity: str, price: str, **fields: str) -> Json:
    """Return the record of a fill."""
    what = {"type": "fill", "event_time_us": time_us, "fill_id": id, "account": account, "instrument": name}
    return {**what, "side": side, "quantity": quantity, "price": price, **fields}


def mark(time_us: int, name: str, price: str) -> Json:
    """Return the record of a mark."""
    return {"type": "mark", "event_time_us": time_us, "instrument": name, "price": price}


def limit(id: str, scope: str, measure: str, **fields: object) -> str:
    """Return a limit as TOML."""
    known = {"id": id, "scope": scope, "measure": measure, **fields}
    return "\n".join(["[[limit]]", *(f"{name} = {_toml(value)}" for name, value in known.items())]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


def write_desk(
    folder: Path,
    top: str = "",
    records: Iterable[Json] | None = None,
    inputs: str = 'events = ["events.jsonl"]',
    limits: str = "",
    playbook: str | None = None,
    tables: str = "",
) -> Path:
    """Write a desk's configuration, with its inputs, limits and playbook beside it; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"{top}\n[inputs]\n{inputs}\n" if records is not None else f"{top}\n"
    if records is not None:
        with (folder / "events.jsonl").open("w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    if limits:
        (folder / "limits.toml").write_text(limits)
        text += '[limits]\nfile = "limits.toml"\n'
    if playbook is not None:
        (folder / "playbook.toml").write_text(playbook)
        text += '[mitigation]\nplaybook = "playbook.toml"\n'
    (folder / "desk.toml").write_text(text + tables)
    return folder / "desk.toml"


def run_desk(path: Path, only: Sequence[str] = ()) -> Bus:
    """Run a desk to its end in this process; return its bus."""
    configuration = load_configuration(path)
    runner.run(configuration, only)
    return open_bus(configuration.bus, configuration.directory)


def read_topic(bus: Bus, topic: str) -> list[Json]:
    """Return all records of a topic, partition by partition."""
    return [json.loads(stored.value) for part in bus.partitions(topic) for stored in read_all(bus, topic, part)]


def seawall(*words: object, check: bool = True) -> int:
    """Run the command line to its end; return its exit code."""
    return subprocess.run([*CLI, *map(str, words)], check=check, capture_output=True).returncode


def start(*words: object, log: Path, before: Sequence[str] = (), out: int = subprocess.DEVNULL) -> Process:
    """Start the command line in a process of its own; what it says of errors goes to ``log``."""
    with log.open("ab") as errors:
        return subprocess.Popen([*before, *CLI, *map(str, words)], stdout=out, stderr=errors)


# --- clusters ---------------------------------------------------------------------------------------------------------


@contextmanager
def broker(**options: Any) -> Iterator[tuple[Cluster, Path]]:
    """Start a broker of one's own; give it with a folder beside it, and end both. Skip where none can run."""
    if lacking := missing():
        skip(f"no broker can run here: {lacking} is missing")
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as name:
        cluster = Cluster(Path(name) / "cluster", **options)
        try:
            cluster.start()
            yield cluster, Path(name)
        finally:
            cluster.stop()


def make_topics(address: str, partitions: int, *names: str) -> None:
    """Make topics on a cluster."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for made in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
        made.result(30)


def until(holds: Callable[[], object], seconds: float, what: str, look_s: float = 0.1) -> None:
    """Wait until something holds; end where it does not in so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(look_s)
