"""``seawall stress``: a file of scenarios on a run, kept by the hash of all that shapes the answer."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as View

from seawall.connectors.bus import Bus
from seawall.ops.lab.backtest.plan import sha256_of
from seawall.ops.lab.cache import Cache
from seawall.ops.lab.stress.play import Result, play_all
from seawall.ops.lab.stress.reverse import COARSE, Found, directions, search
from seawall.ops.lab.stress.scenario import Plan
from seawall.ops.lab.stress.system import Stand, stand
from seawall.ops.lab.workers import bars
from seawall.schemas.configuration import Configuration, journaled
from seawall.schemas.errors import UsageError

Json = dict[str, Any]
SHOWN = 6
BISECTIONS = 10  # of a direction, about; only the bar rests on it


def stress(plan: Plan, configuration: Configuration, bus: Bus, cache: Cache, journal: Path | None = None) -> Json:
    """Return what scenarios come to, as plain values; with ``journal``, leave there what replays the first one.

    An answer is kept by the hash of the plan, the configuration in force and the journal's bytes.
    """
    key = _key(plan, configuration, bus)
    if journal is None and cache.path(key, ".json").exists():
        return {**json.loads(cache.path(key, ".json").read_bytes()), "cached": True}
    with _bar("replaying the journal", _slices(bus, configuration.shards)) as seen:
        base = stand(configuration, bus, seen)
    answer = _searched(plan, base) if plan.reverse else _played(plan, base, journal)
    cache.make(key, ".json", lambda path: _write(path, json.dumps(answer).encode()))
    return {**answer, "cached": False}


def _played(plan: Plan, base: Stand, journal: Path | None) -> Json:
    with _bar("scenarios", len(plan.scenarios)) as seen:
        results = play_all(plan.scenarios, base, seen)
    if journal is not None:
        _write_journal(journal, base, results[0])
    worst = max(results, key=lambda one: one.loss)
    head: Json = {"as_of_us": base.as_of_us, "journal_sha256": base.digest, "worst": _name(worst.as_dict())}
    return {**head, "figures": worst.figures(), "scenarios": [one.as_dict() for one in results]}


def _searched(plan: Plan, base: Stand) -> Json:
    scenario = plan.scenarios[0]
    parts = directions(scenario, plan.reverse["apart"])
    with _bar("searching", len(parts) * (len(COARSE) // 2 + BISECTIONS)) as seen:
        found = search(scenario, plan.reverse, base, seen)
    first = found[0]
    figures = {"smallest_move": first.size if first.multiple is not None else None}
    head: Json = {"as_of_us": base.as_of_us, "journal_sha256": base.digest, "reverse": plan.reverse}
    return {**head, "figures": figures, "directions": [_direction(one) for one in found]}


def _direction(one: Found) -> Json:
    values = {"direction": one.direction, "multiple": one.multiple, "smallest_move": one.size, "price": one.price}
    return {**values, "result": None if one.result is None else one.result.as_dict()}


def _key(plan: Plan, configuration: Configuration, bus: Bus) -> str:
    found = hashlib.sha256(sha256_of(["stress", plan, journaled(configuration, None)]).encode())
    for shard in range(configuration.shards):
        offset = 0
        while stored := bus.read("journal", shard, offset):
            for one in stored:
                found.update(hashlib.sha256(one.value).digest())
            offset = stored[-1].offset + 1
    return found.hexdigest()


def _slices(bus: Bus, shards: int) -> int:
    return sum(bus.end("journal", shard) for shard in range(shards))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_journal(folder: Path, base: Stand, result: Result) -> None:
    """Leave a scenario's slices as JSON lines, in the order in which risk takes them after the run's journal."""
    if (folder / "journal.jsonl").exists():
        raise UsageError(f"{folder / 'journal.jsonl'} exists; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.jsonl").write_bytes(b"".join(value + b"\n" for value in result.journal))
    head = {"after": base.digest, "as_of_us": base.as_of_us, **result.as_dict()}
    (folder / "result.json").write_text(json.dumps(head, indent=1) + "\n")


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Yield what to call once per piece of work: it moves a bar with the time left, on a terminal only."""
    with bars() as shown:
        task = shown.add_task(label, total=total)
        yield lambda: shown.advance(task)


# --- forms ------------------------------------------------------------------------------------------------------------


def print_answer(answer: Json, console: Console | None = None) -> None:
    """Print a table of scenarios, or of directions, and what the worst of them does."""
    console = console or Console()
    if "directions" in answer:
        _print_directions(answer["directions"], console)
        return
    view = View()
    for name in ("scenario", "loss", "of P&L", "shortfall", "failed", "breaches", "commands"):
        view.add_column(name, justify="left" if name == "scenario" else "right")
    for one in answer["scenarios"]:
        money = (f"{one[name]:,.0f}" for name in ("loss", "pnl_loss", "shortfall", "failed"))
        figures = one["figures"]
        breaches = "/".join(str(figures[f"breaches_{level}"]) for level in ("warning", "soft", "hard"))
        view.add_row(_name(one), *money, breaches, str(figures["commands"]))
    console.print(view)
    worst = max(answer["scenarios"], key=lambda one: float(one["loss"]))
    if len(answer["scenarios"]) > 1:
        console.print(f"the worst is {_name(worst)}")
    for title, values in (("accounts that lose most", worst["accounts"]), ("breaches", worst["breaches"])):
        if values:
            shown = [
                f"{name} {value if isinstance(value, str) else format(value, ',.0f')}" for name, value in values.items()
            ]
            console.print(f"{title}: {', '.join(shown[:SHOWN])}{', …' if len(shown) > SHOWN else ''}")
    if worst["untouched"]:
        console.print(f"nothing here has: {', '.join(worst['untouched'])}")


def _name(one: Json) -> str:
    return f"{one['id']}: {one['label']}" if one["label"] else str(one["id"])


def _print_directions(found: list[Json], console: Console) -> None:
    view = View()
    for name in ("direction", "breaks at", "prices there", "loss there"):
        view.add_column(name, justify="left" if name in ("direction", "prices there") else "right")
    for one in found:
        if one["multiple"] is None:
            view.add_row(one["direction"], "nowhere", "", "")
            continue
        prices = ", ".join(f"{name} {move:+.2%}" for name, move in one["price"].items() if move)
        view.add_row(one["direction"], f"{one['smallest_move']:.2%}", prices, f"{one['result']['loss']:,.0f}")
    console.print(view)
