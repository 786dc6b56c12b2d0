"""Live runs in processes of their own: asked at their endpoint, fed by topics of the embedded bus."""

import base64
import hashlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.schemas.configuration import load_configuration
from seawall.schemas.records import Slice, decode_slice
from seawall_testing.clusters import kafka_broker
from seawall_testing.command_line import CLI, CommandResult, run_command, seawall, wait_for
from seawall_testing.desk import Json, account, instrument, lines
from seawall_testing.pipeline import write_configuration

# Live runs in processes of their own, asked at their endpoint as Prometheus and an orchestrator do.

WAIT_S = 120.0
Start = Callable[..., "subprocess.Popen[bytes]"]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def write_live(
    folder: Path, topics: tuple[str, ...] = ("fills",), rules: tuple[list[Json], list[Json]] = ([], []), **health: Any
) -> Path:
    """Write a live desk whose run answers on a free port; ``rules`` are its limits and its playbook."""
    first = {"reference.jsonl": lines(instrument(), account("a"))}
    path = write_configuration(folder, first, *rules, shards=2)
    terms = {"listen": f"127.0.0.1:{free_port()}", "check_s": 0.2, "stuck_s": 3, "window_s": 5, **health}
    table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in terms.items())
    text = path.read_text().replace("[limits]", f"topics = {json.dumps(topics)}\n[limits]")
    path.write_text(f"{text}[health]\n{table}")
    return path


