"""What metrics cost a small slice: the processor time of ``risk`` with and without them, in turns.

    python ops/benchmarks/metrics_cost.py [--slices 4000] [--rounds 5]

Each slice carries one fill and one mark of one of ten accounts. A round runs ``risk`` over the same journal on the
embedded bus, once as it is and once with ``[health]`` and all that it counts, in processes of their own. The figure is
the ratio of the least processor seconds of each.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration

T0 = 1_700_000_000_000_000
MS = 1000
LIMITS = """
[[limit]]
id = "gross"
scope = "account:*"
measure = "gross_notional"
warning = 1e9
hard = 2e9
"""
ALONE = """
import sys
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
print(run(load_configuration(sys.argv[1]), ["risk"]).dataflows["risk"].seconds, end="")
import time
print("", time.process_time())
"""


def records(slices):
    """Yield the input records: the desk, then a mark and a fill per slice."""
    body = {"kind": "perpetual", "base": "ETH", "quote": "USD", "settlement": "USD", "quantity_increment": "0.01"}
    yield {"type": "instrument", "instrument": "ETH-PERP", **body}
    for at in range(10):
        yield {"type": "counterparty", "counterparty": f"c{at}", "name": f"c{at}", "role": "client"}
        yield {"type": "account", "account": f"c{at}", "counterparty": f"c{at}", "holder": "counterparty"}
    for at in range(slices):
        when = T0 + at * 100 * MS
        yield {"type": "mark", "event_time_us": when, "instrument": "ETH-PERP", "price": f"{2000 + at % 17}"}
        side = "buy" if at // 10 % 2 else "sell"
        trade = {"side": side, "quantity": "1", "price": "2000", "account": f"c{at % 10}", "instrument": "ETH-PERP"}
        yield {"type": "fill", "event_time_us": when + 1, "fill_id": f"f{at}", **trade}


def prepare(folder, slices):
    """Write the journal once."""
    (folder / "all.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records(slices)))
    (folder / "limits.toml").write_text(LIMITS)
    text = 'shards = 1\n[inputs]\nevents = ["all.jsonl"]\n[limits]\nfile = "limits.toml"\n'
    (folder / "desk.toml").write_text(text)
    run(load_configuration(folder / "desk.toml"), ["market", "sequence"])


def seconds(journal, watched):
    """Return processor seconds of one run of risk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        shutil.copytree(journal, folder)
        if watched:
            with (folder / "desk.toml").open("a") as file:
                file.write('[health]\nlisten = "127.0.0.1:0"\n')
        done = subprocess.run(
            [sys.executable, "-c", ALONE, str(folder / "desk.toml")], capture_output=True, text=True, check=True
        )
        worker, whole = done.stdout.split()[-2:]
        return float(worker), float(whole)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        journal = Path(name)
        prepare(journal, options.slices)
        found = {watched: [] for watched in (False, True)}
        for _ in range(options.rounds):
            for watched, told in found.items():
                told.append(seconds(journal, watched))
    for at, what in enumerate(("the worker's thread", "the whole process")):
        plain, with_metrics = (min(one[at] for one in found[watched]) for watched in (False, True))
        micros = plain / options.slices * 1e6
        print(f"{what}: {micros:.0f} us a slice without metrics, {with_metrics / plain:.3f} of that with")


if __name__ == "__main__":
    main()
