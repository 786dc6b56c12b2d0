"""``python -m seawall.ops.kafka start|stop DIR``: a real cluster on this machine, for trying things out.

``start`` prints the addresses of its listeners as JSON and leaves the brokers running; ``stop`` ends them. ``fetch``
only fills the cache.
"""

import argparse
import json
import sys
from pathlib import Path

from seawall.ops.kafka.cluster import Cluster, end, jars
from seawall.schemas.errors import SeawallError

STATE = "cluster.json"
USERS = {"risk": "risk-secret"}  # of a cluster that listens on this machine only


def main() -> int:
    """Start or stop a cluster; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m seawall.ops.kafka", description=__doc__)
    parser.add_argument("what", choices=("fetch", "start", "stop"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("kafka"), help="data, certificates and logs")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    arguments = parser.parse_args()
    try:
        return {"fetch": _fetch, "start": _start, "stop": _stop}[arguments.what](arguments)
    except SeawallError as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 2


def _fetch(_: argparse.Namespace) -> int:
    print(jars())
    return 0


def _start(arguments: argparse.Namespace) -> int:
    cluster = Cluster(arguments.folder, arguments.brokers, clients=("risk",), users=USERS)
    cluster.start()
    listeners = {name.lower(): cluster.address(name) for name in ("PLAIN", "TLS", "SASL")}
    state = {**listeners, "certificates": str(cluster.folder / "tls"), "users": USERS, "pids": cluster.pids()}
    (arguments.folder / STATE).write_text(json.dumps(state))
    print(json.dumps(state, indent=2))
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    state = arguments.folder / STATE
    if not state.exists():
        print(f"kafka: {state} does not exist: nothing was started there", file=sys.stderr)
        return 2
    end(list(json.loads(state.read_text())["pids"].values()))
    state.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
