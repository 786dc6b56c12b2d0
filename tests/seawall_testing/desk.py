"""A small desk: reference records, a configuration in a folder, and its journal as slices."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seawall.connectors.bus import Bus
from seawall.dataflows import Sequencer
from seawall.schemas.configuration import load_configuration
from seawall.schemas.records import Slice, decode_slice

T0 = 1_700_000_000_000_000  # a full second
MS = 1000
SECOND = 1_000_000
NOW = T0 + 3600 * SECOND

Json = dict[str, Any]


def instrument(name: str = "ETH-PERP", **fields: Any) -> Json:
    body = {"kind": "perpetual", "base": "ETH", "quote": "USD", "settlement": "USD", "quantity_increment": "0.01"}
    return {"type": "instrument", "instrument": name, **body, **fields}


def account(name: str, **fields: Any) -> list[Json]:
    party = {"type": "counterparty", "counterparty": name, "name": name, "role": "client"}
    return [party, {"type": "account", "account": name, "counterparty": name, "holder": "counterparty", **fields}]


def mark(at_us: int, price: str = "100", name: str = "ETH-PERP", **fields: Any) -> Json:
    return {"type": "mark", "event_time_us": at_us, "instrument": name, "price": price, **fields}


def fill(at_us: int, fill_id: str, holder: str = "a", **fields: Any) -> Json:
    body = {"instrument": "ETH-PERP", "side": "buy", "quantity": "1.5", "price": "100", **fields}
    return {"type": "fill", "event_time_us": at_us, "fill_id": fill_id, "account": holder, **body}


def transfer(at_us: int, transfer_id: str, holder: str = "a", **fields: Any) -> Json:
    body = {"account": holder, "asset": "USD", "amount": "5", **fields}
    return {"type": "collateral", "event_time_us": at_us, "transfer_id": transfer_id, **body}


def lines(*records: Json | list[Json] | bytes) -> bytes:
    """Return records as lines; lists are flattened, bytes taken as they are."""
    flat = [item for record in records for item in (record if isinstance(record, list) else [record])]
    return b"".join((item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in flat)


def write_desk(folder: Path, files: dict[str, bytes], **top: Any) -> Path:
    """Write input files and a configuration that reads them in order; return the configuration's path."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in top.items())
    (folder / "desk.toml").write_text(f"{settings}[inputs]\nevents = {json.dumps(list(files))}\n")
    return folder / "desk.toml"


def sequence(path: Path, bus: Bus, clock: Callable[[], int] = lambda: NOW) -> Sequencer:
    """Run the sequencer of a configuration to its end; return it."""
    sequencer = Sequencer(load_configuration(path), bus, clock)
    sequencer.run(threading.Event())
    return sequencer


def slices(bus: Bus, shard: int) -> list[Slice]:
    """Return a shard's slices."""
    return [decode_slice(record.value) for record in bus.read("journal", shard, 0, 1_000_000)]


def rejects(bus: Bus, shards: int = 4) -> list[Json]:
    """Return the values of the sequencer's rejects."""
    return [json.loads(record.value) for record in bus.read("rejects", shards, 0, 1_000_000)]
