"""Cluster of one or three real Kafka brokers on this machine, for trying out, tests and benchmarks; not for production.

1. Jars are fetched once per user with Maven into ``XDG_CACHE_HOME/seawall/kafka-VERSION``, whole or not at all.
2. Certificates: an authority whose key is thrown away after use, the brokers' and one per client name. They end after a
   week and begin two days ago, for brokers whose clock is behind.
3. Properties: KRaft, controller and broker in one process, access control lists. Listeners are ``PLAIN`` (everybody
   there is a super user: this machine only), ``TLS`` (client certificates, the common name is the user), ``SASL``
   (SCRAM-SHA-256 or OAUTHBEARER over TLS) and ``CONTROLLER``. On ``TLS`` and ``SASL`` nobody may do anything that no
   list allows.
4. Storage is formatted with a user for SCRAM. Each broker is a process of its own in a process group of its own; its
   output goes to ``broker-NODE.log``. It counts as started when it accepts connections and, on the plain listener,
   names all brokers.
"""

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from seawall.ops.ports import free_ports
from seawall.schemas.errors import BusError, UsageError

# The broker's jars: fetched once per user with Maven, then found in the cache.
#
# Decides where they are kept (``XDG_CACHE_HOME/seawall/kafka-VERSION``) and that a fetch is whole or not there at all:
# it goes to a folder of its own, which is then renamed.

VERSION = "4.1.1"
JAVA_MIN = 17
FETCH_S = 600
POM = Path(__file__).with_name("pom.xml")


def missing() -> str:
    """Return what this machine lacks to run a broker, empty where it lacks nothing."""
    lacking = [] if shutil.which("java") else [f"java ({JAVA_MIN} or later)"]
    if not cached().is_dir() and not shutil.which("mvn"):
        lacking.append("mvn, to fetch the broker once")
    return ", ".join(lacking)


def cached() -> Path:
    """Return the folder of the jars, which may not be there yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "seawall" / f"kafka-{VERSION}"


def jars() -> Path:
    """Return the folder of the broker's jars; fetch them first where they are not there.

    Raises
    ------
    UsageError
        Java or Maven is missing, or Maven could not fetch; its last line says why.
    """
    target = cached()
    if lacking := missing():
        raise UsageError(f"a broker cannot run here: install {lacking}, or set SEAWALL_TEST_KAFKA=host:port")
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        _fetch(Path(partial))
        try:
            (Path(partial) / "libs").rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def _fetch(folder: Path) -> None:
    shutil.copy(POM, folder / "pom.xml")
    command = ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder / 'libs'}"],
            capture_output=True,
            text=True,
            timeout=FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"Maven fetched no broker within {FETCH_S} s; check the network") from None
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise UsageError(f"Maven could not fetch the broker: {errors[0] if errors else done.stderr.strip()}")


# Certificates of a cluster on this machine: an authority, the brokers' and one per client name, as PEM files.
#
# Decides nothing about production: the authority's key is thrown away after use, and everything ends after a week. It
# begins two days ago, for brokers whose clock is behind.

DAYS = 7
DAYS_BEFORE = 2


def write_certificates(folder: Path, clients: list[str]) -> None:
    """Write ``ca.pem``, ``broker.pem`` (key and chain) and ``NAME.key`` with ``NAME.pem`` per client name."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = _authority()
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    for name in ["localhost", *clients]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(name, key, authority, authority_key).public_bytes(serialization.Encoding.PEM)
        if name == "localhost":
            chain = authority.public_bytes(serialization.Encoding.PEM)
            _write_secret(folder / "broker.pem", _pem(key) + certificate + chain)
        else:
            _write_secret(folder / f"{name}.key", _pem(key))
            (folder / f"{name}.pem").write_bytes(certificate)


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Seawall test authority", "Seawall test authority", key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def _signed(
    name: str, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    builder = _builder(name, "Seawall test authority", key)
    local = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(local), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
    )
    return builder.sign(authority_key, hashes.SHA256())


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=DAYS_BEFORE))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