def ask_endpoint(path: Path, what: str) -> tuple[int, str]:
    """Ask the endpoint; 0 where nobody answers."""
    listen = load_configuration(path).health.listen
    try:
        with urllib.request.urlopen(f"http://{listen}/{what}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait_for_endpoint(path: Path, what: str, holds: Callable[[int, str], bool]) -> str:
    """Ask until an answer is as it should be; return it."""
    deadline = time.monotonic() + WAIT_S
    while True:
        code, text = ask_endpoint(path, what)
        if holds(code, text):
            return text
        assert time.monotonic() < deadline, f"{what} still answers {code} {text}"
        time.sleep(0.1)


@contextmanager
def starting_runs() -> Iterator[Start]:
    """Yield what starts runs, which are over when the block ends."""
    running: list[subprocess.Popen[bytes]] = []

    def start(path: Path, *options: str) -> "subprocess.Popen[bytes]":
        arguments = [*CLI, "run", str(path), *options]
        running.append(subprocess.Popen(arguments, stderr=subprocess.DEVNULL, process_group=0))
        return running[-1]

    try:
        yield start
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def send(folder: Path, topic: str, *records: Json | bytes) -> None:
    """Append records to a live topic of the embedded bus."""
    bus = open_bus("sqlite:seawall.db", folder)
    writer = bus.writer([(topic, 0)])
    for line in lines(*records).splitlines():
        writer.append(topic, 0, "", line, {})
    writer.flush()
    writer.close()
    bus.close()


def metric_value(text: str, name: str, **labels: str) -> float:
    """Return a metric, not a number where it is not there (yet, or because nobody answered)."""
    found = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
    return float(next(found, math.nan))


# A desk in a folder whose fills and prices arrive on topics of the embedded bus, whatever becomes of its run.

URL = "sqlite:seawall.db"
DESK_WAIT_S = 120.0
LIVE_LIMITS = [
    {"id": "gross", "scope": "account:*", "measure": "gross_notional", "warning": 40, "soft": 60, "hard": 5000}
]


class EmbeddedFeed(kafka_broker.Feed):
    """The feed of `kafka_live`, on topics of the embedded bus."""

    def __init__(self, bus: Bus, topics: tuple[str, str], per_second: int) -> None:
        threading.Thread.__init__(self, name="feed")
        self._fills, self._prices = topics
        self._per_second, self._rng = per_second, random.Random(1)
        self._writer = bus.writer([(topic, part) for topic in topics for part in range(kafka_broker.PARTITIONS)])
        self._done = threading.Event()
        self.sent, self.bad, self.failed = [], 0, []

    def run(self) -> None:
        number = 0
        while not self._done.wait(0.05):
            for _ in range(max(1, self._per_second // 20)):
                number += 1
                self._send(number)
            self._writer.flush()
        self._writer.close()

    def _produce(self, topic: str, value: bytes, partition: int) -> None:
        self._writer.append(topic, partition, "", value, {})


class LiveDesk:
    """``desk/desk.toml`` below ``root``, fed from the beginning of the block to its end.

    Attributes
    ----------
    env
        What its pages take as given: ``ADDRESS``, where a run of it answers, and ``ADDRESS_B`` for a second one.
    """

    topics = ("fills", "prices")

    def __init__(self, root: Path, per_second: int = 20) -> None:
        self.root, self.folder = root, root / "desk"
        reference = lines(instrument(), *(account(name) for name in kafka_broker.ACCOUNTS))
        inputs = {"reference.jsonl": reference}
        self.path = write_configuration(self.folder, inputs, LIVE_LIMITS, kafka_broker.RULES, shards=2)
        listen = f"127.0.0.1:{free_port()}"
        text = self.path.read_text().replace("[inputs]\n", f"[inputs]\ntopics = {json.dumps(self.topics)}\n")
        self.path.write_text(f'bus = "{URL}"\n{text}[health]\nlisten = "{listen}"\ncheck_s = 0.2\n')
        self.env = {"ADDRESS": listen, "ADDRESS_B": f"127.0.0.1:{free_port()}"}
        self._bus = open_bus(URL, self.folder)
        self.feed = EmbeddedFeed(self._bus, self.topics, per_second)

    def __enter__(self) -> "LiveDesk":
        assert seawall("keys", "new", self.folder / "keys/dev.pem").returncode == 0
        self.feed.start()
        return self

    def slices(self) -> list[Slice]:
        """Return the slices of shard 0."""
        return [decode_slice(stored.value) for stored in read_all(self._bus, "journal", 0)]

    def vouch(self) -> None:
        """Let a key set say who signs: owners ada and bob, the key ``signer``, and ``audit`` for the seal."""
        for name in ("ada", "bob", "signer", "audit"):
            check_succeeded(run_command("keys", "new", self.root / name / f"{name}.pem"))
        roles = {"ada": "root", "bob": "root", "signer": "issuer", "audit": "sealer"}
        added = [f"{name}:{role}:{self.root / name / 'public.jwks.json'}" for name, role in roles.items()]
        sets = self.root / "sets"
        check_succeeded(
            run_command("keys", "propose", sets, "--environment", "dev", *(p for one in added for p in ("--add", one)))
        )
        for name in ("ada", "bob"):
            check_succeeded(
                run_command("keys", "sign", sets, "--signer", f"file:{self.root / name / name}.pem", "--yes")
            )
        check_succeeded(run_command("keys", "rotate", sets))
        payload = json.loads(next(sets.glob("*.json")).read_bytes())["payload"]
        pinned = hashlib.sha256(base64.b64decode(payload)).hexdigest()
        table = 'signer = "file:../signer/signer.pem"\nsealer = "file:../audit/audit.pem"\nset = "../sets"\n'
        self.path.write_text(f'{self.path.read_text()}[keys]\n{table}set_sha256 = "{pinned}"\n')

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.feed.finish()
        self._bus.close()

    def check_nothing_lost(self, *more: str) -> None:
        """Let a run take what is left; every fill is journaled once, ``more`` too, and the run verifies and replays."""
        self.feed.finish()
        sent = {*self.feed.sent, *more}
        path = self.path
        run = subprocess.Popen([*CLI, "run", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_for(lambda: kafka_broker.journaled_fills(URL, self.folder).total() >= len(sent), DESK_WAIT_S)
            run.send_signal(signal.SIGTERM)
            _, said = run.communicate(timeout=DESK_WAIT_S)
        finally:
            run.kill()
            run.wait()
        assert run.returncode == 0, said.decode()
        assert self.journaled(self.folder) == sent
        check_verifies(path)

    def journaled(self, folder: Path) -> set[str]:
        """Return the fills of a journal, each of which stands there once."""
        found = kafka_broker.journaled_fills(URL, folder)
        assert found and set(found.values()) == {1}
        return set(found)


def check_succeeded(ended: CommandResult) -> None:
    """Hold that a command did what it was to do."""
    assert ended.returncode == 0, ended.stderr


def check_verifies(where: Path) -> None:
    """Verify and replay a run."""
    for name in ("verify", "replay"):
        ended = seawall(name, where)
        assert ended.returncode == 0, f"{name}: {ended.stdout}{ended.stderr}"
