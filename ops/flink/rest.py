"""What a Flink cluster says over its REST interface: jobs, their states, why they fail, savepoints.

Flink restarts a failing job for ever and prints nothing, so whoever waits for one asks why it failed last. What cannot
get better by itself ends the job, and is raised with what to do.
"""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from seawall.schemas.errors import BusError, SeawallError

CALL_S = 10.0
POLL_S = 0.2
OVER = ("FINISHED", "CANCELED", "FAILED")
# Root causes that a restart does not mend, and what does.
HOPELESS = {
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
            told = self.failure(job)
            hint = hint_of(told)
            if state in OVER or hint:
                if state not in OVER:
                    self.cancel(job)
                raise SeawallError(f"the job {job} is {state.lower()}: {cause(told)}; {hint or 'see the logs'}")
            if time.monotonic() > deadline:
                raise BusError(
                    f"the job {job} is {state.lower()} after {seconds:.0f} s; it failed last by: {cause(told)}"
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
                    raise BusError(f"the job {job} made no savepoint: {cause(text)}")
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


def cause(trace: str) -> str:
    """Return the last cause that a Java stack trace names, in one line; where Python raised it, that line."""
    named = [line.strip() for line in trace.splitlines() if line.startswith("Caused by: ")]
    last = named[-1].removeprefix("Caused by: ") if named else (trace.strip().splitlines() or ["nothing"])[0]
    return last


def hint_of(trace: str) -> str:
    """Return what mends a failure that restarting does not, empty where restarting may."""
    return next((hint for sign, hint in HOPELESS.items() if sign in trace), "")
