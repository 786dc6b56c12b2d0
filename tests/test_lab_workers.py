"""Processes of the laboratory."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, time
from seawall.ops.lab.workers import Job, Workers

def busy(place):
    print(os.getpid(), flush=True)
    time.sleep(3600)

if __name__ == "__main__":
    with Workers(1) as workers:
        workers.run([Job("busy", 0, 1, busy, ())])
"""


def test_a_worker_ends_when_the_process_that_asked_for_its_work_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    asking = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    worker = asking.stdout.readline()
    assert int(worker) != asking.pid
    asking.kill()
    asking.wait()
    assert asking.stdout.read() == ""  # it ends when the last process that holds it open does