# The properties of each broker: KRaft, controller and broker in one process, four listeners, access control lists.

LISTENERS = ("PLAIN", "TLS", "SASL", "CONTROLLER")
HOST = "127.0.0.1"
SCRAM = "SCRAM-SHA-256"
_PRINCIPAL = r"RULE:^CN=([^,]+).*$/$1/,DEFAULT"
_COMMON = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAIN",
    "listener.security.protocol.map": "PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,SASL:SASL_SSL",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    # A broker that was killed may come back when its session is over: nine seconds otherwise.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.segment.delete.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "transaction.max.timeout.ms": "900000",
    "transaction.state.log.num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "ssl.keystore.type": "PEM",
    "ssl.truststore.type": "PEM",
    "ssl.client.auth": "none",
    "listener.name.tls.ssl.client.auth": "required",
    "ssl.principal.mapping.rules": _PRINCIPAL,
    "sasl.enabled.mechanisms": f"{SCRAM},OAUTHBEARER",
    "listener.name.sasl.scram-sha-256.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
    "listener.name.sasl.oauthbearer.sasl.jaas.config": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "false",
}


def server_properties(folder: Path, node: int, ports: list[dict[str, int]], extra: dict[str, str]) -> str:
    """Return the text of a broker's properties.

    Parameters
    ----------
    folder
        Of the cluster; certificates stand in ``tls`` there, each broker's data in ``data-NODE``.
    node
        Number of the broker, from 1.
    ports
        The ports of each broker by name of the listener.
    extra
        What goes beyond, or other than, what stands here.
    """
    brokers, mine = len(ports), ports[node - 1]
    listeners = ",".join(f"{name}://{HOST}:{port}" for name, port in mine.items())
    advertised = ",".join(f"{name}://{HOST}:{port}" for name, port in mine.items() if name != "CONTROLLER")
    voters = ",".join(f"{number}@{HOST}:{one['CONTROLLER']}" for number, one in enumerate(ports, 1))
    in_sync = str(min(2, brokers))
    settings = {
        **_COMMON,
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "listeners": listeners,
        "advertised.listeners": advertised,
        "log.dirs": str(folder / f"data-{node}"),
        "ssl.keystore.location": str(folder / "tls" / "broker.pem"),
        "ssl.truststore.location": str(folder / "tls" / "ca.pem"),
        "default.replication.factor": str(brokers),
        "offsets.topic.replication.factor": str(brokers),
        "transaction.state.log.replication.factor": str(brokers),
        "transaction.state.log.min.isr": in_sync,
        "min.insync.replicas": in_sync,
        **extra,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


# A cluster of one or three real brokers on this machine: started, stopped, killed and started again.

START_S = 300.0  # a killed broker with hundreds of partitions, on a machine with much else to do
STOP_S = 30.0
HEAP = "-Xmx512m"
# Short runs: what the second compiler and a parallel collector gain is not worth their start here.
JVM = (HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOG_PROPERTY = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class Cluster:
    """Brokers on this machine.

    Parameters
    ----------
    folder
        Where data, certificates, properties and logs go; what stands there is used again.
    brokers
        1 or 3.
    clients
        Names for which a certificate is made.
    users
        Passwords by name, for SCRAM-SHA-256.
    extra
        Properties beyond the usual.
    jvm
        Options of the Java machine beyond the usual.
    environment
        Variables of the brokers' processes beyond those of this one.
    """

    def __init__(
        self,
        folder: Path,
        brokers: int = 1,
        clients: tuple[str, ...] = (),
        users: dict[str, str] | None = None,
        extra: dict[str, str] | None = None,
        jvm: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.brokers = folder.absolute(), brokers
        self._extra, self._jvm, self._users = extra or {}, jvm, users or {}
        self._environment = {**os.environ, **(environment or {})}
        self._classpath = f"{jars()}/*"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        write_certificates(self.folder / "tls", list(clients))
        free = free_ports(brokers * len(LISTENERS))
        self.ports = [dict(zip(LISTENERS, free[at * len(LISTENERS) :], strict=False)) for at in range(brokers)]
        self._format()

    def address(self, listener: str = "PLAIN") -> str:
        """Return ``host:port,…`` of a listener on all brokers."""
        return ",".join(f"{HOST}:{ports[listener]}" for ports in self.ports)

    def start(self) -> None:
        """Start all brokers that do not run; return when they answer."""
        for node in range(1, self.brokers + 1):
            self.start_broker(node, wait=False)
        self.wait()

    def start_broker(self, node: int, wait: bool = True) -> None:
        """Start one broker."""
        running = self._processes.get(node)
        if running is not None and running.poll() is None:
            return
        with (self.folder / f"broker-{node}.log").open("ab") as output:
            self._processes[node] = subprocess.Popen(
                [*self._java(), "kafka.Kafka", str(self._properties(node))],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                process_group=0,  # a session of its own would be a group of its own to the scheduler of Linux
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until every broker that runs is seen by all.

        Raises
        ------
        BusError
            A broker ended, or did not answer in time.
        """
        deadline = time.monotonic() + START_S
        running = {node for node, process in self._processes.items() if process.poll() is None}
        for node in running:
            self._wait_port(node, deadline)
        while True:
            admin = AdminClient({"bootstrap.servers": self.address(), "log_level": 0})
            try:
                if set(admin.list_topics(timeout=2).brokers) >= running:
                    return
            except Exception as error:
                if time.monotonic() > deadline:
                    raise BusError(f"the brokers do not answer; see {self.folder}/broker-*.log") from error
            time.sleep(0.1)

    def kill(self, node: int = 1) -> None:
        """Kill a broker with -9."""
        self._signal(node, signal.SIGKILL)

    def pause(self, node: int = 1) -> None:
        """Stop a broker where it stands, without ending it."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def resume(self, node: int = 1) -> None:
        """Let a paused broker go on."""
        self._processes[node].send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop all brokers, the hard way where they do not end."""
        for node in list(self._processes):
            self._signal(node, signal.SIGTERM)

    def pids(self) -> dict[int, int]:
        """Return the process id of each broker that was started."""
        return {node: process.pid for node, process in self._processes.items()}

    def kill_all(self) -> None:
        """Kill all brokers with -9: the last of three waits half a minute for the others where it is asked to stop."""
        for node in list(self._processes):
            self.kill(node)

    def _signal(self, node: int, number: signal.Signals) -> None:
        process = self._processes.pop(node, None)
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_port(self, node: int, deadline: float) -> None:
        while True:
            ended = self._processes[node].poll()
            if ended is not None or time.monotonic() > deadline:
                what = "does not answer" if ended is None else f"ended with exit {ended}"
                raise BusError(f"broker {node} {what}; see {self.folder / f'broker-{node}.log'}")
            try:
                socket.create_connection((HOST, self.ports[node - 1]["PLAIN"]), 1).close()
                return
            except OSError:
                time.sleep(0.05)

    def _format(self) -> None:
        """Write the properties, and format the storage of each broker that has none."""
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        starting = []
        for node in range(1, self.brokers + 1):
            text = server_properties(self.folder, node, self.ports, self._extra)
            self._properties(node).write_text(text)
            if (self.folder / f"data-{node}" / "meta.properties").exists():
                continue
            users = [
                part
                for name, password in self._users.items()
                for part in ("--add-scram", f"{SCRAM}=[name={name},password={password}]")
            ]
            command = [*self._java(), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c"]
            command += [str(self._properties(node)), *users]
            starting.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        for process in starting:
            output, _ = process.communicate(timeout=START_S)
            if process.returncode:
                raise BusError(f"storage could not be formatted: {output.strip()}")

    def _properties(self, node: int) -> Path:
        return self.folder / f"server-{node}.properties"

    def _java(self) -> list[str]:
        return ["java", *JVM, *self._jvm, LOG_PROPERTY, "-cp", self._classpath]


def end(pids: list[int]) -> None:
    """End brokers by their process ids, as another process started them."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
