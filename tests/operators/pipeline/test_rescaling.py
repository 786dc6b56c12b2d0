"""A run goes on with other numbers of workers and processes, from its states, and no byte tells how many there were."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.ops.ports import free_ports
from seawall_testing import crisis
from seawall_testing.command_line import bus_contents, differences, run_command
from seawall_testing.desk import T0, fill, lines

WAYS = [["--workers", "2"], ["--processes", "2"], []]


def test_every_other_number_of_workers_and_processes_goes_on_from_the_same_states(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "rescaled", 2, per_second=20, shards=4)
    assert run_command("run", path).returncode == 0
    shutil.copytree(path.parent, tmp_path / "alone")
    alone = tmp_path / "alone" / "desk.toml"
    for number, way in enumerate(WAYS):
        for one, options in ((path, way), (alone, [])):
            with (one.parent / "book.jsonl").open("ab") as file:
                start = T0 + (9 + number) * 1_000_000
                file.write(lines(*(fill(start + at * 1000, f"m{number}-{at}", "abcd"[at % 3]) for at in range(30))))
            done = run_command("run", one, *options)
            assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent), bus_contents(alone.parent)) == []
    assert not list(path.parent.glob("recovery.unsound*"))
    assert run_command("verify", path).returncode == 0


def test_a_worker_whose_parent_was_killed_ends_even_while_it_waits_for_a_peer_that_never_comes(tmp_path: Path) -> None:
    path = crisis.write_crisis(tmp_path / "orphan", 1, per_second=5)
    assert run_command("run", path).returncode == 0
    peers = ";".join(f"127.0.0.1:{port}" for port in free_ports(2))
    worker = subprocess.Popen(
        [sys.executable, "-m", "seawall.ops.run.worker", str(path), "0", peers, "1", "--told"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert worker.stdin is not None
    worker.stdin.close()
    try:
        assert worker.wait(60) == 1
    finally:
        worker.kill()


@pytest.mark.parametrize(("ending", "code"), [("return 75", 75), ("raise ValueError('why')", 1)])
def test_a_worker_ends_with_its_exit_code_and_what_it_said_while_threads_of_the_engine_live(
    ending: str, code: int
) -> None:
    """The interpreter is not taken down: a thread of the engine that asked for it then would be a fault of memory."""
    text = f"""
import atexit
from seawall.ops.run.worker import run_and_exit
atexit.register(lambda: print("taken down"))
def work():
    print("said", end="")
    {ending}
run_and_exit(work)
"""
    ended = subprocess.run([sys.executable, "-c", text], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "said")
    assert ("ValueError: why" in ended.stderr) == (code == 1)
