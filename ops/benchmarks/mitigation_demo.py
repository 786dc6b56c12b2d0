"""The demo's crisis with and without mitigation, from the same seed: loss, peak exposure, time to command, commands.

python ops/benchmarks/mitigation_demo.py [--seed 7]

The demo's own files are played through risk in a closed loop (``ops/rehearsal``). Both worlds are the same up to the
first command; without mitigation nobody listens, so nobody is called and nobody is stopped. Margin and collateral that
the demo's story brings in, and the close-outs of clients in it, are answers, so they only happen where they were asked
for. The loss is what clients cannot pay, at its worst and at the end, and the firm's own P&L on paper stands beside it.
The playbook is the demo's, with terms, and with amounts computed for WITHDRAW_FUNDS.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from seawall.ops.demo.plot import TRANSFERS
from seawall.ops.demo.scenario import write_scenario
from seawall.ops.rehearsal import Rehearsal, Result, World
from seawall.schemas.configuration import load_configuration

FUTURE_US = 4_000_000_000_000_000
ANSWERED_S = 570  # transfers from here on answer calls
TERMS = '[response]\nsubscribers = ["rehearsal"]\n\n'


def records(folder: Path) -> Iterator[tuple[int, Any]]:
    """Yield the demo's records with the event time at which each is heard."""
    at_us = 0
    for name in ("reference.jsonl", "events.jsonl"):
        for line in (folder / name).read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # broken on purpose, as is the record from the future
            if int(record.get("event_time_us", 0)) < FUTURE_US:
                at_us = max(at_us, int(record.get("event_time_us", 0)))
                yield at_us, record


def replies(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what the story's people do only because they were told to: pay, and close out clients and the hedges."""
    found = {
        f"t{number:03}": [_asked(account, purpose)]
        for number, (account, _, _, second, purpose) in enumerate(TRANSFERS)
        if second >= ANSWERED_S
    }
    client = ""
    for _, record in records(folder):
        if record["type"] == "fill" and record.get("source") == "liquidation":
            client = client if record["account"].startswith("house/") else record["account"]
            found[record["fill_id"]] = [(kind, client) for kind in ("REDUCE_ONLY", "HALT_TRADING", "SUSPEND")]
    return found


def play(seed: int, obeys: bool) -> tuple[Result, list[str]]:
    """Play the demo of a seed; return what it came to, and the clients' accounts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenario = write_scenario(folder, seed)
        playbook = (folder / "playbook.toml").read_text()
        withdraw = 'kind = "WITHDRAW_FUNDS", target = "counterparty"'
        computed = playbook.replace(withdraw, f'{withdraw}, compute = "headroom", to = "warning"')
        (folder / "playbook.toml").write_text(TERMS + computed)
        world = World(replies=replies(folder), obeys=obeys)
        if not obeys:
            (folder / "playbook.toml").write_text("")
        rehearsal = Rehearsal(load_configuration(scenario.configuration), world)
        result = rehearsal.play(records(folder))
    return result, [account for account in result.equity if not account.startswith("house/")]


def _asked(account: str, purpose: str) -> tuple[str, str]:
    return ("RECALL_COLLATERAL", "meridian/isda") if purpose == "variation_margin" else ("CALL_MARGIN", account)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=7)
    seed = parser.parse_args().seed
    for obeys in (False, True):
        result, clients = play(seed, obeys)
        print(f"\n{'with' if obeys else 'without'} mitigation, seed {seed}")
        at_end = result.shortfall(clients)
        print(f"  loss: clients cannot pay {result.shortfall_max:,.0f} at the worst and {at_end:,.0f} at the end")
        print(f"  the firm's own P&L on paper {result.firm['pnl']:,.0f}")
        print(f"  peak exposure of the firm {result.peaks['firm']:,.0f}")
        for name in ("binance", "hyperliquid", "okx", "meridian-otc", "birch-capital"):
            print(f"    to {name:16} {result.peaks.get(name, 0):,.0f}")
        delays = result.delays_s() or [0.0]
        print(f"  {len(result.commands)} commands: {dict(Counter(c['type'] for c in result.commands))}")
        print(f"  cause to command: median {median(delays):.1f} s, most {max(delays):.1f} s of event time")
        print(f"  most commands in a minute {result.most_per(60_000_000)}, fills that did not happen {result.dropped}")
        print(f"  withheld {len(result.withheld)}, breaches {len(result.breaches)}")


if __name__ == "__main__":
    main()
