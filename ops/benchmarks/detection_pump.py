"""Pump-and-dump: labelled pumps found, minutes after their start, and false alerts per instrument-day.

Run as ``python ops/benchmarks/detection_pump.py FOLDER``, which holds ``series_labels.csv`` and ``series/``. A pump is
found by an alert from five minutes before its announcement (insiders buy first) to sixty after. Labels are incomplete:
some of the false alerts are pumps that nobody listed.
"""

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path

from detection_crash import DAY_MS, MINUTE_MS, STREAMS, raised, run

LEAD_MS = 5 * MINUTE_MS
SEARCH_MS = 60 * MINUTE_MS


def main(folder: Path) -> None:
    with (folder / "series_labels.csv").open(newline="") as file:
        labels = [row for row in csv.DictReader(file) if (folder / "series" / row["series_file"]).exists()]
    found, false, days = dict.fromkeys(STREAMS, 0), dict.fromkeys(STREAMS, 0), 0.0
    for path in sorted((folder / "series").glob("*.csv.gz")):
        _, rows = run(path)
        times = [(row.sample.time_us or 0) // 1000 for row in rows]
        days += (times[-1] - times[0]) / DAY_MS
        pumps = [int(datetime.fromisoformat(label["label_time_utc"]).timestamp() * 1000)
                 for label in labels if label["series_file"] == path.name]  # fmt: skip
        for stream, sources in STREAMS.items():
            alerts = sorted(times[row] for row in raised(rows, sources))
            for pump in pumps:
                hits = [when for when in alerts if pump - LEAD_MS <= when <= pump + SEARCH_MS]
                found[stream] += bool(hits)
                said = f"found after {(hits[0] - pump) / MINUTE_MS:+.1f} min" if hits else "missed"
                print(f"{path.name:48} {datetime.fromtimestamp(pump / 1000, UTC):%Y-%m-%d %H:%M} {stream:9} {said}")
            false[stream] += sum(not any(p - LEAD_MS <= when <= p + SEARCH_MS for p in pumps) for when in alerts)
    for stream in STREAMS:
        rate = f"{false[stream] / days:.2f} false alerts per instrument-day over {days:.0f} days"
        print(f"{stream:9} {found[stream]} of {len(labels)} pumps found; {rate}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
