"""The conformance cases of records and key sets: our subscriber says of each what it expects."""

import base64
import importlib.util
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.subscriber import Subscriber, sqlite_subscriber
from seawall.schemas.evidence import AcceptancePolicy, KeySet
from seawall.schemas.evidence._key_sets import RotationError
from seawall_testing.paths import CONFORMANCE
from seawall_testing.signing import RecordingEffects

NAMES = sorted(path.parent.name for path in CONFORMANCE.glob("*/expect.json"))


def headers(folder: Path) -> list[tuple[str, bytes]]:
    return [("dsse", path.read_bytes()) for path in sorted(folder.glob("dsse*.json"), reverse=True)]


@pytest.mark.parametrize("name", NAMES)
def test_a_case_has_the_outcome_that_it_expects(name: str) -> None:
    folder = CONFORMANCE / name
    expect = json.loads((folder / "expect.json").read_text())
    assert name.endswith("_fail") == (expect["outcome"] == "refused")
    policy = AcceptancePolicy(**{k: tuple(v) if isinstance(v, list) else v for k, v in expect["policy"].items()})
    desk, connection = RecordingEffects(), sqlite3.connect(":memory:", isolation_level=None)
    subscriber = sqlite_subscriber(connection, policy, KeySet.parse((folder / "keyset.json").read_bytes()), desk)
    value = (folder / "value.json").read_bytes()
    if expect["document"] == "keyset":
        check_rotation(subscriber, value, headers(folder)[0][1], expect)
        return
    before = folder / "before.json"
    for earlier in json.loads(before.read_text()) if before.exists() else ():
        record = base64.b64decode(earlier["value"]), [("dsse", text.encode()) for text in earlier["dsse"]]
        assert subscriber.receive(*record, earlier.get("now_us", expect["now_us"]))[0].outcome == "applied"
    done = list(desk.done)
    receipt = subscriber.receive(value, headers(folder), expect["now_us"])[0]
    assert (receipt.outcome, receipt.reason) == (expect["outcome"], expect["reason"]), receipt.detail
    if receipt.outcome != "applied":
        assert desk.done == done


def check_rotation(subscriber: Subscriber[Any], value: bytes, header: bytes, expect: dict[str, Any]) -> None:
    envelope = json.dumps({"payload": base64.b64encode(value).decode(), **json.loads(header)}).encode()
    if expect["outcome"] == "refused":
        with pytest.raises(RotationError):
            subscriber.rotate(envelope)
    else:
        subscriber.rotate(envelope)
        assert subscriber.keys.version == 2


def test_the_generator_writes_exactly_the_committed_folders(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("conformance_generate", CONFORMANCE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = generate
    spec.loader.exec_module(generate)
    generate.main(tmp_path)
    assert files(tmp_path) == files(CONFORMANCE)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.json")}
