"""What exposures cost at the depth of a risk desk, part by part, on the book of ``risk_throughput``.

    python ops/benchmarks/exposure_cost.py [--scale 1.0] [--cycles 4]

Each row is the book of the foundation benchmark (250,000 positions of 10,000 accounts, 1,000 fills and 1,000 marks a
slice) with one part more than the row above it:

- *limits*: five limits on every account, 50,000 in all, evaluated every slice;
- *options*: 20,000 positions in 200 options held by 500 accounts, marked with volatilities, greeks once per instrument;
- *scenario margin*: those accounts are margined by the default grid, touched ones every slice, all every 10 s;
- *SA-CCR*: every account's netting set has terms: replacement cost every slice; add-ons and exposure at default of
  touched sets (a third of all) every slice, of all every 10 s.

Every tenth slice ends a second of event time, and a hundred are a cycle of ten seconds. All variants run in turns,
block by block, so that what else the machine does falls on all of them. A figure is CPU time: of each block of a cycle
the least that any cycle took, because everything else on the machine only adds.
"""

import argparse
import statistics
import time

import msgspec
import numpy as np
import risk_throughput as foundation

from seawall.operators.core.risk import Risk
from seawall.schemas import events as ev
from seawall.schemas.slices import Fills, encode_slice

PARTS = ("limits", "options", "scenario margin", "SA-CCR")
OPTIONS, UNDERLYINGS, HOLDERS, EACH = 200, 10, 500, 40
BLOCK, BLOCKS = 20, 5  # slices of a block, blocks of a cycle
MEASURES = ("equity", "leverage", "gross_notional", "unrealised_pnl", "margin_ratio")


def variant(items, parts, seed=11):
    """Yield the journal of the foundation benchmark with ``parts`` on, as (shard, value)."""
    rng = np.random.default_rng(seed)
    number, opened, accounts, prices = 0, set(), None, None
    for shard, value in items:
        if shard is None:
            yield None, b""
            continue
        piece = foundation.DECODE(value)
        if piece.configuration is not None:
            accounts = [r for r in piece.reference if isinstance(r, ev.Account)]
            base = sum(isinstance(r, ev.Instrument) for r in piece.reference)
            prices = np.array(piece.marks.price)
            _adapt(piece, parts, accounts)
        elif "options" in parts and shard not in opened:
            opened.add(shard)
            piece.fills = _joined(piece.fills, _option_fills(shard, accounts, base, rng))
        if "options" in parts and piece.marks is not None:
            _mark_options(piece.marks, base, prices, number)
        if piece.configuration is None and piece.marks is not None:  # a live slice
            number += 1
            piece.second = number % 10 == 0
            if "options" in parts:
                piece.fills = _joined(piece.fills, _option_fills(shard, accounts, base, rng, 70))
        yield shard, encode_slice(piece)


def _adapt(piece, parts, accounts):
    """Put what a part needs into the first slice of a shard."""
    if "limits" in parts:
        body = piece.configuration["limits"]["limits"][0]
        levels = {"warning": 1e17, "soft": 1e18, "hard": 1e19}
        piece.configuration["limits"]["limits"] = [
            {**body, **levels, "id": f"limit-{measure}", "measure": measure} for measure in MEASURES
        ]
    holders = {record.account for record in accounts[:HOLDERS]}
    if "scenario margin" in parts:
        piece.reference = [
            msgspec.structs.replace(r, margin_model="scenario")
            if isinstance(r, ev.Account) and r.account in holders
            else r
            for r in piece.reference
        ]
    if "options" in parts:
        piece.reference += [_option(at) for at in range(OPTIONS)]
    if "SA-CCR" in parts:
        piece.reference += [
            ev.NettingSet(netting_set=r.account, counterparty=r.counterparty, margined=True, threshold="1000")
            for r in accounts
        ]


