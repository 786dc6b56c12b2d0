"""Flink for Seawall: the configuration that its correctness needs, its REST interface, and a cluster on this machine.

1. A cluster's folder holds configuration, logs, checkpoints and savepoints; ports are free ones. One JobManager and
   some TaskManagers run, each a process of its own.
2. The Java classes are started directly: the wheel's scripts start two more Java machines each to reckon memory, which
   is stated here instead. The environment's ``bin`` comes first on the PATH: thread mode asks ``python`` there.
3. It counts as started when as many TaskManagers have registered.
4. Flink restarts a failing job for ever and prints nothing, so whoever waits for one asks for its last failure. A
   failure that cannot get better by itself ends the job, and is raised with what to do.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from seawall.ops.flink.artifacts import Home
from seawall.ops.ports import free_ports
from seawall.schemas.errors import BusError, SeawallError, UsageError

# Flink's configuration for Seawall: what its correctness needs, and what a small cluster on one machine needs.

HOST = "127.0.0.1"
HEAP_MB = 256
WAIT_MS = 200 * 86_400_000  # Flink takes no more than 248 days
OPENS = (
    "java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch",
    "java.base/java.lang.reflect", "java.base/java.text", "java.base/java.time", "java.base/java.util",
    "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks",
)  # fmt: skip
JVM = (
    f"-Xmx{HEAP_MB + 128}m", "-XX:MaxMetaspaceSize=256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    *(f"--add-opens={name}=ALL-UNNAMED" for name in OPENS),
)  # fmt: skip


def job_settings(home: Home) -> dict[str, str]:
    """Return what every job of Seawall needs, wherever it runs."""
    return {
        # A process-mode job finds no state of a thread-mode one under its names, and would begin empty.
        "python.execution-mode": "thread",
        "python.executable": str(home.python),
        "python.client.executable": str(home.python),
        "python.pythonpath": f"{home.seawall()}:{home.packages}",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": "1 s",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.savepoint-dir": "",
        # Outputs do not wait for checkpoints, so a job goes on deciding while their store is full or away.
        "execution.checkpointing.tolerable-failed-checkpoints": "2147483647",
        "state.backend.type": "hashmap",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "200 ms",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "1 min",
    }


def cluster_settings(home: Home, folder: Path, rpc: int, rest: int, slots: int) -> dict[str, str]:
    """Return the whole configuration of a cluster on this machine."""
    return job_settings(home) | {
        "execution.target": "remote",
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": str(rpc),
        "jobmanager.bind-host": HOST,
        "jobmanager.memory.heap.size": f"{HEAP_MB}m",
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": str(rest),
        "rest.bind-port": str(rest),
        "web.submit.enable": "false",
        "taskmanager.bind-host": HOST,
        "taskmanager.host": HOST,
        "taskmanager.jvm-exit-on-oom": "true",
        "taskmanager.numberOfTaskSlots": str(slots),
        "taskmanager.cpu.cores": "1.0",
        "taskmanager.memory.task.heap.size": f"{HEAP_MB}m",
        "taskmanager.memory.task.off-heap.size": "0m",
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "64m",
        "taskmanager.memory.network.min": "32m",
        "taskmanager.memory.network.max": "32m",
        "taskmanager.memory.managed.size": "16m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "64m",
        "taskmanager.memory.jvm-overhead.max": "64m",
        # A job that lost its TaskManager waits for another one, instead of failing again and again until it is there.
        "resourcemanager.standalone.start-up-time": str(WAIT_MS),
        "heartbeat.interval": "1000",
        "heartbeat.timeout": "8000",
        "classloader.parent-first-patterns.additional": "pemja",
        "execution.checkpointing.dir": f"file://{folder / 'checkpoints'}",
        "execution.checkpointing.savepoint-dir": f"file://{folder / 'savepoints'}",
        "io.tmp.dirs": str(folder / "tmp"),
    }


def as_yaml(settings: dict[str, str]) -> str:
    """Return settings as Flink's ``config.yaml``."""
    return "".join(f'{name}: "{value}"\n' for name, value in settings.items())


