"""The live book and `seawall saccr` give one exposure for one set of trades, whatever their classes and terms."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from seawall.operators.core.credit import exposure_at_default
from seawall_testing.desk import SECOND, T0, Json, fill, instrument, mark
from seawall_testing.pipeline import run_pipeline
from seawall_testing.risk_desk import YEAR

SETS, POSITIONS_MAX = 500, 6
CLASSES = ["CRYPTO", "FX", "EQ_SN", "EQ_IX", "CO_ENERGY", "CO_ELECTRICITY", "CO_METALS", "CR_BBB", "CR_AAA", "IR"]
AS_OF_US = T0 + SECOND
EXPIRIES = {"short": AS_OF_US + YEAR // 2, "middle": AS_OF_US + 3 * YEAR, "long": AS_OF_US + 10 * YEAR}


def contracts() -> dict[str, Json]:
    """Two underlyings of every class, each with a contract per expiry."""
    found = {}
    for name in CLASSES:
        for number in (1, 2):
            base = f"{name.replace('_', '-')}-{number}"
            for term, expiry_us in EXPIRIES.items():
                one = instrument(f"{base}:{term}", base=base, kind="future", expiry_us=expiry_us)
                found[one["instrument"]] = one | {"quantity_increment": "0.01"}
    return found


def as_trade(number: int, contract: Json, side: str, notional: float, bilateral: bool) -> dict[str, Any]:
    """Return a position as a document of `seawall saccr` has it; settled daily unless it is bilateral."""
    name, years = contract["base"].rsplit("-", 1)[0], (contract["expiry_us"] - AS_OF_US) / YEAR
    asset_class, _, subclass = name.partition("-")
    trade = {"id": str(number), "asset_class": asset_class, "direction": "long" if side == "buy" else "short",
             "notional": notional, "mtm": 0.0, "M": years if bilateral else 0.04}  # fmt: skip
    if asset_class in ("CRYPTO", "FX"):
        return trade | {"hedging_set": f"{contract['base']}/USD"}
    if asset_class == "CO":
        hedging_set = "Metals" if subclass == "METALS" else "Energy"
        return trade | {"hedging_set": hedging_set, "commodity_type": contract["base"], "subclass": subclass}
    if asset_class == "EQ":
        return trade | {"entity": contract["base"], "subclass": subclass}
    timed = trade | {"E": years}
    return timed | (
        {"hedging_set": "USD"} if asset_class == "IR" else {"entity": contract["base"], "subclass": subclass}
    )


def test_random_books_have_the_exposure_of_the_file_command_on_their_trades(tmp_path: Path) -> None:
    """All is traded at its mark of 100, so that V is 0; C is 0."""
    random, held = Random(27), contracts()
    records: list[Json] = [
        {"type": "asset", "asset": base, "class": "token", "sa_ccr_class": base.rsplit("-", 1)[0].replace("-", "_")}
        for base in dict.fromkeys(one["base"] for one in held.values())
    ]
    records += [*held.values()]
    fills, documents = list[Json](), dict[str, Json]()
    for number in range(SETS):
        name, bilateral, margined = f"n{number}", random.random() < 0.5, random.random() < 0.5
        role, threshold = "dealer" if bilateral else "venue", random.choice([0, 1000, 10**9])
        records.append({"type": "counterparty", "counterparty": name, "name": name, "role": role})
        records.append(
            {"type": "account", "account": name, "counterparty": name, "holder": "house", "netting_set": name}
        )
        records.append(
            {
                "type": "netting_set",
                "netting_set": name,
                "counterparty": name,
                "margined": margined,
                "threshold": str(threshold),
            }
        )
        trades = []
        for at, which in enumerate(random.sample(sorted(held), random.randint(1, POSITIONS_MAX))):
            side, quantity = random.choice(["buy", "sell"]), random.randint(1, 10**6) / 100
            fills.append(
                fill(T0 + 2, f"{name}-{at}", name, instrument=which, side=side, quantity=f"{quantity:.2f}", price="100")
            )
            trades.append(as_trade(at, held[which], side, 100 * quantity, bilateral))
        agreement = {"margined": margined, "C": 0.0, "TH": threshold, "MTA": 0.0, "NICA": 0.0, "mpor_days": 10}
        documents[name] = {"trades": trades, "margin_agreement": agreement, "crypto_regime": "basel"}
    marks = [mark(T0 + 1, "100", name) for name in held]
    ran = run_pipeline(tmp_path, *records, *marks, *fills, crypto_regime="basel")
    for name, document in documents.items():
        wanted: dict[str, Any] = exposure_at_default(document)  # type: ignore[assignment]
        as_of_us, found = ran.dated_measures(f"netting_set:{name}")
        assert as_of_us == AS_OF_US
        assert found["potential_exposure"] == pytest.approx(wanted["PFE"], rel=1e-12), document
        assert found["exposure_at_default"] == pytest.approx(wanted["EAD"], rel=1e-12), document
