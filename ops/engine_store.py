"""The states of ``risk`` in Bytewax's recovery store, read and written by key.

Every state in it is bytes of our own (architecture.md, "Bytewax"), so a change of engine is a matter of finding them.
Decides which epoch counts: of the last execution, the states before the epoch at which it would resume. Tables and
meanings are those of Bytewax 0.21, as `seawall.connectors.recovery` makes them.
"""

import contextlib
import io
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seawall.connectors.placement import engine_key
from seawall.connectors.recovery import is_sound, open_recovery
from seawall.operators.core.firm import KEY
from seawall.schemas.errors import UsageError

STORE = "part-0.sqlite3"
JOURNAL = "risk.journal"
# The names of parts (`seawall.operators.core.keyed_risk`) and the Bytewax steps that keep them.
DECIDER_STEPS = {"limits": "risk.limits.levels", "mitigation": "risk.mitigation.plan", "audit": "risk.sign.audit.chain"}
SHARD_STEPS = {
    "shard": "risk.exposure.shard",
    "conduct": "risk.exposure.conduct.accounts",
    "forecast": "risk.exposure.forecast.books",
    **DECIDER_STEPS,
}
FIRM_STEPS = {
    "firm": "risk.exposure.firm",
    "systemic": "risk.exposure.systemic.firm",
    "desired": "risk.state.desired",
    **DECIDER_STEPS,
}
EPOCH = 2  # of what is written: the first that an execution has after its own start
LATEST = """
select step_id, state_key, ser_change, max(snap_epoch) from snaps
where snap_epoch < ? and step_id like 'risk.%' group by step_id, state_key
"""
Parts = dict[str, bytes]
Place = tuple[int, str]


class _PlainReader(pickle.Unpickler):
    """Reads numbers, text, bytes and tuples of them, which is all that ``risk`` gives the engine to keep."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse: whatever has a class or a function in it could run code."""
        raise UsageError(f"the recovery store holds {module}.{name}, which nothing of Seawall writes: do not use it")


def read_plain(data: bytes) -> Any:
    """Return what the engine pickled; raise UsageError where it holds anything but plain values."""
    try:
        return _PlainReader(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, ImportError) as error:
        raise UsageError(
            f"the recovery store holds what cannot be read ({error}): let the journal be replayed"
        ) from error


def read_store(folder: Path, shards: int) -> tuple[dict[int, Parts], dict[int, Place]]:
    """Return the parts of every shard's state, the second operator's under ``shards``, and each shard's next offset.

    Raises
    ------
    UsageError
        There is no sound store, or it holds no state of a shard.
    """
    if not is_sound(folder):
        raise UsageError(f"{folder} holds no recovery store of Bytewax: nothing of it can be moved")
    with contextlib.closing(sqlite3.connect(folder / STORE)) as store:
        (epoch,) = store.execute(
            "select coalesce(min(worker_frontier), max(resume_epoch)) from exs left join fronts using (ex_num) "
            "where ex_num = (select max(ex_num) from exs)"
        ).fetchone()
        rows = {(step, key): read_plain(kept) for step, key, kept, _ in store.execute(LATEST, (epoch,)) if kept}
    parts = {shard: _parts(rows, SHARD_STEPS, engine_key(shard)) for shard in range(shards)}
    places = {shard: rows.get((JOURNAL, str(shard)), (0, "")) for shard in range(shards)}
    for shard, found in parts.items():
        if len(found) < len(SHARD_STEPS) or not isinstance(places[shard], tuple):
            raise UsageError(f"{folder} holds no whole state of shard {shard}: let the run go on for a second first")
    return parts | {shards: _parts(rows, FIRM_STEPS, KEY)}, places


def _parts(rows: dict[tuple[str, str], Any], steps: dict[str, str], key: str) -> Parts:
    return {part: rows[step, key] for part, step in steps.items() if (step, key) in rows}


def write_store(folder: Path, parts: dict[int, Parts], places: dict[int, Place]) -> None:
    """Make a recovery store that Bytewax resumes from; ``folder`` must not exist. Whole or not there at all."""
    fresh = folder.with_name(f".{folder.name}.moving")
    with contextlib.suppress(FileNotFoundError):
        for file in fresh.iterdir():
            file.unlink()
        fresh.rmdir()
    open_recovery(fresh)
    with contextlib.closing(sqlite3.connect(fresh / STORE)) as store, store:
        rows = [(step, key, EPOCH, pickle.dumps(kept)) for step, key, kept in _rows(parts, places)]
        store.executemany("insert into snaps (step_id, state_key, snap_epoch, ser_change) values (?, ?, ?, ?)", rows)
        store.execute("insert into exs (ex_num, worker_count, resume_epoch) values (0, 1, 1)")
        store.execute("insert into fronts (ex_num, worker_index, worker_frontier) values (0, 0, ?)", (EPOCH + 1,))
        store.execute("insert or replace into commits (part_index, commit_epoch) values (0, ?)", (EPOCH - 1,))
    fresh.rename(folder)


def _rows(parts: dict[int, Parts], places: dict[int, Place]) -> Iterator[tuple[str, str, Any]]:
    for partition, found in parts.items():
        steps, key = (SHARD_STEPS, engine_key(partition)) if partition in places else (FIRM_STEPS, KEY)
        yield from ((steps[part], key, kept) for part, kept in found.items())
    yield from ((JOURNAL, str(shard), place) for shard, place in places.items())