# What a Flink cluster says over its REST interface: jobs, their states, why they fail, savepoints.
#
# Flink restarts a failing job for ever and prints nothing, so whoever waits for one asks why it failed last. What
# cannot get better by itself ends the job, and is raised with what to do.

CALL_S = 10.0
POLL_S = 0.2
ENDED_STATES = ("FINISHED", "CANCELED", "FAILED")
# Root causes that a restart does not mend, and what does.
NOT_RECOVERABLE = {
    "find_libpython": "a TaskManager's `python` is not that of Flink's environment: set python.executable, or its PATH",
    "No module named 'seawall": "python.pythonpath does not name the folder that holds seawall: set it",
    "No module named 'pemja'": "python.pythonpath does not name the environment's site-packages: set it",
    "connector.kafka": "the Kafka connector is not on the class path of the cluster: put its jar into Flink's lib",
    "InvariantError": "the state and the journal do not join: restore the savepoint of this journal",
    "SnapshotError": "restore another savepoint, or submit without one, and the journal is replayed",
    "UsageError": "the configuration where the tasks run is wrong: correct it, and submit the job again",
    "Divergence": "run `seawall verify` to see which record is wrong",
    "Gap": "records are missing: submit without a savepoint, and the journal is replayed",
}


class Rest:
    """A JobManager's REST interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def task_managers(self) -> int:
        """Return how many have registered; 0 where the JobManager does not answer."""
        try:
            return len(self._get("/taskmanagers")["taskmanagers"])
        except BusError:
            return 0

    def state(self, job: str) -> str:
        """Return a job's state; raises BusError where the JobManager does not answer or does not know it."""
        return str(self._get(f"/jobs/{job}")["state"])

    def failure(self, job: str) -> str:
        """Return why a job failed last: the cause behind all others; empty where it never did."""
        found = self._get(f"/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return str(found[0]["stacktrace"]) if found else ""

    def read(self, job: str) -> int:
        """Return how many records a job's source has read since the job was submitted."""
        return int(self._get(f"/jobs/{job}")["vertices"][0]["metrics"]["write-records"])

    def checkpoints(self, job: str) -> int:
        """Return how many checkpoints of a job are complete."""
        return int(self._get(f"/jobs/{job}/checkpoints")["counts"]["completed"])

    def failed_checkpoints(self, job: str) -> int:
        """Return how many checkpoints of a job have failed."""
        return int(self._get(f"/jobs/{job}/checkpoints")["counts"]["failed"])

    def wait(self, job: str, seconds: float) -> None:
        """Wait until a job has finished.

        Raises
        ------
        SeawallError
            It failed, or it fails in a way that restarting does not mend; then it is cancelled first.
        BusError
            It did not finish in time.
        """
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) != "FINISHED":
            reason = self.failure(job)
            hint = remedy(reason)
            if state in ENDED_STATES or hint:
                if state not in ENDED_STATES:
                    self.cancel(job)
                raise SeawallError(f"the job {job} is {state.lower()}: {root_cause(reason)}; {hint or 'see the logs'}")
            if time.monotonic() > deadline:
                raise BusError(
                    f"the job {job} is {state.lower()} after {seconds:.0f} s; it failed last by: {root_cause(reason)}"
                )
            time.sleep(POLL_S)

    def cancel(self, job: str) -> None:
        """Cancel a job; what it wrote stands."""
        self._call(f"/jobs/{job}?mode=cancel", method="PATCH")

    def stop(self, job: str, seconds: float = 300.0, *, drain: bool = False) -> str:
        """Stop a job at a savepoint; return where it is.

        PyFlink closes a function where its input ends and nowhere else. So only a drained job publishes its states on
        ``snapshots``, for another engine; only the savepoint of one that was not drained is for Flink to go on from.
        """
        trigger = self._call(f"/jobs/{job}/stop", {"drain": drain})["request-id"]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self._get(f"/jobs/{job}/savepoints/{trigger}")
            if found["status"]["id"] == "COMPLETED":
                operation = found["operation"]
                if "location" not in operation:
                    text = str(operation.get("failure-cause", {}).get("stack-trace", ""))
                    raise BusError(f"the job {job} made no savepoint: {root_cause(text)}")
                return str(operation["location"])
            time.sleep(POLL_S)
        raise BusError(f"the job {job} made no savepoint within {seconds:.0f} s")

    def _get(self, path: str) -> Any:
        return self._call(path)

    def _call(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method or ("POST" if data else "GET")
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_S) as answer:
                return json.loads(answer.read() or b"{}")
        except (OSError, urllib.error.URLError, json.JSONDecodeError) as error:
            raise BusError(f"the JobManager at {self.url} does not answer {path}: {error}") from None


