"""Live runs in processes of their own, asked at their endpoint as Prometheus and an orchestrator do."""

import json
import math
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from seawall.connectors.bus import open_bus
from seawall.schemas.configuration import load_configuration
from seawall_testing.desk import Json, account, instrument, lines
from seawall_testing.ran import write_configuration
from seawall_testing.runs import CLI

WAIT_S = 60.0
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


def asked(path: Path, what: str) -> tuple[int, str]:
    """Ask the endpoint; 0 where nobody answers."""
    listen = load_configuration(path).health.listen
    try:
        with urllib.request.urlopen(f"http://{listen}/{what}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def until(path: Path, what: str, holds: Callable[[int, str], bool]) -> str:
    """Ask until an answer is as it should be; return it."""
    deadline = time.monotonic() + WAIT_S
    while True:
        code, text = asked(path, what)
        if holds(code, text):
            return text
        assert time.monotonic() < deadline, f"{what} still answers {code} {text}"
        time.sleep(0.1)


@contextmanager
def starting() -> Iterator[Start]:
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


def value_of(text: str, name: str, **labels: str) -> float:
    """Return a metric, not a number where it is not there (yet, or because nobody answered)."""
    found = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
    return float(next(found, math.nan))
