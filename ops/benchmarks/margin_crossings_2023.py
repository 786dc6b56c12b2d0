"""When the margin ratio of each Hyperliquid account of early 2023 crossed 0.8, 0.95 and 1.

python ops/benchmarks/margin_crossings_2023.py [--data ../shared/data/hyperliquid_accounts_2023] [--dir DIR] [--csv OUT]

The export is converted and run with a margin limit on every account (warning 0.8, soft 0.95, hard 1.0); the table is
read from the topic ``breaches``. A jump over levels crosses all of them at once. Equity and notional are those of
the slice before the first crossing, replayed. The export has no margin rates: 0.02 initial and 0.01 maintenance, those
of 50 times leverage, stand in for them.
"""

import argparse
import csv
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from seawall.connectors.bus import open_bus, read_all
from seawall.connectors.hyperliquid_accounts import convert
from seawall.operators.core.exposure import ExposureState
from seawall.ops import run as runner
from seawall.schemas.configuration import load_configuration
from seawall.schemas.slices import decode_slice

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "hyperliquid_accounts_2023"
LEVELS = ("warning", "soft", "hard")
RATIOS = (0.8, 0.95, 1.0)
LIMITS = """
[[limit]]
id = "margin"
scope = "account:*"
measure = "margin_ratio"
warning = 0.8
soft = 0.95
hard = 1.0
"""


class Crossing(NamedTuple):
    """One account: when it first crossed each level in microseconds (None: never), equity and notional just before."""

    account: str
    times: tuple[int | None, int | None, int | None]
    count: int
    equity: float
    notional: float


def run(folder: Path, data: Path = DATA) -> list[Crossing]:
    """Convert and run the export in a folder; return the crossings, earliest first."""
    folder.mkdir(parents=True, exist_ok=True)
    write_inputs(folder, data)
    configuration = load_configuration(folder / "desk.toml")
    runner.run(configuration)
    bus = open_bus(configuration.bus, configuration.directory)
    try:
        return crossings(bus)
    finally:
        bus.close()


def write_inputs(folder: Path, data: Path) -> None:
    """Convert the export; write the configuration with a margin limit on every account."""
    names = ("non_mm_trades.csv.gz", "non_mm_ledger_updates.csv.gz")
    convert(data / names[0], data / names[1], folder)
    (folder / "limits.toml").write_text(LIMITS)
    (folder / "desk.toml").write_text(
        "shards = 2\nexposure_change_min = 0.05\n[inputs]\nevents = ['reference.jsonl', 'events.jsonl']\n"
        "[limits]\nfile = 'limits.toml'\n"
    )


def crossings(bus: Any, shards: int = 2) -> list[Crossing]:
    """Return the first crossings of each account, from the breaches, with what stood in the slice before."""
    first: dict[str, dict[str, int]] = {}
    count: dict[str, int] = {}
    for shard in range(shards):
        for stored in read_all(bus, "breaches", shard):
            breach = json.loads(stored.value)
            if breach["limit"] != "margin" or breach["level"] == "none":
                continue
            name = breach["scope"].partition(":")[2]
            count[name] = count.get(name, 0) + (breach["previous_level"] == "none")
            for level in LEVELS[: LEVELS.index(breach["level"]) + 1]:
                first.setdefault(name, {}).setdefault(level, breach["as_of_us"])
    before = _before(bus, shards, {name: times["warning"] for name, times in first.items()})
    found = [
        Crossing(name, (times["warning"], times.get("soft"), times.get("hard")), count[name], *before[name])
        for name, times in first.items()
    ]
    return sorted(found, key=lambda crossing: (crossing.times[0], crossing.account))


def _before(bus: Any, shards: int, wanted: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Return equity and gross notional of each account in the last slice before a time, replayed."""
    found = {}
    for shard in range(shards):
        state = ExposureState(shard)
        open_times = dict(wanted)
        for stored in read_all(bus, "journal", shard):
            piece = decode_slice(stored.value)
            table = state.ledger.tables.get("account") if state.ledger is not None else None
            for name in [name for name, at in open_times.items() if at <= piece.as_of_us]:
                del open_times[name]
                if table is not None and name in table.names[: table.values.shape[1]]:
                    column = table.values[:, table.names.index(name)]
                    rows = (table.measures.index("equity"), table.measures.index("gross_notional"))
                    found[name] = (float(column[rows[0]]), float(column[rows[1]]))
            state.step(piece, "")
    return {name: found.get(name, (0.0, 0.0)) for name in wanted}


def text(time_us: int | None) -> str:
    return "" if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--dir", type=Path, default=None, help="where to run; a new folder by default")
    parser.add_argument("--csv", type=Path, default=None, help="also write the table there")
    options = parser.parse_args()
    found = run(options.dir or Path(tempfile.mkdtemp(prefix="seawall-margin-")), options.data)
    head = ["account", *(f"reached {ratio:g} (UTC)" for ratio in RATIOS), "times", "equity before", "notional before"]
    rows = [
        [c.account, *(text(at) for at in c.times), str(c.count), f"{c.equity:.2f}", f"{c.notional:.2f}"] for c in found
    ]
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([head, *rows])
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    reached = [sum(c.times[at] is not None for c in found) for at in range(3)]
    print(f"\n{reached[0]} accounts reached 0.8, {reached[1]} reached 0.95, {reached[2]} reached 1.0", file=sys.stderr)


if __name__ == "__main__":
    main()
