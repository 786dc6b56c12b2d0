"""On a real cluster: somebody else's topics, mapped without code, and what was rejected sent in again while it runs."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from seawall.connectors.bus import Bus, cluster_of, open_bus
from seawall.schemas.configuration import load_configuration
from seawall_testing.clusters.kafka_broker import Broker
from seawall_testing.command_line import CLI, run_command
from seawall_testing.desk import account, instrument, lines, slices, write_desk

pytestmark = pytest.mark.kafka
WAIT_S = 60.0
MAPPING = """
[[skip]]
when = { kind = "HEARTBEAT" }

[[record]]
type = "fill"
when = { kind = "EXEC" }
[record.fields]
event_time_us = { from = "ts", time = "ms" }
fill_id = { from = "id", prefix = "oms:" }
account = { from = "account", case = "lower" }
instrument = { from = "sym", values = { ETHPERP = "ETH-PERP" } }
side = { from = "qty", sign = { positive = "buy", negative = "sell" } }
quantity = { from = "qty", absolute = true }
price = "px"
"""


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"not yet: {what}"
        time.sleep(0.1)


def fills(bus: Bus) -> set[str]:
    return {name for shard in range(2) for piece in slices(bus, shard) if piece.fills for name in piece.fills.id}


def execution(number: int, **fields: Any) -> bytes:
    body = {"kind": "EXEC", "ts": time.time_ns() // 1_000_000, "id": number, "account": "A", "sym": "ETHPERP"}
    return json.dumps({**body, "qty": 1 - 2 * (number % 2), "px": 1634.25, **fields}).encode()


def test_foreign_topics_are_followed_and_rejects_go_in_again_while_the_run_is_alive(
    broker: Broker, tmp_path: Path
) -> None:
    url = broker.url("feeds")
    oms, own = f"oms-{url.rpartition('/')[2]}", f"own-{url.rpartition('/')[2]}"
    path = write_desk(tmp_path, {"reference.jsonl": lines(instrument(), account("a"))}, bus=url, shards=2)
    (tmp_path / "oms.toml").write_text(MAPPING)
    path.write_text(path.read_text() + f'topics = ["{oms}", "{own}"]\nmappings = {{ "{oms}" = "oms.toml" }}\n')
    bus = open_bus(url, tmp_path)
    cluster_of(bus).provide({oms: 2, own: 1}, make=True)
    producer = Producer({"bootstrap.servers": broker.address})
    for number in range(20):
        producer.produce(oms, execution(number), f"key-{number}", partition=number % 2)
    producer.produce(oms, b'{"kind":"HEARTBEAT"}', partition=0)
    producer.produce(oms, execution(98, account="late"), partition=0)
    producer.produce(oms, b"\xffjunk", partition=1)
    producer.flush()
    with subprocess.Popen([*CLI, "run", str(path)], process_group=0) as run:
        until("20 fills", lambda: len(fills(bus)) == 20)
        until("2 rejects", lambda: bus.end("rejects", 2) == 2)
        told = {
            one["reason"]: one for one in json.loads(run_command("rejects", "list", path, "--json").stdout)["rejects"]
        }
        assert told["ACCOUNT_MUST_BE_KNOWN"]["source"]["topic"] == oms
        shown = run_command("rejects", "show", path, told["JSON_MUST_BE_VALID"]["place"], "--raw")
        assert shown.raw == b"\xffjunk"
        for record in lines(account("late")).splitlines():
            producer.produce(own, record)
        producer.flush()
        end = bus.end("journal", 0)
        until("the account is journaled", lambda: bus.end("journal", 0) > end + 1)
        place = told["ACCOUNT_MUST_BE_KNOWN"]["place"]
        for sent in (1, 0):
            done = run_command("rejects", "redrive", path, place, "--why", "the account was missing", "--json")
            assert done.returncode == 0 and json.loads(done.stdout)["sent"] == sent, done.stderr
        until("the redriven fill", lambda: "oms:98" in fills(bus))
        run.send_signal(signal.SIGTERM)
        assert run.wait(WAIT_S) == 0
    assert len(fills(bus)) == 21 and bus.end("redrive", 0) == 1
    for name in ("verify", "replay"):
        done = run_command(name, path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_role_of_its_own_may_redrive_and_no_other_writes_there(broker: Broker, tmp_path: Path) -> None:
    path = write_desk(tmp_path, {"reference.jsonl": lines(instrument())}, bus=broker.url("acl"), shards=2)
    listed = json.loads(run_command("topics", "acl", path, "--json").stdout)
    topic = open_bus(load_configuration(path).bus, tmp_path).address.topic("redrive")  # type: ignore[attr-defined]
    may = {(one["role"], one["operation"]) for one in listed if one["name"] == topic and one["resource"] == "topic"}
    assert {role for role, operation in may if operation == "Write"} == {"redrive"}
    assert ("sequence", "Read") in may and ("redrive", "Read") in may
