"""A small crisis in which every topic gets records: gaps, defaults, a venue down, wrong input of each kind."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from seawall_testing.command_line import Contents, seawall
from seawall_testing.desk import MS, SECOND, T0, Json, account, fill, instrument, lines, mark, transfer
from seawall_testing.pipeline import write_configuration

CLIENTS = ["a", "b", "c", "d", "e"]
LIMITS: list[Json] = [
    {
        "id": "margin",
        "scope": "account:*",
        "measure": "margin_ratio",
        "warning": 0.2,
        "soft": 0.5,
        "hard": 1.0,
        "exit_ratio": 0.9,
        "dwell_s": 0.2,
    },
    {"id": "low-equity", "scope": "account:*", "measure": "equity", "direction": "below", "hard": 0.0},
    {"id": "gross", "scope": "firm", "measure": "gross_notional", "warning": 500, "soft": 1500.0, "hard": 1e9},
    {"id": "exposure", "scope": "counterparty:*", "measure": "current_exposure", "soft": 10.0},
    {"id": "at-venue", "scope": "venue:hub", "measure": "gross_notional", "hard": 100},
    {"id": "fast", "scope": "account:*", "measure": "gross_notional", "soft": 200.0, "window_s": 1},
    {
        "id": "rated",
        "scope": "counterparty:*",
        "measure": "gross_notional",
        "soft": 300.0,
        "hard": 600.0,
        "floor": 60.0,
        "scaling": {"rating": {"A": 1.0, "unrated": 0.5}},
    },
]
PLAYBOOK: list[Json] = [
    {
        "id": "call",
        "when": {"limit": "margin", "level": "soft"},
        "commands": [{"kind": "CALL_MARGIN", "target": "account"}, {"kind": "REDUCE_ONLY", "target": "account"}],
        "cooldown_s": 0.3,
    },
    {
        "id": "stop",
        "when": {"limit": "margin", "level": "hard"},
        "commands": [{"kind": "SUSPEND", "target": "account"}, {"kind": "CANCEL_ORDERS", "target": "account"}],
    },
    {
        "id": "firm",
        "when": {"limit": "gross", "level": "soft"},
        "commands": [{"kind": "ENTER_DEGRADED_MODE", "target": "firm"}],
    },
    {
        "id": "venue-down",
        "when": {"venue_status": "down"},
        "commands": [{"kind": "HALT_TRADING", "target": "venue"}, {"kind": "CANCEL_ORDERS", "target": "account"}],
    },
    {
        "id": "insolvent",
        "when": {"notice": "insolvency"},
        "commands": [{"kind": "BLOCK_COUNTERPARTY", "target": "counterparty"}],
    },
    {
        "id": "mismatch",
        "when": {"alert": "report_mismatch"},
        "commands": [{"kind": "CANCEL_ORDERS", "target": "account"}],
    },
]


def reference(clients: list[str] = CLIENTS) -> list[Json]:
    """Return who and what there is."""
    rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
    house = {"counterparty": "hub", "holder": "house", "venue": "hub", "netting_set": "hub-set"}
    return [
        {"type": "asset", "asset": "USDX", "class": "stablecoin", "peg": "USD", "haircut": "0.1"},
        instrument(**rates),
        instrument("ETH-USD", kind="spot"),
        instrument("BTC-USD", kind="spot", base="BTC"),
        instrument("USDX-USD", kind="spot", base="USDX"),
        instrument("BTC-INV", base="BTC", settlement="BTC", quantity_increment="1", inverse=True, **rates),
        instrument("ETH-FUT", kind="future", expiry_us=T0 + 2 * SECOND + 1, **rates),
        {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue", "group": "hubs"},
        {"type": "netting_set", "netting_set": "hub-set", "counterparty": "hub", "enforceable": False},
        {"type": "account", "account": "hub-1", **house},
        {"type": "account", "account": "hub-2", **house},
        *[record for name in clients for record in account(name)],
    ]


def events(seconds: int = 3, seed: int = 1, clients: list[str] = CLIENTS, per_second: int = 30) -> list[Json]:
    """Return what happens, in order of time."""
    rng = random.Random(seed)
    holders = [*clients, "hub-1", "hub-2"]
    found: list[Json] = [mark(T0 + 1, "100")]
    found += [
        mark(T0 + 1, price, name) for name, price in (("ETH-USD", "100"), ("BTC-USD", "50000"), ("USDX-USD", "1"))
    ]
    found += [mark(T0 + 1, "50000", "BTC-INV"), mark(T0 + 1, "101", "ETH-FUT")]
    for at, name in enumerate(holders):
        found.append(transfer(T0 + 2, f"t{at}", name, amount="60"))
        found.append(transfer(T0 + 2, f"u{at}", name, amount="30.5", asset="USDX"))
        found.append(transfer(T0 + 2, f"v{at}", name, amount="0.001", asset="BTC"))
    for at in range(seconds * per_second):
        now = T0 + 1000 + at * SECOND // per_second
        name = rng.choice(["ETH-PERP", "ETH-PERP", "ETH-FUT", "BTC-INV", "ETH-USD"])
        price = 50000 - 200 * at if name == "BTC-INV" else 100 - 0.5 * at
        side, quantity = rng.choice(["buy", "buy", "sell"]), str(rng.randint(1, 3))
        body = {"instrument": name, "side": side, "quantity": quantity, "price": f"{max(price, 5):.2f}", "fee": "0.01"}
        found.append(fill(now, f"f{at}", rng.choice(holders), **body))
        if at % 3 == 0:
            found.append(mark(now + 10, f"{max(100 - 0.5 * at, 5):.2f}"))
            found.append(mark(now + 10, f"{max(100 - 0.6 * at, 4):.2f}", venue="hub"))
            found.append(mark(now + 10, f"{50000 - 200 * at}", "BTC-INV"))
            found.append(mark(now + 10, f"{1 - 0.003 * at:.3f}", "USDX-USD"))
    return found + incidents(seconds)


def incidents(seconds: int) -> list[Json]:
    """Return what goes wrong at the end, after the last fill."""
    now = T0 + seconds * SECOND
    soon = {"event_time_us": now + MS}
    later = {"event_time_us": now + 400 * MS}
    report = {"type": "position_report", **soon, "instrument": "ETH-PERP"}
    return [
        fill(now, "f0", side="sell", quantity="77"),  # another content under a used id
        fill(now, "x1", action="bust", ref_fill_id="unknown"),
        {"type": "venue_status", **soon, "venue": "hub", "status": "down"},
        {"type": "notice", **soon, "notice_id": "n1", "subject": "a", "kind": "insolvency", "severity": 3},
        {**report, "account": "b", "quantity": "99"},
        {**report, "account": "hub-1", "quantity": "9"},
        mark(now + 2 * MS, "70", "ETH-FUT", kind="settlement"),
        {"type": "balance_report", **later, "account": "c", "asset": "USD", "amount": "1"},
        {**account("a", status="closed")[1], **later},
        {"type": "unheard-of", "event_time_us": now + 500 * MS},
        fill(now + 500 * MS, "y1", "nobody"),
    ]


def write_crisis(folder: Path, seconds: int = 3, per_second: int = 30, **top: Any) -> Path:
    """Write the crisis as a configuration with its files; return the configuration's path."""
    book = [record for record in events(seconds, per_second=per_second) if record["type"] != "mark"]
    marks = [record for record in events(seconds, per_second=per_second) if record["type"] == "mark"]
    files = {"reference.jsonl": lines(*reference()), "book.jsonl": lines(*book), "marks.jsonl": lines(*marks)}
    return write_configuration(folder, files, LIMITS, PLAYBOOK, **{"shards": 2, **top})


class CrisisRun(NamedTuple):
    """A finished run of the crisis on the embedded bus: its folder, its records, and how long it took."""

    folder: Path
    records: Contents
    took_s: float

    @property
    def path(self) -> Path:
        """The configuration."""
        return self.folder / "desk.toml"


CrisisRuns = Callable[..., CrisisRun]


def finish_crisis(folder: Path, seconds: int = 3, **options: Any) -> str:
    """Write the crisis and run it to its end; return how many seconds that took."""
    began = time.monotonic()
    run_crisis(folder, seconds, **options)
    return str(time.monotonic() - began)


def run_crisis(folder: Path, seconds: int = 3, **options: Any) -> Path:
    """Write the crisis and run it to its end; return the configuration's path."""
    path = write_crisis(folder, seconds, **options)
    done = seawall("run", path, timeout=600)
    assert done.returncode == 0, done.stderr
    return path


def records(seconds: int = 3, **options: Any) -> list[Json]:
    """Return the whole crisis in one list, for `seawall_testing.pipeline.run_pipeline`."""
    happened = sorted(events(seconds, **options), key=lambda record: record["event_time_us"])
    return [*reference(options.get("clients", CLIENTS)), *happened]
