"""A small history for the lab: bars of two coins, one of which falls, and a book of two clients that are long of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

START_MS = 1_600_000_000_000 // 60_000 * 60_000
MINUTES = 240
Json = dict[str, Any]
LIMITS = """
[[limit]]
id = "margin"
scope = "account:*"
measure = "margin_ratio"
warning = 0.4
soft = 0.5
hard = 0.7
exit_ratio = 0.9
"""
PLAYBOOK = """
[response]
acknowledge_s = 60
complete_s = 600
verify_s = 60
commands_max = 60
per_s = 60
human_above = 1_000_000
[[rule]]
id = "restrict"
when = { limit = "margin", level = "soft" }
commands = [{ kind = "REDUCE_ONLY", target = "account" }]
[[rule]]
id = "close"
when = { limit = "margin", level = "hard" }
commands = [{ kind = "REDUCE_POSITION", target = "account", compute = "position", to = "warning", participation = 0.5 }]
dwell_s = 1
repeat = true
"""
DESK = """
shards = 2
slice_ms = 1000
exposure_change_min = 0
mark_max_age_s = 3600
[inputs]
events = ["eth.jsonl", "btc.jsonl", "book.jsonl"]
[limits]
file = "limits.toml"
[mitigation]
playbook = "playbook.toml"
[market]
groups = 2
"""
PLAN = """
configuration = "desk.toml"
[[history]]
format = "ohlcv"
files = ["SIM-*.csv"]
pattern = "SIM-(?P<base>[A-Z]+)\\\\.csv"
venue = "SIM"
instrument = "{base}-PERP"
terms = { kind = "perpetual", base = "{base}", quote = "USD", settlement = "USD", TERMS }
[[history]]
format = "events"
files = ["book.jsonl"]
[reactions]
depth_share = 0.01
hedged_at = "house/hub"
""".replace("TERMS", 'quantity_increment = "0.0001", maintenance_margin_rate = "0.05"')


def bars(seed: int, first: float, crash: float, every: int = MINUTES) -> str:
    """Return minute bars: noise, and a fall by ``crash`` over ten minutes in the middle of every stretch.

    What fell comes back in the first four minutes of the next stretch.
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.0005, MINUTES)
    for begin in range(0, MINUTES, every):
        steps[begin + every // 2 : begin + every // 2 + 10] += np.log(1 - crash) / 10
        steps[begin + every : begin + every + 4] -= np.log(1 - crash) / 4
    closes = first * np.exp(np.cumsum(steps))
    rows = ["open_time_ms,open,high,low,close,volume"]
    for at, close in enumerate(closes):
        start = first if at == 0 else closes[at - 1]
        high, low = max(start, close), min(start, close)
        rows.append(f"{START_MS + at * 60_000},{start:.4f},{high:.4f},{low:.4f},{close:.4f},1000")
    return "\n".join(rows) + "\n"


def book() -> bytes:
    """Return two clients that are long ETH, one too much, and the house that hedges them."""
    at_us = (START_MS + 60_000) * 1000
    records: list[Json] = []
    for name, role in (("hub", "venue"), ("bold", "client"), ("calm", "client")):
        records.append({"type": "counterparty", "counterparty": name, "name": name, "role": role})
    records.append({"type": "account", "account": "house/hub", "counterparty": "hub", "holder": "house"})
    for name in ("bold", "calm"):
        records.append({"type": "netting_set", "netting_set": name, "counterparty": name, "close_out": True})
        records.append(
            {"type": "account", "account": name, "counterparty": name, "holder": "counterparty", "netting_set": name}
        )
    for name, amount, held in (("bold", "1500", "100"), ("calm", "9000", "10"), ("house/hub", "9000", "110")):
        balance = {"type": "balance_report", "event_time_us": at_us, "account": name, "asset": "USD", "amount": amount}
        report = {"type": "position_report", "event_time_us": at_us, "account": name, "instrument": "ETH-PERP"}
        records.append({**balance, "kind": "opening"})
        records.append({**report, "quantity": held, "entry_price": "100", "kind": "opening"})
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def write_history(folder: Path, every: int = MINUTES) -> Path:
    """Write the history, the desk and the plan of a backtest; return the plan."""
    (folder / "SIM-ETH.csv").write_text(bars(1, 100.0, 0.2, every))
    (folder / "SIM-BTC.csv").write_text(bars(2, 1000.0, 0.02, every))
    (folder / "book.jsonl").write_bytes(book())
    (folder / "limits.toml").write_text(LIMITS)
    (folder / "playbook.toml").write_text(PLAYBOOK)
    (folder / "desk.toml").write_text(DESK)
    (folder / "plan.toml").write_text(PLAN)
    return folder / "plan.toml"


def write_inputs(folder: Path, converted: list[Path]) -> None:
    """Write what a live run over the same history reads."""
    for name, path in zip(("btc", "eth"), converted, strict=False):
        (folder / f"{name}.jsonl").write_bytes(path.read_bytes())
