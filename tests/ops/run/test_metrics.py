"""What a run measures of itself is right, is named by the conventions, and changes no byte of what it decides."""

import json
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from seawall.connectors.bus import open_bus
from seawall.operators.core.base import Events, Measures, MeasureTable, Moment
from seawall.operators.core.limits import LimitsState, limit_statuses, peak_utilisations
from seawall.ops.kafka.cluster import write_certificates
from seawall.ops.run import run
from seawall.ops.run._health import Monitor
from seawall.ops.run._health_server import HealthServer, _tls, serve_health
from seawall.ops.run._metrics import LABELS_MAX, OTHER, Counts, Tally, clock_state
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.telemetry import Telemetry, Timing
from seawall_testing.command_line import bus_contents, differences
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark
from seawall_testing.live_runs import metric_value, send, starting_runs, wait_for_endpoint, write_live
from seawall_testing.pipeline import write_configuration
from seawall_testing.playbooks import rule

LIMIT: Json = {"id": "gross", "scope": "account:*", "measure": "gross_notional", "direction": "above", "soft": 200.0}
HALT = rule("stop", {"limit": "gross", "level": "soft"}, ("HALT_TRADING", "account"))
TRADED = [instrument(), account("a"), mark(T0), fill(T0 + SECOND, "f1"), fill(T0 + 2 * SECOND, "f2")]


def test_a_live_run_says_what_it_took_decided_and_was_answered(tmp_path: Path) -> None:
    path = write_live(tmp_path, ("fills", "acknowledgements"), ([LIMIT], [HALT]))
    with starting_runs() as start:
        start(path)
        wait_for_endpoint(path, "ready", lambda code, _: code == 200)
        now = time.time_ns() // 1000
        send(tmp_path, "fills", mark(now), fill(now, "f1"), fill(now, "f2"), b"no record")
        text = wait_for_endpoint(path, "metrics", lambda _, text: metric_value(text, "seawall_commands_total") == 1)
        assert metric_value(text, "seawall_unanswered_commands", kind="HALT_TRADING") == 1
        assert metric_value(text, "seawall_standing_breaches", level="soft") == 1
        answer = {"type": "acknowledgement", "subscriber": "oms", "outcome": "completed", "event_time_us": now + SECOND}
        bus = open_bus("sqlite:seawall.db", tmp_path)
        partition = bus.partitions("commands")[0]
        command = json.loads(bus.read("commands", partition, 0, 1)[0].value)
        bus.close()
        send(
            tmp_path, "acknowledgements", {**answer, "command_id": command["id"]}, b"{}", {**answer, "command_id": "x"}
        )
        answered = {"kind": "HALT_TRADING", "outcome": "completed"}
        wait_for_endpoint(
            path, "metrics", lambda _, text: metric_value(text, "seawall_acknowledgements_total", **answered) == 1
        )
        rejects = {"reason": "JSON_MUST_BE_VALID"}
        wait_for_endpoint(
            path, "metrics", lambda _, text: metric_value(text, "seawall_rejected_records_total", **rejects) == 1
        )
        wait_for_endpoint(
            path, "metrics", lambda _, text: metric_value(text, "seawall_sealed_records", partition="0") > 0
        )
        text = wait_for_endpoint(
            path, "metrics", lambda _, text: metric_value(text, "seawall_snapshot_bytes", stage="exposure") > 0
        )
    assert metric_value(text, "seawall_acknowledgement_delay_seconds_count") == 1
    assert "seawall_unanswered_commands{" not in text
    assert metric_value(text, "seawall_breaches_total", limit="gross", level="soft") == 1
    assert metric_value(text, "seawall_events_total") >= 5
    assert metric_value(text, "seawall_journal_slices", partition="0") > 0
    assert metric_value(text, "seawall_audit_chain_records", partition="1") > 0
    for stage in ("exposure", "limits", "mitigation", "sign", "audit", "write", "sequence"):
        assert metric_value(text, "seawall_stage_batch_seconds_count", stage=stage) > 0, stage
    assert metric_value(text, "seawall_slice_age_seconds_count", stage="audit") > 0
    assert_conventional(text)


def assert_conventional(text: str) -> None:
    """Let Prometheus's own tool judge names, units and help, where it is."""
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE seawall_")]
    assert len(names) == len(set(names)) > 20
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_run_that_is_watched_writes_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name, table in (("plain", ""), ("watched", '[health]\nlisten = "127.0.0.1:0"\n')):
        path = write_configuration(tmp_path / name, {"all.jsonl": lines(*TRADED)}, [LIMIT], [HALT], shards=2)
        path.write_text(path.read_text() + table)
        (tmp_path / name / "keys").mkdir()
        for key in (tmp_path / "plain" / "keys").glob("*"):
            if name == "watched":
                shutil.copy(key, tmp_path / name / "keys" / key.name)
        run(load_configuration(path))
        assert Telemetry.current() is None
        found.append(bus_contents(path.parent))
    assert not differences(*found) and any(topic == "commands" for topic, _ in found[0])


