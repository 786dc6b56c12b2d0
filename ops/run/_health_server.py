"""HTTP endpoint of a run: ``/live``, ``/ready`` and ``/metrics``, for the orchestrator that keeps it running.

``/live`` answers 503 when the run is stuck and must be started again, ``/ready`` also when it is behind; both say why,
as JSON. ``/metrics`` is Prometheus's own WSGI application, in the format that the scraper asks for. Without
``client_ca`` nobody is asked who he is: bind it to an inner network.
"""

import contextlib
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
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
TIMEOUT_S = 10
SICK = "503 Service Unavailable"
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

        try:
            self._server = make_server(host.strip("[]"), int(port), _app(monitor, registry), _Server, _Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"[health] listen = {listen!r} cannot be listened on: {error}; choose another") from None
        if tls is not None:  # hands are shaken in the thread of the connection: who is slow there holds up nobody
            plain = self._server.socket
            self._server.socket = tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
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


def _app(monitor: Monitor, registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    """Return the WSGI application that answers for a monitor."""
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def app(environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        path, kind = environ["PATH_INFO"], "application/json"
        if path == "/metrics":
            return metrics(environ, respond)
        if path in ("/live", "/ready"):
            stuck, behind = monitor.answers()
            reasons = stuck if path == "/live" else [*stuck, *behind]
            status, body = SICK if reasons else "200 OK", json.dumps({"good": not reasons, "reasons": reasons}).encode()
        else:
            status, kind, body = "404 Not Found", "text/plain", b"ask /live, /ready or /metrics\n"
        respond(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    return app


class _Server(ThreadingWSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log who left, never spoke or was no friend of the authority, and nothing on the terminal."""
        log.debug("a request to the health endpoint from %s failed", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = TIMEOUT_S

    def log_message(self, *arguments: object) -> None:
        """Say nothing: probes come every few seconds."""
