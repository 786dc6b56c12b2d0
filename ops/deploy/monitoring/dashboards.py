"""Dashboards of Grafana from their one source, ``dashboards.toml``.

python ops/deploy/monitoring/dashboards.py           write grafana/*.json
python ops/deploy/monitoring/dashboards.py --check   exit 1 where a file is not what the source gives
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMNS = 24  # of Grafana's grid
HEIGHT = 7


def dashboard(source: dict[str, Any]) -> dict[str, Any]:
    """Return a dashboard in Grafana's form; panels are numbered in the order of the source."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in source["row"]:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row["title"],
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
            }
        )
        width = COLUMNS // len(row["panels"])
        for at, one in enumerate(row["panels"]):
            place = {"h": HEIGHT, "w": width, "x": at * width, "y": top + 1}
            panels.append(_panel(len(panels) + 1, one, place))
        top += HEIGHT + 1
    return {
        "uid": source["uid"],
        "title": source["title"],
        "tags": ["seawall"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


def queries(panel: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a panel's expressions and legends."""
    found = [(panel["expr"], panel.get("legend", panel["title"]))]
    if "more" in panel:
        found.append((panel["more"], panel["more_legend"]))
    return found


def _panel(number: int, panel: dict[str, Any], place: dict[str, int]) -> dict[str, Any]:
    stat = panel.get("kind") == "stat"
    source = {"type": "prometheus", "uid": "${source}"}
    targets = [
        {"refId": chr(ord("A") + at), "expr": expr, "legendFormat": legend, "datasource": source, "instant": stat}
        for at, (expr, legend) in enumerate(queries(panel))
    ]
    bad = {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]}
    return {
        "id": number,
        "type": "stat" if stat else "timeseries",
        "title": panel["title"],
        "datasource": source,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": panel["unit"], "min": 0, **({"thresholds": bad} if stat else {})},
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if not stat else {},
    }


def main() -> int:
    """Write the files, or with ``--check`` compare them; return the exit code."""
    stale = []
    for source in tomllib.loads((HERE / "dashboards.toml").read_text())["dashboard"]:
        path = HERE / "grafana" / f"{source['uid']}.json"
        text = json.dumps(dashboard(source), indent=2) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    for name in stale:
        print(f"grafana/{name} is not what dashboards.toml gives; run {Path(__file__).name}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
