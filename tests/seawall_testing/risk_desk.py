"""A desk of a few records for tests of single numbers: instruments on BTC, a venue, a client, and the run of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.desk import SECOND, T0, Json, fill, instrument, mark, transfer
from seawall_testing.pipeline import PipelineRun, run_pipeline

DAY = 86_400 * SECOND
YEAR = 365 * DAY
FAR = 1e30  # a bound that nothing reaches: the limit only asks for the measure
WATCHED = (
    ("account", "margin_ratio"), ("account", "leverage"), ("netting_set", "exposure_at_default"),
    ("netting_set", "margin_call"), ("underlying", "delta"), ("firm", "net_notional"),
)  # fmt: skip


def to_come(reason: str) -> pytest.MarkDecorator:
    """Mark a test of a number that is wrong today: it fails in its assertion, and nowhere else."""
    return pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason)


def spot(name: str = "BTC/USD", base: str = "BTC", quote: str = "USD", **fields: Any) -> Json:
    return instrument(
        name, kind="spot", base=base, quote=quote, settlement=quote, quantity_increment="0.00000001", **fields
    )


def perpetual(name: str = "BTC-PERP", base: str = "BTC", **fields: Any) -> Json:
    rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
    return instrument(name, base=base, quantity_increment="0.00000001", **{**rates, **fields})


def inverse(name: str = "BTC-INV", **fields: Any) -> Json:
    return perpetual(name, settlement="BTC", inverse=True, contract_size="100", **fields)


def option(name: str, strike: str, kind: str, expiry_us: int, **fields: Any) -> Json:
    body = {"strike": strike, "option_type": kind, "expiry_us": expiry_us, "forward": "BTC/USD", **fields}
    return perpetual(name, kind="option", **body)


def house(name: str = "desk", role: str = "venue", **fields: Any) -> list[Json]:
    """Return an account of ours at a counterparty of its own."""
    party = f"{name}-{role}"
    return [
        {"type": "counterparty", "counterparty": party, "name": party, "role": role},
        {"type": "account", "account": name, "counterparty": party, "holder": "house", **fields},
    ]


def client(name: str = "ann", **fields: Any) -> list[Json]:
    """Return a client and an account of theirs with us."""
    return [
        {"type": "counterparty", "counterparty": name, "name": name, "role": "client"},
        {"type": "account", "account": name, "counterparty": name, "holder": "counterparty", **fields},
    ]


def trade(second: float, name: str, side: str, quantity: str, price: str, holder: str = "desk", **fields: Any) -> Json:
    at_us = T0 + round(second * SECOND)
    return fill(
        at_us, f"{holder}{at_us}{name}", holder, instrument=name, side=side, quantity=quantity, price=price, **fields
    )


def deposit(second: float, amount: str, asset: str = "USD", holder: str = "desk", **fields: Any) -> Json:
    at_us = T0 + round(second * SECOND)
    return transfer(at_us, f"t{holder}{at_us}{asset}", holder, amount=amount, asset=asset, **fields)


def price(second: float, name: str, value: str, **fields: Any) -> Json:
    return mark(T0 + round(second * SECOND), value, name, **fields)


def watch(*pairs: tuple[str, str]) -> list[Json]:
    """Return limits that nothing reaches, so that the measures are computed."""
    return [
        {"id": f"far-{n}", "scope": scope if scope == "firm" else f"{scope}:*", "measure": measure,
         "direction": "above", "hard": FAR}
        for n, (scope, measure) in enumerate(pairs or WATCHED)
    ]  # fmt: skip


def run(folder: Path, *records: Json | list[Json], limits: Iterable[Json] | None = None, **more: Any) -> PipelineRun:
    """Run records through the sequencer and the core of risk; the last record should lie after what is looked at."""
    return run_pipeline(folder, *records, limits=watch() if limits is None else limits, **more)
