"""The lives of models through real kills: what a restart continues is what an uninterrupted run would have been."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from seawall.connectors.bus import open_bus
from seawall.dataflows import _market_inputs
from seawall.dataflows._market_inputs import Skipped, read_event
from seawall_testing.command_line import CLI, bus_contents, differences, seawall
from seawall_testing.desk import SECOND, T0, Json, instrument, lines, mark
from seawall_testing.market_data import quote, trade
from seawall_testing.pipeline import write_configuration

MEMBERS = [f"P{number}" for number in range(17)]
SECONDS = 340
LATE = "LATE"  # an instrument that begins when its class has something to lend


def quotes() -> list[Json]:
    chance = random.Random(4)
    levels = dict.fromkeys([*MEMBERS, LATE], 100.0)
    found = []
    for second in range(SECONDS):
        for at, name in enumerate(levels):
            levels[name] *= 1.0 + chance.gauss(0.0, 0.0005)
            if name != LATE or second > SECONDS - 40:
                found.append(quote(T0 + second * SECOND + at, levels[name], name=name, half_bp=chance.uniform(1, 2)))
    return found


def write_run(folder: Path) -> Path:
    reference = [instrument(name, base=name) for name in (*MEMBERS, LATE)]
    files = {"reference.jsonl": lines(*reference), "events.jsonl": lines(*quotes())}
    path = write_configuration(folder, files, shards=2)
    path.write_text(path.read_text() + "[market]\ngroups = 1\n")
    return path


def killed_at(path: Path, signals: int) -> bool:
    """Run ``market`` until so many signals stand, and kill it; whether it was still alive."""
    command = [*CLI, "run", str(path), "--only", "market"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        while process.poll() is None and stands(path.parent) < signals:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


def stands(folder: Path) -> int:
    if not (folder / "seawall.db").exists():
        return 0
    bus = open_bus("sqlite:seawall.db", folder)
    try:
        return bus.end("signals", 0)
    finally:
        bus.close()


def test_kills_leave_the_lives_of_models_byte_for_byte(tmp_path: Path) -> None:
    path = write_run(tmp_path / "whole")
    assert seawall("run", path, "--only", "market").returncode == 0
    whole = bus_contents(path.parent)
    told = [model for *_, value in whole["signals", 0] for model in json.loads(value).get("models", [])]
    assert {(model["instrument"], model["event"]) for model in told} == {(LATE, "started_from_class")}
    shutil.copytree(path.parent, tmp_path / "killed", ignore=shutil.ignore_patterns("seawall.db*", "recovery*"))
    twin = tmp_path / "killed" / path.name
    assert sum(killed_at(twin, signals) for signals in (50, 170, 315)) >= 1
    done = seawall("run", twin, "--only", "market")
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(twin.parent), whole) == []


def test_records_with_numbers_that_cannot_be_are_passed_over_and_counted() -> None:
    skipped = Skipped()
    good = trade(T0, 100.0)
    bad = [{**good, "price": price} for price in ("NaN", "Infinity", "-1", "0", float("nan"), float("inf"), 1e400)]
    bad += [quote(T0, 100.0) | {"bid": "0"}, quote(T0, 100.0) | {"ask_size": "-3"}]
    assert [read_event(json.dumps(record).encode(), T0, skipped) for record in bad] == [None] * len(bad)
    assert skipped.count == len(bad)
    assert read_event(json.dumps(good).encode(), T0, skipped).price == "100.000000"
    assert read_event(json.dumps(mark(T0)).encode(), T0, skipped) is None  # nobody's venue: not the market's
    assert skipped.count == len(bad)


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    f'"type":"{kind}"'
                    for kind in ("mark", "fill", "trade", "notice", "instrument", "limit", "Quote", "")
                ),
                '"type" : "quote"',
                '"document":{"type":"quote"}',
                '"document":{"type":"fill"}',
                '"venue":"v"',
                '"account":"type"',
                '"price":1',
                '"typ\\u0065":"trade"',
            ]
        ),
        max_size=4,
    ),
    st.sampled_from([",", " , ", ",\n"]),
)
def test_nothing_is_passed_over_by_its_first_type_that_would_be_read(parts: list[str], between: str) -> None:
    line = ("{" + between.join(parts) + "}").encode()
    if _market_inputs._is_other(line):
        assert not _market_inputs._readable(line)


def test_records_that_are_none_of_the_markets_are_known_by_their_type() -> None:
    others = [f'{{"type":"{kind}","event_time_us":1}}'.encode() for kind in ("fill", "collateral", "mark", "account")]
    assert all(map(_market_inputs._is_other, others))