def _option(at):
    underlying = at % UNDERLYINGS
    return ev.Instrument(
        instrument=f"O{at}",
        kind="option",
        base=f"C{underlying}",
        quote="USD",
        settlement="USD",
        quantity_increment="0.001",
        strike=f"{5 + at % 40}",
        option_type="call" if at % 2 else "put",
        expiry_us=1_700_000_000_000_000 + (30 + at) * 86_400_000_000,
        forward=f"I{underlying}-PERP",
    )


def _mark_options(marks, base, prices, number):
    """Mark a fifth of the options, all of them in the first slice."""
    chosen = [at for at in range(OPTIONS) if number == 0 or at % 5 == number % 5]
    marks.implied_volatility = [-1.0] * len(marks.price) + [0.6 + 0.001 * (at % 50) for at in chosen]
    marks.instrument += [base + at for at in chosen]
    marks.price += [round(0.1 * float(prices[at % UNDERLYINGS]), 6) for at in chosen]
    marks.time_us += [marks.time_us[0]] * len(chosen)


def _option_fills(shard, accounts, base, rng, count=None):
    """Return the opening positions in options of a shard's holders, or ``count`` more fills on them."""
    own = [at for at, r in enumerate(accounts[:HOLDERS]) if foundation.zlib.crc32(r.counterparty.encode()) % 4 == shard]
    pairs = [(at, base + (at * 7 + place) % OPTIONS) for at in own for place in range(EACH)]
    if count is not None:
        pairs = [pairs[i] for i in rng.integers(0, len(pairs), count)]
    mark = rng.integers(1 << 60)
    return Fills(
        id=[f"o{mark:x}-{i}" for i in range(len(pairs))],
        account=[account for account, _ in pairs],
        instrument=[instrument for _, instrument in pairs],
        quantity=(rng.integers(1, 1000, len(pairs)) * rng.choice((-1, 1), len(pairs))).tolist(),
        price=[1.0] * len(pairs),
    )


def _joined(one, two):
    if one is None:
        return two
    names = ("id", "account", "instrument", "quantity", "price")
    return Fills(**{name: [*getattr(one, name), *getattr(two, name)] for name in names})


def prepared(scale, parts, slices):
    """Return a risk step with its opening book, and the live slices with the number of their fills."""
    positions, accounts = int(250_000 * scale), max(HOLDERS, int(10_000 * scale))
    items = foundation.journal(positions, accounts, max(1000, int(1000 * scale)), slices, 0.05)
    risk, live, is_live = Risk(foundation.SHARDS), [], False
    for shard, value in variant(items, parts):
        if shard is None:
            is_live = True
        elif is_live:
            live.append(value)
        else:
            for _ in risk.step(value):
                pass
    return risk, live, sum(len(foundation.DECODE(value).fills.id) for value in live) / len(live)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--cycles", type=int, default=4)
    args = parser.parse_args()
    rows = [PARTS[:count] for count in range(len(PARTS) + 1)]
    ready = [prepared(args.scale, parts, args.cycles * BLOCKS * BLOCK) for parts in rows]
    times = [[] for _ in rows]
    for block in range(args.cycles * BLOCKS):
        for (risk, live, _), spent in zip(ready, times, strict=True):
            start = time.thread_time()
            for value in live[block * BLOCK : (block + 1) * BLOCK]:
                for _ in risk.step(value):
                    pass
            spent.append((time.thread_time() - start) / BLOCK * 1e6)
    print("| with | us a slice | this part | fills/s of a core | of the foundation |")
    print("|---|---|---|---|---|")
    first = before = None
    for parts, (_, _, fills), spent in zip(rows, ready, times, strict=True):
        each = statistics.mean(min(spent[phase::BLOCKS]) for phase in range(BLOCKS))
        first, before = first or each / fills, each if before is None else before
        name = f"+ {parts[-1]}" if parts else "foundation"
        print(
            f"| {name} | {each:,.0f} | {each - before:,.0f} | {fills / each * 1e6:,.0f} | {first * fills / each:.2f} |"
        )
        before = each


if __name__ == "__main__":
    main()
