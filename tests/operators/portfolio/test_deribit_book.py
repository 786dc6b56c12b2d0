"""Deribit's option chains on the risk path: marks, volatilities and forwards go in as records, values come out."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from seawall.operators.core.pricing import black_value
from seawall.operators.core.pricing._option_models import MICROSECONDS_PER_YEAR
from seawall_testing.desk import T0, Json, account, instrument, mark
from seawall_testing.pipeline import PipelineRun, run_pipeline
from seawall_testing.reference_data import shared

YEAR_US = int(MICROSECONDS_PER_YEAR)
COIN = {"settlement": "", "inverse": True, "quantity_increment": "0.1"}


def rows_of(name: str) -> list[dict[str, str]]:
    with gzip.open(shared("data", "deribit_options") / name, "rt") as file:
        return [row for row in csv.DictReader(file) if float(row["mark_price"]) > 0 and row["time_to_maturity"] != "0"]


def records_of(rows: list[dict[str, str]]) -> list[Json]:
    """Return a chain as records: every option on a future at its own row's forward, one of each bought."""
    reference: list[Json] = [instrument(f"{coin}-USD", kind="spot", base=coin) for coin in ("BTC", "ETH")]
    index = {row["currency"]: row["index_price"] for row in rows}
    marks = [mark(T0 + 1, price, f"{coin}-USD") for coin, price in index.items()]
    forwards: dict[tuple[str, str], str] = {}
    held: list[Json] = []
    for at, row in enumerate(rows):
        coin, expiry_us = row["currency"], T0 + 1 + round(float(row["time_to_maturity"]) * YEAR_US)
        key = (coin, row["underlying"])
        if key not in forwards:
            forwards[key] = f"F{len(forwards)}"
            reference.append(instrument(forwards[key], kind="future", base=coin, expiry_us=expiry_us))
            marks.append(mark(T0 + 1, f"{float(row['underlying']):.12f}", forwards[key]))
        terms = {"strike": f"{float(row['strike'])}", "option_type": row["option_type"], "expiry_us": expiry_us}
        coins = {**COIN, "base": coin, "settlement": coin, "forward": forwards[key]}
        reference.append(instrument(f"O{at}", kind="option", **terms, **coins))
        volatility = f"{float(row['implied_volatility']):.6f}"
        marks.append(mark(T0 + 2, f"{float(row['mark_price']):.10f}", f"O{at}", implied_volatility=volatility))
        held.append({"type": "position_report", "event_time_us": T0 + 3, "account": "h", "instrument": f"O{at}",
                     "quantity": "1", "kind": "opening"})  # fmt: skip
    return [*reference, *account("h", holder="house"), *marks, *held]


@pytest.mark.parametrize("name", ["20251231T091828Z", "20260516T102337Z"])
def test_a_chain_that_is_held_is_repriced_to_its_marks_on_its_own_forwards(tmp_path: Path, name: str) -> None:
    rows = rows_of(f"deribit_options_snapshot_{name}.csv.gz")
    ran = run_pipeline(tmp_path, *records_of(rows))
    price, index, delta = (np.array([float(r[k]) for r in rows]) for k in ("mark_price", "index_price", "delta"))
    forward, ours, worth = repriced(ran, index)
    error, on_index = np.abs(ours - price), np.abs(worth - price)
    assert len(price) > 1000
    assert np.median(error) <= 5e-5 and np.quantile(error, 0.99) <= 1e-3
    assert np.median(on_index) >= 15 * np.median(error)
    book = np.array([ran.measures(f"underlying:{coin}")["delta"] for coin in ("BTC", "ETH")])
    wanted = [
        sum(d * i for d, i, r in zip(delta, index, rows, strict=True) if r["currency"] == c) for c in ("BTC", "ETH")
    ]  # what was paid for them left the balance before it was reported
    assert book == pytest.approx(wanted, rel=2e-3)
    assert np.isfinite(forward).all()


def repriced(ran: PipelineRun, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the forwards that the option sheet took, and the values in coin on them and on the index."""
    ledger = ran.exposures[0].ledger
    assert ledger is not None
    terms, inputs = ledger.sheet.terms, ledger.sheet.priced
    left = (terms.expiry_us - inputs["us"]) / YEAR_US
    forward, volatility = inputs["forward"], inputs["volatility"]
    values = [black_value(f, terms.strike, left, volatility, terms.call) / f for f in (forward, index)]
    return forward, *values
