"""A run under supervision: started, killed for good, started again when it ends, as a supervisor would."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

RESTART_S: Final = 0.2
STOP_S: Final = 60.0


class Supervised:
    """``seawall run`` of a configuration in a process group of its own; a context that leaves nothing running.

    Attributes
    ----------
    ended
        When it ended unasked, one monotonic time each; whoever looks takes them.
    """

    def __init__(self, config: Path, log: Path) -> None:
        self._command = [sys.executable, "-c", "from seawall.ops.cli import main; main()", "run", str(config)]
        self._log, self._lock = log.open("ab"), threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._held = threading.Event()
        self._closing = threading.Event()
        self.ended: list[float] = []
        self.starts = 0
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def __enter__(self) -> "Supervised":
        self._start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """Kill the whole process group with SIGKILL."""
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def hold(self) -> None:
        """Do not start it again until :meth:`release`."""
        self._held.set()

    def release(self) -> None:
        """Start it again whenever it has ended."""
        self._held.clear()

    def stop(self) -> int:
        """Ask it to end, and return its exit code; it is not started again."""
        self._closing.set()
        self._thread.join()
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        return process.wait(STOP_S)

    def _start(self) -> None:
        with self._lock:
            self.starts += 1
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.DEVNULL, stderr=self._log, start_new_session=True
            )

    def _watch(self) -> None:
        noted: subprocess.Popen[bytes] | None = None
        while not self._closing.wait(0.02):
            process = self._process
            assert process is not None
            if process.poll() is None:
                continue
            if process is not noted:
                self.ended.append(time.monotonic())
                noted = process
            if not self._held.is_set() and time.monotonic() - self.ended[-1] >= RESTART_S:
                self._start()