def test_after_a_restart_what_stands_is_known_and_counters_begin_anew(tmp_path: Path) -> None:
    path = write_configuration(tmp_path, {"all.jsonl": lines(*TRADED)}, [LIMIT], [HALT], shards=2)
    configuration = load_configuration(path)
    run(configuration)
    bus = open_bus(configuration.bus, tmp_path)
    tally = Tally(configuration, {"risk"}, bus)
    tally.look()
    bus.close()
    assert tally.levels == {("gross", "account:a"): "soft"} and len(tally.issued) == 1
    assert not tally.breaches.of and not tally.commands.of
    assert tally.waiting(T0) == {"HALT_TRADING": 1} and not tally.waiting(T0 + 3600 * SECOND)


def test_labels_that_users_name_are_bounded() -> None:
    counts = Counts()
    for at in range(LABELS_MAX + 50):
        counts.add(f"limit-{at}", "hard")
    assert len(counts.of) == LABELS_MAX + 1 and counts.of[OTHER, OTHER] == 50


def test_the_peak_of_a_limit_is_the_utilisation_of_its_worst_scope() -> None:
    measures = ("equity", "gross_notional", "margin_ratio")
    values = [[-50.0, 0.0, 900.0], [10.0, 4000.0, 0.0], [0.5, 1.2, 0.0]]
    table = MeasureTable(["a", "b", "c"], measures, np.array(values))
    limits = [
        {"id": "up", "scope": "account:*", "measure": "gross_notional", "soft": 5000.0, "hard": 8000.0},
        {"id": "low", "scope": "account:*", "measure": "equity", "direction": "below", "hard": 100.0},
        {"id": "debt", "scope": "account:*", "measure": "equity", "direction": "below", "hard": -200.0},
        {"id": "one", "scope": "account:a", "measure": "margin_ratio", "direction": "above", "warning": 0.8},
    ]
    state = LimitsState("0", 0)
    section = {"limits": {"version": 1, "sha256": "", "limits": limits}}
    found = Measures(Moment("0", 0, 0, T0, T0), {"account": table})
    state.step(found, Events(section))
    wanted: dict[str, float] = {}
    for one in limit_statuses(state, found):
        wanted[one.limit] = max(wanted.get(one.limit, 0.0), one.utilisation)
    assert peak_utilisations(state, found) == pytest.approx(wanted) and wanted["up"] == 0.5 and wanted["low"] == 1e6


def test_a_histogram_counts_a_duration_on_its_bound_within_it() -> None:
    timing = Timing((0.1, 1.0))
    for seconds in (0.1, 0.5, 1.0, 7.0):
        timing.observe(seconds)
    assert timing.counts == [1, 2, 1] and timing.total == pytest.approx(8.6)


def test_the_clock_of_this_host_is_known_to_its_kernel() -> None:
    state = clock_state()
    assert state is not None and abs(state.offset_s) < 1 and state.error_max_s >= 0


def test_the_endpoint_speaks_tls_to_those_whom_its_authority_vouches_for(tmp_path: Path) -> None:
    write_certificates(tmp_path / "tls", ["prometheus"])
    tls = {"certificate": "tls/broker.pem", "key": "tls/broker.pem", "client_ca": "tls/ca.pem"}
    configuration = load_configuration(write_live(tmp_path, listen="127.0.0.1:0", **tls))
    monitor = Monitor(configuration, set(), [], lambda: False)
    server = HealthServer("127.0.0.1:0", monitor, (), _tls(configuration))
    server.start()
    context = ssl.create_default_context(cafile=str(tmp_path / "tls/ca.pem"))
    try:
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{server.address}/live", context=context, timeout=60)
        context.load_cert_chain(tmp_path / "tls/prometheus.pem", tmp_path / "tls/prometheus.key")
        with urllib.request.urlopen(f"{server.address}/live", context=context, timeout=60) as answer:
            assert json.load(answer) == {"good": True, "reasons": []}
    finally:
        server.stop()


def test_every_path_of_the_endpoint_answers_and_another_one_is_told_which_there_are(tmp_path: Path) -> None:
    configuration = load_configuration(write_live(tmp_path, listen="127.0.0.1:0"))
    server = HealthServer("127.0.0.1:0", Monitor(configuration, set(), [], lambda: False))
    server.start()
    try:
        with urllib.request.urlopen(f"{server.address}/metrics", timeout=60) as answer:
            assert (
                answer.headers["Content-Type"].startswith("text/plain; version=")
                and b"seawall_live 1.0" in answer.read()
            )
        found = {}
        for path in ("ready", "live?verbose", "other"):
            try:
                with urllib.request.urlopen(f"{server.address}/{path}", timeout=60) as answer:
                    found[path] = answer.status, answer.read()
            except urllib.error.HTTPError as error:
                found[path] = error.code, error.read()
    finally:
        server.stop()
    assert found["ready"] == (503, b'{"good": false, "reasons": ["the run is starting"]}')
    assert found["live?verbose"] == (200, b'{"good": true, "reasons": []}')
    assert found["other"] == (404, b"ask /live, /ready or /metrics\n")


@pytest.mark.parametrize("table", ['certificate = "a.pem"', 'client_ca = "ca.pem"', 'certificate="x"\nkey="x"'])
def test_half_a_tls_configuration_is_refused_in_one_line(tmp_path: Path, table: str) -> None:
    path = write_live(tmp_path)
    path.write_text(f"{path.read_text()}{table}\n")
    with (
        pytest.raises(UsageError, match=r"\[health\]"),
        serve_health(load_configuration(path), {"risk"}, [], lambda: True),
    ):
        pass
