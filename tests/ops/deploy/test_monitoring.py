"""Rules and dashboards ask for metrics that exist, alerts lead to a page, and what is generated is current."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from seawall.connectors.bus import open_bus
from seawall.ops.run import _metrics
from seawall.ops.run._health import Monitor
from seawall.ops.run._health_server import RunCollector
from seawall.ops.run._metrics import Tally
from seawall.schemas.configuration import load_configuration
from seawall.schemas.telemetry import Telemetry
from seawall_testing.live_runs import write_live
from seawall_testing.paths import OPS

MONITORING = OPS / "deploy" / "monitoring"
NAMES = re.compile(r"\bseawall_[a-z0-9_]+")
KEYS = {"seawall_key_set_expiry_timestamp_seconds"}  # only where a key set is configured


def rules() -> list[dict[str, object]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of all series that a run can have."""
    configuration = load_configuration(write_live(tmp_path_factory.mktemp("desk")))
    bus = open_bus(configuration.bus, configuration.directory)
    telemetry = Telemetry(live=True)
    telemetry.totals |= {"events": lambda: 0, "late_events": lambda: 0}
    collectors = (
        RunCollector(Monitor(configuration, {"risk"}, [], lambda: False)),
        _metrics.WorkCollector(telemetry),
        _metrics.TopicCollector(Tally(configuration, {"risk"}, bus)),
        _metrics.HostCollector(configuration),
    )
    found = set(KEYS)
    for family in (family for one in collectors for family in one.collect()):
        tails = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
        found |= {family.name + tail for tail in tails.get(family.type, ("",))}
    bus.close()
    return found


def test_every_metric_that_a_rule_or_a_dashboard_asks_for_exists(metrics: set[str]) -> None:
    asked = NAMES.findall(json.dumps([rule["expr"] for rule in rules()]))
    asked += NAMES.findall((MONITORING / "dashboards.toml").read_text())
    assert len(set(asked)) > 20 and set(asked) <= metrics


def test_every_recorded_series_that_is_asked_for_is_recorded() -> None:
    recorded = {str(rule["record"]) for rule in rules() if "record" in rule}
    text = (MONITORING / "dashboards.toml").read_text() + json.dumps([rule["expr"] for rule in rules()])
    assert set(re.findall(r"\bseawall:[a-z0-9_:]+", text)) <= recorded


def test_every_alert_leads_to_its_section_of_a_page_that_is_there_and_has_a_test() -> None:
    tests = (MONITORING / "rules.test.yml").read_text()
    for rule in (rule for rule in rules() if "alert" in rule):
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")  # type: ignore[index]
        headings = re.findall(r"^## (.+)$", (OPS.parent / page).read_text(), re.MULTILINE)
        assert anchor in [heading.lower() for heading in headings], rule["alert"]
        assert re.search(rf"alertname: {rule['alert']}\n(?=\s+exp_alerts:\n)", tests), rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_alerts_fire_on_what_they_are_for_and_not_before() -> None:
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "rules.test.yml"]):
        done = subprocess.run(["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_are_what_their_source_gives(tmp_path: Path) -> None:
    script = [sys.executable, str(MONITORING / "dashboards.py"), "--check"]
    assert subprocess.run(script, check=False).returncode == 0
    copy = tmp_path / "monitoring"
    shutil.copytree(MONITORING, copy)
    source = copy / "dashboards.toml"
    source.write_text(source.read_text().replace('title = "Events"', 'title = "What comes"'))
    done = subprocess.run([sys.executable, str(copy / "dashboards.py"), "--check"], capture_output=True, check=False)
    assert done.returncode == 1 and b"seawall.json is not what dashboards.toml gives" in done.stderr


def test_panels_lie_side_by_side_without_overlaps() -> None:
    for source in tomllib.loads((MONITORING / "dashboards.toml").read_text())["dashboard"]:
        panels = json.loads((MONITORING / "grafana" / f"{source['uid']}.json").read_text())["panels"]
        cells: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in panels):
            own = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not own & cells and place["x"] + place["w"] <= 24
            cells |= own
        assert len({panel["id"] for panel in panels}) == len(panels)
