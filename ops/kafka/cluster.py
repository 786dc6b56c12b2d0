"""A cluster of one or three real brokers on this machine: started, stopped, killed and started again.

1. Jars from the cache, certificates, properties; storage is formatted with a user for SCRAM.
2. Each broker is a process of its own in a session of its own; its output goes to ``broker-NODE.log``.
3. It counts as started when it accepts connections and, on the plain listener, names all brokers.
"""

import os
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from seawall.ops.kafka.artifacts import jars
from seawall.ops.kafka.certificates import write_certificates
from seawall.ops.kafka.properties import HOST, LISTENERS, SCRAM, server_properties
from seawall.ops.ports import free_ports
from seawall.schemas.errors import BusError

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
        from confluent_kafka.admin import AdminClient

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
