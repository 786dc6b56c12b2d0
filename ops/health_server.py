"""The endpoint of a run: ``/live``, ``/ready`` and ``/metrics`` over HTTP, for whoever keeps it running.

``/live`` answers 503 when the run is stuck and must be started again, ``/ready`` also when it is behind; both say why,
as JSON. ``/metrics`` is in the text format of Prometheus. Nobody is asked who he is: bind it to an inner network.
"""

import contextlib
import http.server
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from seawall.ops.health import Monitor
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError

log = logging.getLogger("seawall")
Answer = tuple[int, str, bytes]
TIMEOUT_S = 10


class RunCollector(Collector):
    """What a monitor knows, as metrics."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of now."""
        stuck, behind = self._monitor.answers()
        yield GaugeMetricFamily("seawall_live", "1 where the run is not stuck.", value=not stuck)
        yield GaugeMetricFamily("seawall_ready", "1 where it is neither stuck nor behind.", value=not (stuck or behind))
        lag = GaugeMetricFamily(
            "seawall_consumer_lag_records",
            "Records that stand on a partition and were not taken yet.",
            labels=["dataflow", "topic", "partition"],
        )
        for (dataflow, topic, partition), records in sorted(self._monitor.lags().items()):
            lag.add_metric([dataflow, topic, str(partition)], records)
        yield lag
        still = GaugeMetricFamily(
            "seawall_standstill_seconds", "Seconds since something that must move did.", labels=["what"]
        )
        for name, seconds in sorted(self._monitor.ages().items()):
            still.add_metric([name], seconds)
        yield still


class HealthServer:
    """Answers for a monitor, in a thread of its own.

    Raises
    ------
    UsageError
        The address cannot be listened on.
    """

    def __init__(self, listen: str, monitor: Monitor) -> None:
        host, _, port = listen.rpartition(":")
        registry = CollectorRegistry()
        registry.register(RunCollector(monitor))
        ProcessCollector(registry=registry)

        def metrics() -> Answer:
            return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

        def live() -> Answer:
            return _said(monitor.answers()[0])

        def ready() -> Answer:
            stuck, behind = monitor.answers()
            return _said([*stuck, *behind])

        try:
            self._server = http.server.ThreadingHTTPServer(
                (host.strip("[]"), int(port)), _handler({"/live": live, "/ready": ready, "/metrics": metrics})
            )
        except (OSError, OverflowError) as error:
            raise UsageError(f"[health] listen = {listen!r} cannot be listened on: {error}; choose another") from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health-server", daemon=True)
        self.address = f"{host}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info("health at http://%s/live, /ready and /metrics", self.address)

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def answering(
    configuration: Configuration, dataflows: set[str], threads: list[threading.Thread], stopped: Callable[[], bool]
) -> Iterator[None]:
    """Answer while the block runs, where the configuration says so; ``threads`` may grow meanwhile."""
    if not configuration.health.listen:
        yield
        return
    monitor = Monitor(configuration, dataflows, threads, stopped)
    server = HealthServer(configuration.health.listen, monitor)
    server.start()
    monitor.start()
    try:
        yield
    finally:
        monitor.end()
        server.stop()


def _said(reasons: list[str]) -> Answer:
    body = json.dumps({"good": not reasons, "reasons": reasons}).encode()
    return (503 if reasons else 200), "application/json", body


def _handler(answers: dict[str, Callable[[], Answer]]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            code, kind, body = answer() if answer else (404, "text/plain", b"ask /live, /ready or /metrics\n")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler
