"""Work of the lab: growing files are read to their end, and worker processes end with whoever started them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from seawall.ops.lab.backtest import Cache, GrowingFile, Job, Workers

# A file is read to its end while another process writes it: whole lines, each once; a writer that fails is noticed.

COUNT = 2_000


def write(place: int, cache: Cache, owner: int, fails: bool) -> None:
    """Write lines in pieces that end anywhere; what is asked for stands when the last is written."""

    def build(part: Path) -> None:
        whole = b"".join(b"line %d\n" % number for number in range(COUNT))
        with part.open("wb", buffering=0) as file:
            for first in range(0, len(whole), 1_001):
                file.write(whole[first : first + 1_001])
                if first % 7 == 0:
                    time.sleep(0.001)
                if fails and first > len(whole) // 2:
                    raise ValueError("no more")

    cache.make("key", ".txt", build, owner)


def read(place: int, cache: Cache, owner: int) -> list[bytes]:
    """Return all lines, however far the writer is."""
    return list(GrowingFile(cache.path("key", ".txt"), cache.part("key", ".txt", owner)).lines())


@pytest.fixture(scope="module")
def workers() -> object:
    with Workers(2) as pool:
        yield pool


def test_lines_are_whole_and_each_is_read_once_while_they_are_written(tmp_path: Path, workers: Workers) -> None:
    cache = Cache(tmp_path)
    jobs = [Job("", 0, 1, write, (cache, 7, False)), Job("", 0, 1, read, (cache, 7)), Job("", 0, 1, read, (cache, 7))]
    _, *found = workers.run(jobs)
    assert found == [[b"line %d\n" % number for number in range(COUNT)]] * 2


def test_a_reader_ends_when_its_writer_fails_and_the_writers_error_is_told(tmp_path: Path, workers: Workers) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ValueError, match="no more"):
        workers.run([Job("", 0, 1, write, (cache, 7, True)), Job("", 0, 1, read, (cache, 7))])
    assert not list(tmp_path.iterdir())
    assert workers.run([Job("", 0, 1, abs, ())]) == [0]  # nobody waits any more


# Processes of the laboratory.

PROGRAM = """
import os, time
from seawall.ops.lab.backtest import Job, Workers

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
