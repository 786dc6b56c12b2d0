"""One trace tells a command's way from event to answer, under an id that everybody can compute."""

import gzip
import http.server
import json
import threading
from pathlib import Path

import pytest

from seawall.connectors.bus import open_bus
from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, mark
from seawall_testing.live_runs import send
from seawall_testing.pipeline import write_configuration
from seawall_testing.playbooks import rule

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from seawall.ops.run._traces import ANSWER_S, Traces

LIMIT: Json = {"id": "gross", "scope": "account:*", "measure": "gross_notional", "direction": "above", "soft": 200.0}
HALT = rule("stop", {"limit": "gross", "level": "soft"}, ("HALT_TRADING", "account"))
SEEN = T0 + 10 * SECOND


def traced(folder: Path, exporter: object) -> tuple[Traces, list[int], str]:
    """Return traces of a run, begun before it, a clock to turn, and the id of its one command."""
    events = lines(instrument(), account("a"), mark(T0), fill(T0 + SECOND, "f1"), fill(T0 + 2 * SECOND, "f2"))
    configuration = load_configuration(write_configuration(folder, {"all.jsonl": events}, [LIMIT], [HALT], shards=2))
    now = [SEEN]
    traces = Traces(configuration, open_bus(configuration.bus, folder), exporter, lambda: now[0])  # type: ignore[arg-type]
    run(configuration)
    bus = open_bus(configuration.bus, folder)
    (partition,) = bus.partitions("commands")
    command = bus.read("commands", partition, 0, 1)[0].value
    bus.close()
    return traces, now, json.loads(command)["id"]


def test_a_command_and_its_answer_are_one_trace_whose_id_is_the_command_s(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    traces, _, command = traced(tmp_path, exporter)
    traces.look()
    answer = {"type": "acknowledgement", "subscriber": "oms", "outcome": "completed", "command_id": command}
    send(tmp_path, "acknowledgements", b"{}", {**answer, "event_time_us": SEEN + 3 * SECOND})
    traces.look()
    traces.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"command HALT_TRADING", "gather", "sequence", "decide", "acknowledge"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {command[:32]}
    root = spans["command HALT_TRADING"]
    assert root.parent is None and {s.parent.span_id for n, s in spans.items() if n in ("gather", "decide")} == {
        root.context.span_id
    }
    assert root.attributes["seawall.limit"] == "gross" and root.attributes["seawall.outcome"] == "completed"
    assert "fill:f2" in root.attributes["seawall.causes"]
    gather, decide = spans["gather"], spans["decide"]
    assert gather.start_time <= (T0 + 2 * SECOND) * 1000 < gather.end_time  # the fill lies in it
    assert gather.end_time - gather.start_time == 100_000_000 and decide.end_time == SEEN * 1000
    assert spans["acknowledge"].end_time == root.end_time == (SEEN + 3 * SECOND) * 1000


def test_a_command_that_nobody_answers_is_told_after_a_while_without_an_answer(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    traces, now, _ = traced(tmp_path, exporter)
    traces.look()
    assert len(traces._waiting) == 1
    now[0] += int(ANSWER_S * SECOND) + 1
    traces.look()
    assert not traces._waiting
    traces.close()
    assert "acknowledge" not in {span.name for span in exporter.get_finished_spans()}


def test_a_collector_takes_them_over_http(tmp_path: Path) -> None:
    taken: list[ExportTraceServiceRequest] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append(
                ExportTraceServiceRequest.FromString(
                    gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                )
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    traces, _, command = traced(tmp_path, OTLPSpanExporter(f"http://127.0.0.1:{server.server_address[1]}/v1/traces"))
    traces.look()
    traces.close()
    server.shutdown()
    spans = [
        span
        for request in taken
        for found in request.resource_spans
        for scope in found.scope_spans
        for span in scope.spans
    ]
    assert len(spans) == 4 and {span.trace_id.hex() for span in spans} == {command[:32]}
