"""Draw the dashboards' panels from a running Prometheus, where there is no Grafana to draw them.

    python ops/deploy/monitoring/render.py http://127.0.0.1:9090 OUT.png [MINUTES]

The same queries as in Grafana, over the last minutes; matplotlib draws them, so the look is not Grafana's.
"""

import json
import math
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from dashboards import HERE, queries
from matplotlib import pyplot

SHOWN_MAX = 8  # series in a legend


def series(prometheus: str, expr: str, minutes: float) -> list[dict[str, Any]]:
    """Return the series of an expression over the last minutes."""
    now = time.time()
    query = urllib.parse.urlencode({"query": expr, "start": now - 60 * minutes, "end": now, "step": 5})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def draw(axes: Any, prometheus: str, panel: dict[str, Any], minutes: float) -> int:
    """Draw one panel; return the number of its series."""
    count = 0
    for expr, legend in queries(panel):
        for one in series(prometheus, expr, minutes):
            label = legend
            for name, value in one["metric"].items():
                label = label.replace("{{" + name + "}}", value)
            points = [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))]
            if points:
                last = points[-1][0]
                axes.plot([at - last for at, _ in points], [value for _, value in points], label=label[:38])
                count += 1
    axes.set_title(f"{panel['title']} [{panel['unit']}]", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.set_ylim(bottom=0)
    if count:
        axes.legend(fontsize=6, loc="upper left")
    else:
        axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes)
    return count


def main() -> None:
    """Draw the first dashboard into a file."""
    prometheus, out = sys.argv[1:3]
    minutes = float(sys.argv[3]) if len(sys.argv) > 3 else 10
    rows = tomllib.loads((HERE / "dashboards.toml").read_text())["dashboard"][0]["row"]
    figure, grid = pyplot.subplots(len(rows), 4, figsize=(20, 3 * len(rows)), squeeze=False)
    for axes_row, row in zip(grid, rows, strict=True):
        for axes in axes_row[len(row["panels"]) :]:
            axes.axis("off")
        for axes, panel in zip(axes_row, row["panels"], strict=False):
            print(f"{draw(axes, prometheus, panel, minutes)} series: {panel['title']}")
    figure.tight_layout()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main()
