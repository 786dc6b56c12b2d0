"""HTTP endpoint of a run: ``/live``, ``/ready`` and ``/metrics``, for the orchestrator that keeps it running.

``/live`` answers 503 when the run is stuck and must be started again, ``/ready`` also when it is behind; both say why,
as JSON. ``/metrics`` is in the text format of Prometheus. Without ``client_ca`` nobody is asked who he is: bind it to
an inner network.
"""

import contextlib
import http.server
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from seawall.connectors.bus import Bus, Replica, open_bus
from seawall.ops.run._health import Monitor
from seawall.ops.run._metrics import HostCollector, Tally, TopicCollector, WorkCollector
from seawall.ops.run.worker import WorkerMetrics
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import SeawallError, UsageError
from seawall.schemas.telemetry import Telemetry, set_telemetry

if TYPE_CHECKING:
    from seawall.ops.run._traces import Traces

log = logging.getLogger("seawall")
Answer = tuple[int, str, bytes]
TIMEOUT_S = 10
LAST_S = 3.0  # to tell a collector of the last commands


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

    Parameters
    ----------
    listen
        ``HOST:PORT``.
    monitor
        Whose answers they are.
    collectors
        What else ``/metrics`` says.
    tls
        For HTTPS; None: HTTP.

    Raises
    ------
    UsageError
        The address cannot be listened on.
    """

    def __init__(
        self, listen: str, monitor: Monitor, collectors: Iterable[Collector] = (), tls: ssl.SSLContext | None = None
    ) -> None:
        host, _, port = listen.rpartition(":")
        registry = CollectorRegistry()
        for collector in (RunCollector(monitor), *collectors):
            registry.register(collector)
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
        if tls is not None:  # hands are shaken in the thread of the connection: who is slow there holds up nobody
            plain = self._server.socket
            self._server.socket = tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health-server", daemon=True)
        self.address = f"{'http' if tls is None else 'https'}://{host}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()
        log.info("health at %s/live, /ready and /metrics", self.address)

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class PeriodicTally(threading.Thread):
    """Lets a tally look now and then; a bus that cannot be read is the monitor's to tell."""

    def __init__(self, configuration: Configuration, dataflows: set[str]) -> None:
        super().__init__(name="metrics", daemon=True)
        self._every_s, self._enough = configuration.health.check_s, threading.Event()
        self._bus = open_bus(configuration.bus, configuration.directory)
        self.tally = Tally(configuration, dataflows, self._bus)
        self._traces = _traces(configuration, self._bus) if "risk" in dataflows else None

    def run(self) -> None:
        """Look until told to end."""
        while not self._enough.wait(self._every_s):
            try:
                self.tally.look()
                if self._traces is not None:
                    self._traces.look()
            except SeawallError as error:
                log.warning("metrics of topics stand still: %s", error)
        if self._traces is not None:
            self._traces.close()
        self._bus.close()

    def end(self) -> None:
        """Look no more."""
        self._enough.set()


@contextlib.contextmanager
def serve_health(
    configuration: Configuration,
    dataflows: set[str],
    threads: list[threading.Thread],
    stopped: Callable[[], bool],
    replica: Replica | None = None,
) -> Iterator[None]:
    """Answer while the block runs, where the configuration says so (parameters: `Monitor`; ``threads`` may grow).

    What is built inside the block counts its work.
    """
    if not configuration.health.listen:
        yield
        return
    workers, looking = WorkerMetrics(), PeriodicTally(configuration, dataflows)
    telemetry = Telemetry(bool(configuration.topics), workers.folder)
    collectors = WorkCollector(telemetry, workers), TopicCollector(looking.tally), HostCollector(configuration)
    monitor = Monitor(configuration, dataflows, threads, stopped, replica=replica)
    server = HealthServer(configuration.health.listen, monitor, collectors, _tls(configuration))
    set_telemetry(telemetry)
    for part in (server, monitor, looking):
        part.start()
    try:
        yield
    finally:
        set_telemetry(None)
        looking.end()
        looking.join(LAST_S)
        monitor.end()
        server.stop()
        workers.close()


def _traces(configuration: Configuration, bus: Bus) -> "Traces | None":
    """Return what traces commands, None where no collector is named."""
    if not configuration.health.traces:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - extra traces

        from seawall.ops.run._traces import Traces  # noqa: PLC0415 - extra traces
    except ImportError as error:
        raise UsageError("[health] traces needs: pip install 'bytewax-seawall[traces]'") from error
    return Traces(configuration, bus, OTLPSpanExporter(configuration.health.traces))


def _tls(configuration: Configuration) -> ssl.SSLContext | None:
    """Return how the endpoint is encrypted; raises UsageError where a file is not what it should be."""
    terms, base = configuration.health, configuration.directory
    if not terms.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(base / terms.certificate, base / terms.key)
        if terms.client_ca:
            context.load_verify_locations(base / terms.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"[health] certificate, key or client_ca cannot be used: {error}; give PEM files") from None
    return context


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
