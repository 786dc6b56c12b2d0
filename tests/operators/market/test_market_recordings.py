"""Raw messages that venues really sent, through ``convert`` and ``run``, to signals, the journal and ``verify``."""

import json
from pathlib import Path

import pytest

from seawall_testing.command_line import bus_contents, seawall
from seawall_testing.desk import account, lines
from seawall_testing.paths import SHARED
from seawall_testing.pipeline import write_configuration

FOLDER = SHARED / "data" / "raw_venue_messages_2021"
RECORDINGS = [("binance", "BINANCE_FUTURES.ws.1.0.gz"), ("bybit", "BYBIT.ws.25.0.gz")]


@pytest.mark.skipif(not FOLDER.exists(), reason="the recordings of 2021 are not beside the project")
@pytest.mark.parametrize(("venue", "name"), RECORDINGS, ids=lambda value: value.partition(".")[0])
def test_a_recording_becomes_signals_that_the_journal_takes_and_verify_holds(
    tmp_path: Path, venue: str, name: str
) -> None:
    done = seawall("convert", venue, FOLDER / name, "--describe")
    assert done.returncode == 0, done.stderr
    files = {"reference.jsonl": lines(*account("holder")), "events.jsonl": done.stdout.encode()}
    path = write_configuration(tmp_path / "run", files, shards=2)
    ran = seawall("run", path)
    assert ran.returncode == 0, ran.stderr
    found = bus_contents(path.parent)
    signals = [json.loads(v) for (topic, _), rows in found.items() if topic == "signals" for *_, v in rows]
    raw = [json.loads(line) for line in done.stdout.splitlines()]
    quoted = {record["instrument"] for record in raw if record["type"] in ("quote", "trade", "depth")}
    assert {row["instrument"] for signal in signals for row in signal.get("instruments", [])} == quoted
    taken = [entry for (topic, _), rows in found.items() if topic == "journal" for *_, v in rows
             for entry in json.loads(v).get("taken", [])]  # fmt: skip
    assert len({tuple(entry[:3]) for entry in taken}) == len(signals)
    assert seawall("verify", path.parent).returncode == 0