def root_cause(trace: str) -> str:
    """Return the last cause that a Java stack trace names, in one line; where Python raised it, that line."""
    named = [line.strip() for line in trace.splitlines() if line.startswith("Caused by: ")]
    last = named[-1].removeprefix("Caused by: ") if named else (trace.strip().splitlines() or ["nothing"])[0]
    return last


def remedy(trace: str) -> str:
    """Return what mends a failure that restarting does not, empty where restarting may."""
    return next((hint for sign, hint in NOT_RECOVERABLE.items() if sign in trace), "")


# A Flink cluster on this machine, from the wheel: one JobManager, some TaskManagers, each a process of its own.

START_S = 120.0
STOP_S = 30.0
SUBMIT_S = 300.0
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
MANAGER = "jobmanager"
CLIENT = "org.apache.flink.client.cli.CliFrontend"
SUBMITTED = re.compile(r"Job has been submitted with JobID ([0-9a-f]{32})")
PYTHON = re.compile(r"\S+ +\S+ +PythonDriver (.*)")  # how Flink's client logs what a Python program writes
ERROR = re.compile(r"[A-Za-z_.]*(Error|Exception|Divergence|Gap)\b: ")  # at the start of a line: Python's
LOG4J = """rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.name = out
appender.out.type = CONSOLE
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""


class FlinkCluster:
    """Processes of Flink on this machine.

    Parameters
    ----------
    home
        Flink's environment.
    folder
        Where configuration, logs, checkpoints and savepoints go.
    task_managers, slots
        How many, and how many subtasks each of them runs at a time.
    extra
        Settings beyond the usual.
    """

    def __init__(
        self, home: Home, folder: Path, task_managers: int = 2, slots: int = 1, extra: dict[str, str] | None = None
    ) -> None:
        self.home, self.folder, self.task_managers = home, folder.absolute(), task_managers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        rpc, rest = self._ports()
        for name in ("log", "tmp", "checkpoints", "savepoints"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.settings = cluster_settings(home, self.folder, rpc, rest, slots) | (extra or {})
        self._conf("conf", {})
        self.rest = Rest(f"http://{HOST}:{rest}")

    def _ports(self) -> list[int]:
        """Return the ports of this folder's cluster, free ones the first time."""
        kept = self.folder / "ports.json"
        if not kept.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(free_ports(2)))
        ports: list[int] = json.loads(kept.read_text())
        return ports

    def start(self) -> None:
        """Start what does not run, and wait until all have registered."""
        self._launch(MANAGER, JOB_MANAGER)
        for number in range(self.task_managers):
            self._launch(self.name(number), TASK_MANAGER)
        self.wait_ready()

    def wait_ready(self, task_managers: int | None = None) -> None:
        """Wait until the JobManager answers and so many TaskManagers have registered."""
        wanted, deadline = self.task_managers if task_managers is None else task_managers, time.monotonic() + START_S
        while self.rest.task_managers() < wanted:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise BusError(f"{name} ended with exit {process.returncode}; see {self._log(name)}")
            if time.monotonic() > deadline:
                raise BusError(f"the cluster does not answer; see {self.folder / 'log'}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End every process."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def kill(self, name: str) -> None:
        """Kill one process with SIGKILL; ``start`` brings it back."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    @staticmethod
    def name(number: int) -> str:
        """Return the name of a TaskManager."""
        return f"taskmanager-{number}"

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def submit(
        self, dataflow: str, path: Path, *options: str, restore: str = "", settings: dict[str, str] | None = None
    ) -> str:
        """Hand a dataflow of a configuration to the cluster; return the id of its job.

        Parameters
        ----------
        restore
            A savepoint or a checkpoint to begin with.
        settings
            Of this job, instead of the cluster's.

        Raises
        ------
        UsageError
            The job's program failed; its last line says why.
        """
        program = ["-pym", "seawall.dataflows.flink.job", dataflow, str(path.absolute()), *options]
        return self.submit_program(*program, restore=restore, settings=settings)

    def submit_program(self, *program: str, restore: str = "", settings: dict[str, str] | None = None) -> str:
        """Hand any Python program to the cluster, told of the connector by ``--jar``; see ``submit``."""
        restored = ["-s", restore] if restore else []
        jars = [f"--jar={jar}" for jar in self.home.jars.glob("*.jar")]
        command = [
            *self._java(self._conf("conf-submit", settings or {})),
            CLIENT,
            "run",
            "-d",
            *restored,
            *program,
            *jars,
        ]
        environment = self._environment(self.folder / "conf-submit")
        done = subprocess.run(command, capture_output=True, text=True, timeout=SUBMIT_S, env=environment, check=False)
        self._log("submit").write_text(done.stdout + done.stderr)
        found = SUBMITTED.search(done.stdout)
        if done.returncode or found is None:
            raise UsageError(
                f"the job could not be submitted: {job_error(done.stdout + done.stderr)}; see {self._log('submit')}"
            )
        return found.group(1)

    def checkpoint(self, job: str) -> str:
        """Return the last complete checkpoint of a job, as its files say; empty where there is none."""
        found = [path.parent for path in (self.folder / "checkpoints" / job).glob("chk-*/_metadata")]
        return str(max(found, key=lambda path: int(path.name[4:]))) if found else ""

    def _launch(self, name: str, entry: str) -> None:
        process = self._processes.get(name)
        if process is not None and process.poll() is None:
            return
        command = [*self._java(self.folder / "conf"), entry, "--configDir", str(self.folder / "conf")]
        if entry == TASK_MANAGER:
            command += ["-D", f"taskmanager.resource-id={name}-{time.time_ns()}"]
        with self._log(name).open("ab") as output:
            self._processes[name] = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment(self.folder / "conf"),
                start_new_session=True,
            )

    def _java(self, conf: Path) -> list[str]:
        """Return the start of a command that runs one of Flink's classes."""
        flink = self.home.flink
        classes = [f"{flink}/lib/*", *map(str, (flink / "opt").glob("flink-python-*.jar"))]
        logs = f"-Dlog4j.configurationFile=file:{conf / 'log4j2.properties'}"
        return ["java", *JVM, logs, "-cp", ":".join(classes)]

    def _conf(self, folder: str, instead: dict[str, str]) -> Path:
        """Write a folder of configuration; return it."""
        conf = self.folder / folder
        conf.mkdir(parents=True, exist_ok=True)
        (conf / "config.yaml").write_text(as_yaml(self.settings | instead))
        (conf / "log4j2.properties").write_text(LOG4J)
        return conf

    def _environment(self, conf: Path) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return inherited | {
            "PATH": f"{self.home.folder / 'bin'}:{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(self.home.seawall()),
            "FLINK_HOME": str(self.home.flink),
            "FLINK_CONF_DIR": str(conf),
            "FLINK_OPT_DIR": str(self.home.flink / "opt"),
            "FLINK_LIB_DIR": str(self.home.flink / "lib"),
            "FLINK_PLUGINS_DIR": str(self.home.flink / "plugins"),
            "FLINK_LOG_DIR": str(self.folder / "log"),
            "JVM_ARGS": " ".join(JVM),
        }

    def _log(self, name: str) -> Path:
        return self.folder / "log" / f"{name}.log"


def job_error(output: str) -> str:
    """Return the line that says why a job's program failed: Python's own error, else the last cause of Java's."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    python = [found.group(1).strip() for line in lines if (found := PYTHON.match(line))]
    errors = [line for line in python if ERROR.match(line)] or [line for line in lines if ERROR.match(line)]
    return (errors or [line for line in lines if line.startswith("Caused by")] or lines or ["it said nothing"])[-1]
