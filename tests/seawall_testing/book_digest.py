"""Prints the SHA-256 of everything that risk makes of a large generated book: run under other numpys, hosts and seeds.

``python digest.py``: the book has more than 20,000 positions, so that every vectorised path is taken.
"""

import hashlib
import random
from typing import Any

from seawall.operators.core.holdings import shard_of
from seawall.operators.core.pipeline import Pipeline
from seawall.schemas import events as ev
from seawall.schemas.records import Fills, Marks, Slice, Transfers, encode_slice

T0 = 1_700_000_000_000_000
ACCOUNTS, INSTRUMENTS, SHARDS, SLICES, FILLS = 2500, 12, 2, 10, 4000


def configuration(shards: int = SHARDS, **changes: Any) -> dict[str, Any]:
    """Return a configuration event with a limit that breaks and a rule that fires."""
    limit = {"id": "m", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "warning": 0.1}
    limit |= {"soft": 0.5, "hard": 1.0, "exit_ratio": 0.9, "dwell_s": 0.1}
    commands = [{"kind": "CALL_MARGIN", "target": "account"}, {"kind": "REDUCE_ONLY", "target": "account"}]
    rule = {"id": "r", "when": {"limit": "m", "level": "soft"}, "commands": commands, "cooldown_s": 0.2}
    return {
        "version": 1,
        "code": "test",
        "shards": shards,
        "issuer": "risk/test",
        "environment": "dev",
        "slice_ms": 100,
        "reporting_currency": "USD",
        "exposure_change_min": 0.0,
        "mark_max_age_s": 60,
        "fill_memory": 10_000,
        "limits": {"version": 1, "sha256": "00", "limits": [limit]},
        "playbook": {"version": 1, "sha256": "00", "rules": [rule]},
        **changes,
    }


def reference(accounts: int, instruments: int) -> list[Any]:
    """Return the reference records of the book: linear and inverse perpetuals, coins as collateral."""
    found: list[Any] = [ev.Asset(asset="C0", asset_class="coin", haircut="0.07")]
    for at in range(instruments):
        inverse, coin = at % 3 == 0, f"C{at}"
        body = {"base": coin, "quote": "USD", "quantity_increment": "1" if inverse else "0.001"}
        rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.037"}
        found.append(ev.Instrument(instrument=f"{coin}-USD", kind="spot", settlement="USD", **body))
        perpetual = {"kind": "perpetual", "settlement": coin if inverse else "USD", "inverse": inverse}
        found.append(ev.Instrument(instrument=f"{coin}-PERP", **perpetual, **body, **rates))
    for at in range(accounts):
        party = f"p{at}"
        found.append(ev.Counterparty(counterparty=party, name=party, role="client", group=f"g{at % 7}"))
        found.append(ev.Account(account=f"a{at}", counterparty=party, holder="counterparty"))
    return found


def journal(seed: int = 5, slices: int = SLICES, fills: int = FILLS) -> list[bytes]:
    """Return the journal of the book, in order."""
    rng = random.Random(seed)
    owners = [[at for at in range(ACCOUNTS) if shard_of(f"p{at}", SHARDS) == shard] for shard in range(SHARDS)]
    values = []
    for seq in range(slices):
        prices = [rng.uniform(0.7, 1.4) * 10.0 ** (at % 5) for at in range(2 * INSTRUMENTS)]
        now = T0 + (seq + 1) * 100_000
        marks = Marks(instrument=list(range(2 * INSTRUMENTS)), price=prices, time_us=[now - 1] * 2 * INSTRUMENTS)
        for shard in range(SHARDS):
            own = owners[shard]
            accounts = [rng.choice(own) for _ in range(fills)]
            numbers = [2 * rng.randrange(INSTRUMENTS) + 1 for _ in range(fills)]
            piece = Slice(shard=shard, seq=seq, as_of_us=now, cut_us=now, second=seq % 5 == 4, marks=marks)
            piece.fills = Fills(
                id=[f"f{seq}-{shard}-{at}" for at in range(fills)],
                account=accounts,
                instrument=numbers,
                quantity=[rng.randint(-9, 9) or 1 for _ in range(fills)],
                price=[prices[number] * rng.uniform(0.99, 1.01) for number in numbers],
                fee=[rng.uniform(-0.1, 0.3) for _ in range(fills)],
                fee_asset=[""] * fills,
            )
            if seq == 0:
                piece.configuration, piece.reference = configuration(), reference(ACCOUNTS, INSTRUMENTS)
                piece.transfers = Transfers(
                    id=[f"t{at}" for at in own],
                    account=own,
                    asset=[rng.choice(["USD", "C0", "C1", "C3"]) for _ in own],
                    amount=[rng.uniform(1, 5000) for _ in own],
                )
            values.append(encode_slice(piece))
    return values


def digest() -> tuple[str, int, int]:
    """Return the SHA-256 of all records, their number, and the number of open positions."""
    risk, sha, count = Pipeline(SHARDS), hashlib.sha256(), 0
    for value in journal():
        for audited in risk.step(value):
            for topic, records in audited.records.items():
                for record in records:
                    count += 1
                    sha.update(f"{topic} {record.key} {record.headers()}".encode() + record.value)
    ledgers = [shard.exposure.ledger for shard in risk.shards]
    positions = sum(int((ledger.positions.rows["units"] != 0).sum()) for ledger in ledgers if ledger is not None)
    return sha.hexdigest(), count, positions


if __name__ == "__main__":
    print(*digest())
