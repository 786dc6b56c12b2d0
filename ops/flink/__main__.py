"""``python -m seawall.ops.flink start|submit|wait|savepoint|stop|fetch``: Flink on this machine, from the wheel.

``start FOLDER`` leaves one JobManager and two TaskManagers running and prints where they answer. ``submit`` hands them
a dataflow of a configuration; ``savepoint`` stops a job so that another one goes on from there, or with ``--drain``
Bytewax does; ``stop`` ends the cluster. ``fetch`` only makes Flink's environment.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from seawall.ops.flink.artifacts import environment
from seawall.ops.flink.cluster import FlinkCluster
from seawall.schemas.errors import SeawallError

STATE = "cluster.json"


def main() -> int:
    """Do what the first argument says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m seawall.ops.flink", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("fetch")
    starting = what.add_parser("start")
    starting.add_argument("folder", type=Path)
    starting.add_argument("--task-managers", type=int, default=2)
    starting.add_argument("--slots", type=int, default=2)
    what.add_parser("stop").add_argument("folder", type=Path)
    submitting = what.add_parser("submit")
    submitting.add_argument("folder", type=Path)
    submitting.add_argument("dataflow", choices=("risk", "seal"))
    submitting.add_argument("configuration", type=Path)
    submitting.add_argument("--parallelism", type=int, default=1)
    submitting.add_argument("--bounded", action="store_true", help="end at the end of what stands now")
    submitting.add_argument("--restore", default="", help="a savepoint or a checkpoint to begin with")
    for name in ("wait", "savepoint"):
        one = what.add_parser(name)
        one.add_argument("folder", type=Path)
        one.add_argument("job")
        if name == "savepoint":
            one.add_argument("--drain", action="store_true", help="publish the states for Bytewax to go on from")
    arguments = parser.parse_args()
    try:
        return _do(arguments)
    except SeawallError as error:
        print(f"flink: {error}", file=sys.stderr)
        return error.exit_code


def _do(arguments: argparse.Namespace) -> int:
    if arguments.what == "stop":
        return _stop(arguments.folder)
    home = environment()
    if arguments.what == "fetch":
        print(home.folder)
        return 0
    if arguments.what == "start":
        cluster = FlinkCluster(home, arguments.folder, arguments.task_managers, arguments.slots)
        cluster.start()
        state = {"rest": cluster.rest.url, "logs": str(cluster.folder / "log"), "pids": cluster.pids()}
        (arguments.folder / STATE).write_text(json.dumps(state))
        print(json.dumps(state, indent=2))
        return 0
    cluster = FlinkCluster(home, arguments.folder)
    if arguments.what == "submit":
        options = ["--parallelism", str(arguments.parallelism), *(["--bounded"] if arguments.bounded else [])]
        print(cluster.submit(arguments.dataflow, arguments.configuration, *options, restore=arguments.restore))
    elif arguments.what == "wait":
        cluster.rest.wait(arguments.job, float("inf"))
    else:
        print(cluster.rest.stop(arguments.job, drain=arguments.drain))
    return 0


def _stop(folder: Path) -> int:
    state = folder / STATE
    if not state.exists():
        print(f"flink: {state} does not exist: nothing was started there", file=sys.stderr)
        return 2
    for pid in json.loads(state.read_text())["pids"].values():
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    state.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
