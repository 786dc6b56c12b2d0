"""The report says what happened, what was done and what it saved, in one file that a real browser lays out whole."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from seawall.ops.lab.backtest._var_tests import HOUR_US, Observation, evaluate_figures
from seawall.ops.lab.report import backtest_page
from seawall.ops.lab.report._figures import describe_markets, distinct, money, result_headline, result_timeline
from seawall.ops.lab.report._plots import network

START_US = 1_621_382_400_000_000
Json = dict[str, Any]
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
PROBE = """<script>document.title = JSON.stringify({
  wide: document.documentElement.scrollWidth, seen: innerWidth,
  pictures: [...document.querySelectorAll('svg')].map(s => Math.round(s.getBoundingClientRect().height)),
  ids: [...document.querySelectorAll('[id]')].map(e => e.id).filter((id, at, all) => all.indexOf(id) != at).length,
  loads: performance.getEntriesByType('resource').length})</script>"""


def variant(name: str, owed: float, commands: list[Json]) -> Json:
    times, first = [START_US + at * HOUR_US // 2 for at in range(48)], START_US // HOUR_US
    short = [0.0] * 24 + [owed * (at + 1) / 12 for at in range(12)] + [owed] * 12
    observed = [Observation(at * HOUR_US, -1.0 if at % 97 == 0 else 0.2, 0.9, 1.0, 0.8) for at in range(700)]
    kinds = {one["type"]: sum(other["type"] == one["type"] for other in commands) for one in commands}
    breach = {"as_of_us": times[20], "limit": "client-margin", "scope": "account:client-0/main", "value": 0.8,
              "measure": "margin_ratio", "bound": 0.75, "level": "hard", "cause": "passive"}  # fmt: skip
    return {
        "name": name, "journal_sha256": "ab" * 32, "slices": 48, "records": 96, "rejected": 0, "loss": owed,
        "shortfall": owed, "shortfall_max": owed, "clients": 3, "insolvent": 1, "paper_pnl": 0.0, "peak_exposure": 9e6,
        "breach_levels": {"client-margin hard": 1, "client-margin none": 1}, "command_kinds": kinds, "withheld": {},
        "delay_s": {}, "dropped": 0, "commands": commands, "breaches": [breach],
        "equity": {"client-0/main": -owed, "client-1/main": 4e5, "client-2/main": 1e6, "house/venue": 5e6},
        "trace": {
            "times_us": times, "worst_us": times[36], "shortfall": short,
            "firm": {"current_exposure": [4e6 + owed * at / 48 for at in range(48)]},
            "hours": {f"client-{n}/main": [[first + h, 0.1 * n + h / 20] for h in range(24)] for n in range(3)},
        },
        "verdicts": [
            evaluate_figures("firm", "hour", observed).as_dict(),
            evaluate_figures("firm", "day", observed[:3:100]).as_dict(),
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def result() -> Json:
    told = [("CALL_MARGIN", 19), ("REDUCE_ONLY", 21), ("REDUCE_POSITION", 22), ("REDUCE_POSITION", 25)]
    commands = [
        {"as_of_us": START_US + at * HOUR_US // 2, "type": kind, "target": "account:client-0/main", "rule": "r"}
        for kind, at in told
    ]
    falling = [[START_US + at * HOUR_US // 2, 100.0 - (at if at < 30 else 40 - at / 2)] for at in range(48)]
    limits = [
        {"id": "client-margin", "scope": "account:*", "measure": "margin_ratio", "direction": "above", "hard": 0.75},
        {"id": "firm", "scope": "firm", "measure": "current_exposure", "direction": "above", "hard": 8e6},
    ]
    found = {
        "episodes": 2,
        "told": 1,
        "alerts": 3,
        "false": 2,
        "precision": 1 / 3,
        "recall": 0.5,
        "median_lead_s": 60.0,
    }
    alert = {"as_of_us": START_US, "kind": "circuit_breaker", "scope": "instrument:BTC-PERP", "text": "fell <7%>"}
    return {
        "plan": {"file": "may-2021.toml", "sha256": "cd" * 32}, "configuration": "desk.toml", "limits": limits,
        "period_us": [START_US, START_US + 24 * HOUR_US], "inputs": [{"file": "btc.csv", "sha256": "ef" * 32}],
        "signals": [{"group": 0, "sha256": "01" * 32}], "prices": {"BTC-PERP": falling}, "alerts": [alert],
        "detection": {**found, "terms": {"move": 0.1, "within_s": 3600, "quiet_s": 21600}},
        "assumptions": {"reactions": {"latency_ms": 500}, "book": {"notional": 1e8}},
        "variants": {one["name"]: one for one in (
            variant("unmitigated", 8.37e6, []), variant("mitigated", 4.1e5, commands),
        )},
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(result: Json) -> str:
    nodes = [{"id": n, "size": s, "round": r} for n, s, r in (("a", 5, 0), ("b", 3, 1), ("c", 2, 1), ("d", 9, None))]
    cascade = {"nodes": nodes, "edges": [["a", "b", 4.0], ["a", "c", 2.0], ["b", "d", 1.0]]}
    return backtest_page(result, ["seawall", "backtest", "may 2021.toml"], cascade)


def test_the_headline_says_what_was_lost_and_what_acting_saved(result: Json) -> None:
    without, with_ = result["variants"]["unmitigated"], result["variants"]["mitigated"]
    told = result_headline(without, with_)
    assert "8.37 million at the end" in told and "could not pay 410,000" in told
    assert told.endswith("Acting saved 7.96 million.")
    assert result_headline(with_, without).endswith("Acting cost 7.96 million.")
    assert money(-0.2) == "0"


def test_what_happened_is_told_from_prices_and_from_the_order_of_events(result: Json) -> None:
    assert describe_markets(result) == ["BTC-PERP fell 29%, from 100 on 19 May 00:00 to 71 on 19 May 14:30"]
    moments = [text for _, text in result_timeline(result["variants"]["mitigated"])]
    assert [text.split(",")[0] for text in moments] == [
        "first CALL_MARGIN", "limit client-margin reaches hard for the first time: account:client-0/main",
        "first REDUCE_ONLY", "first REDUCE_POSITION",
        "the worst moment: clients owe 410",
    ]  # fmt: skip


def test_a_report_is_one_file_that_loads_nothing_and_escapes_what_it_quotes(page: str) -> None:
    assert not re.search(r'(?:src|href)="(?!#|data:)', page.replace("xlink:href", "href"))
    assert "@import" not in page and "fell &lt;7%&gt;" in page
    assert "seawall backtest 'may 2021.toml'" in page
    for digest in ("ab" * 32, "cd" * 32, "ef" * 32, "01" * 32):
        assert digest in page
    assert "1 observations of one day give the tests no power; at least 250 are needed" in page


def test_the_same_result_gives_the_same_report(result: Json, page: str) -> None:
    nodes = [{"id": n, "size": s, "round": r} for n, s, r in (("a", 5, 0), ("b", 3, 1), ("c", 2, 1), ("d", 9, None))]
    cascade = {"nodes": nodes, "edges": [["a", "b", 4.0], ["a", "c", 2.0], ["b", "d", 1.0]]}
    assert backtest_page(result, ["seawall", "backtest", "may 2021.toml"], cascade) == page


def test_ids_of_pictures_do_not_meet_in_one_page() -> None:
    cascade = {"nodes": [{"id": "a", "size": 1, "round": None}], "edges": []}
    one, other = distinct(network(cascade), "one"), distinct(network(cascade), "other")
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0] and not ids[0] & ids[1]


@pytest.mark.skipif(not BROWSER, reason="no chromium on this machine to lay the report out")
def test_a_browser_shows_every_picture_and_nothing_runs_over_the_edge(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    call = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,900", "--dump-dom"]
    done = subprocess.run(
        [*call, f"file://{tmp_path / 'page.html'}"], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert found is not None, done.stderr[-500:]
    seen = json.loads(found[1])
    assert seen["wide"] <= seen["seen"]
    assert len(seen["pictures"]) == 7 and min(seen["pictures"]) > 80
    assert (seen["ids"], seen["loads"]) == (0, 0)
