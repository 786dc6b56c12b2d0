"""A Flink cluster on this machine, from the wheel: one JobManager, some TaskManagers, each a process of its own.

1. Its folder holds configuration, logs, checkpoints and savepoints; ports are free ones.
2. The Java classes are started directly: the wheel's scripts start two more Java machines each to reckon memory, which
   is stated here instead. The environment's ``bin`` comes first on the PATH: thread mode asks ``python`` there.
3. It counts as started when as many TaskManagers have registered.
"""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from seawall.ops.flink.artifacts import Home
from seawall.ops.flink.rest import Rest
from seawall.ops.flink.settings import HOST, JVM, as_yaml, cluster_settings
from seawall.ops.ports import free_ports
from seawall.schemas.errors import BusError, UsageError

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
                f"the job could not be submitted: {said(done.stdout + done.stderr)}; see {self._log('submit')}"
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


def said(output: str) -> str:
    """Return the line that says why a job's program failed: Python's own error, else the last cause of Java's."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    python = [found.group(1).strip() for line in lines if (found := PYTHON.match(line))]
    errors = [line for line in python if ERROR.match(line)] or [line for line in lines if ERROR.match(line)]
    return (errors or [line for line in lines if line.startswith("Caused by")] or lines or ["it said nothing"])[-1]
