"""The example subscriber: what its orders may do, and that a kill at any moment leaves each effect exactly once."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

from seawall.connectors.subscriber import sqlite_subscriber
from seawall.ops.demo.order_gateway import OrderGateway, obey, read_keys
from seawall.schemas.evidence._documents import HEARTBEAT
from seawall_testing import signing
from seawall_testing.signing import ISSUER, MAKER, NOW_US, POLICY, ROOTS, command, heartbeat, people, record

KILLS = int(os.environ.get("SEAWALL_KILLS", "12"))
KINDS = ("CANCEL_ORDERS", "REDUCE_ONLY", "REROUTE", "REDUCE_POSITION", "HALT_TRADING")


def dumped(document: dict, *signers: signing.Holder) -> str:
    value, headers = record(document, *signers)
    return json.dumps(
        {"partition": 0, "offset": 0, "key": "k", "headers": {"dsse": headers[0][1].decode()}, "value": value.decode()}
    )


@pytest.fixture
def gateway() -> OrderGateway:
    return OrderGateway(sqlite3.connect(":memory:", isolation_level=None))


def give(gateway: OrderGateway, *lines: str) -> list[str]:
    subscriber = sqlite_subscriber(gateway._db, POLICY, signing.keys(), gateway)
    return [item["outcome"] for item in obey(subscriber, lines, "oms", at_event=True)]


def test_a_halt_cancels_and_refuses_until_people_reinstate(gateway):
    desk = "desk:eq-eu"
    assert gateway.place_order(desk, "xetra", reduces=False) == "working"
    assert give(gateway, dumped(command("REDUCE_ONLY", 1))) == ["completed"]
    assert gateway.place_order(desk, "xetra", reduces=False) == "refused: reduce only"
    assert gateway.place_order(desk, "xetra", reduces=True) == "working"
    assert give(gateway, dumped(command("HALT_TRADING", 2))) == ["completed"]
    assert gateway.place_order(desk, "xetra", reduces=True) == "refused: halted"
    assert gateway.place_order("desk:us", "xetra", reduces=False) == "working"
    assert give(gateway, dumped(command("REDUCE_ONLY", 3))) == ["completed"]
    assert gateway.place_order(desk, "xetra", reduces=True) == "refused: halted"
    assert give(gateway, dumped(command("REINSTATE", 4), MAKER)) == ["rejected"]
    assert give(gateway, dumped(command("REINSTATE", 4), *people())) == ["completed"]
    assert gateway.place_order(desk, "xetra", reduces=False) == "working"
    statuses = gateway._db.execute("SELECT status FROM gateway_order WHERE target = ?", (desk,)).fetchall()
    assert statuses == [("cancelled",), ("cancelled",), ("working",)]


def test_a_rerouted_desk_trades_elsewhere(gateway):
    give(gateway, dumped(command("REROUTE", 1, action={"venue": "lse"})))
    gateway.place_order("desk:eq-eu", "xetra", reduces=False)
    assert gateway._db.execute("SELECT venue FROM gateway_order").fetchall() == [("lse",)]


def test_silence_makes_everything_reduce_only(gateway):
    subscriber = sqlite_subscriber(gateway._db, POLICY, signing.keys(), gateway)
    subscriber.watch(NOW_US)
    assert gateway.place_order("desk:any", "xetra", reduces=False) == "refused: reduce only"


def test_a_safe_state_ends_whichever_of_its_reasons_ends_last(gateway):
    subscriber = sqlite_subscriber(gateway._db, POLICY, signing.keys(), gateway)
    subscriber.watch(NOW_US)  # silence
    for changes in ({}, {"id": "another"}):  # and a contradiction
        subscriber.receive(*record(command("CANCEL_ORDERS", 1, **changes), ISSUER), NOW_US)
    subscriber.receive(*record(heartbeat(1), payload_type=HEARTBEAT), NOW_US)
    assert gateway.place_order("desk:any", "xetra", reduces=False) == "refused: reduce only"
    subscriber.clear()
    assert not subscriber.watch(NOW_US)
    assert gateway.place_order("desk:any", "xetra", reduces=False) == "working"


def test_a_forged_line_is_reported_and_not_obeyed(gateway, capsys):
    assert give(gateway, dumped(command(), ISSUER).replace("eq-eu", "eq-us")) == []
    assert "BAD_SIGNATURE" in capsys.readouterr().err


@pytest.mark.parametrize("at_event", [True, False])
@pytest.mark.parametrize("line", [
    '{"value_base64": "/w==", "headers": {}}',
    '{"value": "no JSON", "headers": {}}',
    '{"value": "[]", "headers": {}}',
    '{"value": "{\\"iat_us\\": \\"soon\\"}", "headers": {}}',
    '{"value": "{}", "headers": {"dsse": "\\udcff"}}',
    '{"value": "' + "[" * 100_000 + '", "headers": {}}',
])  # fmt: skip
def test_what_is_no_document_holds_up_no_command_after_it(gateway, line, at_event, capsys):
    subscriber = sqlite_subscriber(gateway._db, POLICY, signing.keys(), gateway)
    assert list(obey(subscriber, [line], "oms", at_event)) == []
    assert "not a command for us" in capsys.readouterr().err
    assert give(gateway, dumped(command("HALT_TRADING", 1))) == ["completed"]


def test_a_key_set_put_beside_the_first_resets_the_issuer_at_the_next_start(tmp_path: Path):
    first = signing.encode(signing.keyset_document())
    pin = signing.keys().sha256
    second = signing.encode(signing.keyset_document(version=2, prev_sha256=pin, reset_seq={"risk/prod": 1}))
    thief, halt = dumped(command("CANCEL_ORDERS", 9, epoch=900_000)), dumped(command())
    for version, value, line, outcome in ((1, first, thief, "completed"), (1, first, halt, "rejected"),
                                          (2, second, halt, "completed")):  # fmt: skip
        (tmp_path / f"000{version}.json").write_bytes(signing.envelope(value, ROOTS))
        connection = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        keys = read_keys(Namespace(keyset=tmp_path, pin=pin))
        subscriber = sqlite_subscriber(connection, POLICY, keys, OrderGateway(connection))
        assert [item["outcome"] for item in obey(subscriber, [line], "oms", at_event=True)] == [outcome]
        connection.close()


def test_killed_at_any_moment_each_command_takes_effect_exactly_once(tmp_path: Path):
    """The stream is delivered from its start after every kill, as a consumer without offsets would."""
    commands = [command(KINDS[seq % 5], seq, target=f"desk:{desk}") for seq in range(1, 61) for desk in "abcd"]
    stream = tmp_path / "commands.jsonl"
    stream.write_text("".join(dumped(document) + "\n" for document in commands))
    value = signing.encode(signing.keyset_document())
    (tmp_path / "keyset.json").write_bytes(signing.envelope(value, ROOTS))
    arguments = [
        sys.executable, "-m", "seawall.ops.demo.order_gateway", "--keyset", str(tmp_path / "keyset.json"),
        "--pin", signing.keys().sha256, "--issuer", "risk/prod", "--environment", "prod",
        "--database", str(tmp_path / "gateway.db"), "--at", "event",
    ]  # fmt: skip
    dice = random.Random(6)
    for _ in range(KILLS):
        acknowledged = run_and_kill(arguments, stream, dice.randrange(1, 2 * len(commands)))
        done = effects(tmp_path)
        assert set(done.values()) <= {1}
        assert acknowledged <= set(done)
    with stream.open() as lines:
        assert subprocess.run(arguments, stdin=lines, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert effects(tmp_path) == Counter(document["id"] for document in commands)


def run_and_kill(arguments: list[str], stream: Path, lines: int) -> set[str]:
    """Kill -9 after some acknowledgements; return the commands that were acknowledged."""
    acknowledged = set()
    with stream.open() as source:
        process = subprocess.Popen(arguments, stdin=source, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        acknowledged.add(json.loads(line)["command_id"])
        lines -= 1
        if lines <= 0:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return acknowledged


def effects(folder: Path) -> Counter[str]:
    connection = sqlite3.connect(folder / "gateway.db")
    found = Counter(row[0] for row in connection.execute("SELECT command_id FROM gateway_effect"))
    connection.close()
    return found
