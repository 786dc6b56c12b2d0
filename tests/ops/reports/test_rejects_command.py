"""Dead letters, end to end: what was rejected is listed, shown and sent in again, once, and all of it is evidence."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from seawall.connectors.bus import open_bus
from seawall.schemas import generate
from seawall_testing.command_line import bus_contents, differences, run_command
from seawall_testing.desk import T0, account, fill, instrument, lines, mark, slices, write_desk

BAD_JSON = b'{"type":"fill", oops'
NOT_UTF8 = b'{"type":"fill","fill_id":"\xff"}'
BOOK = lines(
    mark(T0 + 1000),
    fill(T0 + 1000, "f1", "a"),
    fill(T0 + 2000, "f2", "late"),
    fill(T0 + 3000, "f3", "a", price="-1"),
    BAD_JSON,
    NOT_UTF8,
    fill(T0 + 4000, "b1", "a", action="bust", ref_fill_id="f5"),
    fill(T0 + 1_500_000, "f4", "a"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that rejected five records, one of them because the account's own record was missing."""
    path = write_desk(
        tmp_path_factory.mktemp("finished") / "desk",
        {"reference.jsonl": lines(instrument(), account("a")), "book.jsonl": BOOK},
        shards=2,
    )
    assert run_command("run", path).returncode == 0
    return path


@pytest.fixture
def rejecting_desk(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    shutil.copytree(finished.parent, tmp_path / "desk")
    return tmp_path / "desk" / "desk.toml"


def listed(path: Path, *options: Any) -> list[dict[str, Any]]:
    done = run_command("rejects", "list", path, "--json", *options)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["rejects"]
    return found


def place_of(path: Path, reason: str) -> str:
    [one] = listed(path, "--reason", reason)
    return str(one["place"])


def fills(path: Path) -> list[str]:
    bus = open_bus("sqlite:seawall.db", path.parent)
    try:
        return [name for shard in range(2) for piece in slices(bus, shard) if piece.fills for name in piece.fills.id]
    finally:
        bus.close()


def positions(path: Path, name: str) -> float:
    """The gross notional of an account, as it was written last."""
    written = [
        json.loads(value) for (topic, _), rows in bus_contents(path.parent, ["exposures"]).items() for *_, value in rows
    ]
    rows = [row for one in written for row in one["accounts"] if row["account"] == name]
    return float(rows[-1]["gross_notional"])


def mend(path: Path) -> None:
    """Describe the account that was missing; inputs grow."""
    with (path.parent / "reference.jsonl").open("ab") as file:
        file.write(lines([{**one, "event_time_us": T0 + 1_600_000} for one in account("late")]))


def test_list_tells_reason_place_and_detail_of_each_reject_and_counts_them(rejecting_desk: Path) -> None:
    found = {one["reason"]: one for one in listed(rejecting_desk)}
    assert found["ACCOUNT_MUST_BE_KNOWN"]["source"] == {"file": "book.jsonl", "line": 3}
    assert (
        len(listed(rejecting_desk)) == 5 and len(listed(rejecting_desk, "--source", "book.jsonl")) == 4
    )  # risk rejected the bust
    shown = run_command("rejects", "list", rejecting_desk)
    assert "5 rejected records" in shown.stdout and "FILL_MUST_BE_KNOWN" in shown.stdout


def test_show_gives_back_the_original_bytes_exactly(rejecting_desk: Path) -> None:
    for reason, original in (("JSON_MUST_BE_VALID", BAD_JSON.decode()), ("PRICE_MUST_BE_POSITIVE", '"price": "-1"')):
        assert (
            original
            in json.loads(run_command("rejects", "show", rejecting_desk, place_of(rejecting_desk, reason)).stdout)[
                "original"
            ]
        )
    place = place_of(rejecting_desk, "TEXT_MUST_BE_UTF_8")
    assert run_command("rejects", "show", rejecting_desk, place, "--raw").raw == NOT_UTF8


def test_what_would_be_rejected_again_is_refused_with_the_rule(rejecting_desk: Path) -> None:
    done = run_command("rejects", "redrive", rejecting_desk, "--reason", "PRICE_MUST_BE_POSITIVE", "--why", "hope")
    assert done.returncode == 1
    assert "it would be rejected again: PRICE_MUST_BE_POSITIVE" in done.stdout
    assert bus_contents(rejecting_desk.parent, ["redrive"]) == {}


def test_a_record_redriven_after_its_cause_was_mended_is_journaled_once_and_verified(rejecting_desk: Path) -> None:
    mend(rejecting_desk)
    place = place_of(rejecting_desk, "ACCOUNT_MUST_BE_KNOWN")
    for wanted in ("1 sent in, 0 were before", "0 sent in, 1 were before"):
        done = run_command(
            "rejects", "redrive", rejecting_desk, place, "--why", "the account was missing", "--by", "ann"
        )
        assert done.returncode == 0 and wanted in done.stdout, done.stderr
    assert run_command("verify", rejecting_desk).returncode == 0  # one that waits for a run is no finding
    assert run_command("run", rejecting_desk).returncode == 0
    assert sorted(fills(rejecting_desk)) == ["b1", "f1", "f2", "f4"]
    bus = open_bus("sqlite:seawall.db", rejecting_desk.parent)
    [taken] = {tuple(entry) for shard in range(2) for piece in slices(bus, shard) for entry in piece.taken}
    bus.close()
    assert taken[:3] == ("redrive", 0, 0)
    assert run_command("verify", rejecting_desk).returncode == 0
    assert run_command("replay", rejecting_desk).returncode == 0
    assert [one["place"] for one in listed(rejecting_desk) if one["redriven"] == 0] == [place]


def test_a_bust_that_came_before_its_fill_is_redriven_behind_it(rejecting_desk: Path) -> None:
    before = positions(rejecting_desk, "a")
    with (rejecting_desk.parent / "book.jsonl").open("ab") as file:
        file.write(lines(fill(T0 + 1_700_000, "f5", "a")))
    done = run_command("rejects", "redrive", rejecting_desk, "--reason", "FILL_MUST_BE_KNOWN", "--why", "its fill came")
    assert done.returncode == 0, done.stdout
    assert run_command("run", rejecting_desk).returncode == 0
    assert sorted(fills(rejecting_desk)) == ["b1", "b1", "f1", "f4", "f5"]
    assert listed(rejecting_desk, "--reason", "FILL_MUST_BE_KNOWN", "--open") == []
    assert positions(rejecting_desk, "a") == before
    assert run_command("replay", rejecting_desk).returncode == 0


def test_a_corrected_record_goes_in_beside_the_original(rejecting_desk: Path, tmp_path: Path) -> None:
    place, corrected = place_of(rejecting_desk, "PRICE_MUST_BE_POSITIVE"), tmp_path / "corrected.json"
    corrected.write_bytes(lines(fill(T0 + 3000, "f3", "a", price="101")))
    done = run_command(
        "rejects", "redrive", rejecting_desk, place, "--replace", corrected, "--why", "sign of the price", "--by", "ann"
    )
    assert done.returncode == 0, done.stdout
    assert run_command("run", rejecting_desk).returncode == 0
    assert "f3" in fills(rejecting_desk)
    [kept] = [json.loads(value) for _, _, _, value in bus_contents(rejecting_desk.parent, ["redrive"])["redrive", 0]]
    assert '"price": "-1"' in kept["original"] and '"price": "101"' in kept["replacement"]
    assert (kept["by"], kept["why"], kept["reject"]) == ("ann", "sign of the price", place)
    jsonschema.validate(kept, json.loads(generate.documents()["redrive.json"]))


def test_of_a_record_over_the_size_limit_only_another_in_its_place_goes_in(
    rejecting_desk: Path, tmp_path: Path
) -> None:
    with (rejecting_desk.parent / "book.jsonl").open("ab") as file:
        file.write(lines({**fill(T0 + 1_800_000, "long", "a"), "trader": "x" * 300_000}))
    assert run_command("run", rejecting_desk).returncode == 0
    chosen = [
        "redrive",
        rejecting_desk,
        place_of(rejecting_desk, "RECORD_MUST_NOT_EXCEED_256_KIB"),
        "--why",
        "no such name",
    ]
    refused = run_command("rejects", *chosen)
    assert refused.returncode == 1 and "bytes were kept, because no record may exceed 256 KiB" in refused.stdout
    (tmp_path / "short.json").write_bytes(lines(fill(T0 + 1_800_000, "long", "a")))
    assert run_command("rejects", *chosen, "--replace", tmp_path / "short.json").returncode == 0
    assert run_command("run", rejecting_desk).returncode == 0
    assert "long" in fills(rejecting_desk) and run_command("verify", rejecting_desk).returncode == 0


def test_a_redriven_record_that_is_rejected_again_is_a_new_reject_and_can_go_in_again(rejecting_desk: Path) -> None:
    place = place_of(rejecting_desk, "ACCOUNT_MUST_BE_KNOWN")
    assert run_command("rejects", "redrive", rejecting_desk, place, "--why", "too early").returncode == 0
    assert run_command("run", rejecting_desk).returncode == 0
    [again] = [one for one in listed(rejecting_desk, "--open") if one["reason"] == "ACCOUNT_MUST_BE_KNOWN"]
    assert again["source"] == {"topic": "redrive", "partition": 0, "offset": 0}
    mend(rejecting_desk)
    assert run_command("rejects", "redrive", rejecting_desk, again["place"], "--why", "now").returncode == 0
    assert run_command("run", rejecting_desk).returncode == 0
    assert "f2" in fills(rejecting_desk)
    assert run_command("verify", rejecting_desk).returncode == 0


def test_a_changed_redrive_is_found_by_verify(rejecting_desk: Path) -> None:
    mend(rejecting_desk)
    assert (
        run_command(
            "rejects", "redrive", rejecting_desk, "--reason", "ACCOUNT_MUST_BE_KNOWN", "--why", "mended"
        ).returncode
        == 0
    )
    assert run_command("run", rejecting_desk).returncode == 0
    with sqlite3.connect(rejecting_desk.parent / "seawall.db") as store:
        store.execute("update records set value = replace(value, 'mended', 'forged') where topic = 'redrive'")
    done = run_command("verify", rejecting_desk)
    assert done.returncode == 1 and "redrive/0 offset 0" in done.stdout


def test_running_again_without_redrives_changes_nothing(rejecting_desk: Path) -> None:
    before = bus_contents(rejecting_desk.parent)
    assert run_command("run", rejecting_desk).returncode == 0
    assert differences(bus_contents(rejecting_desk.parent), before) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["redrive"], "say which"),
        (["redrive", "--all"], "say what was mended"),
        (["redrive", "9/9", "--why", "x"], "there is no reject 9/9"),
        (["show", "9/9"], "there is no reject 9/9"),
        (["redrive", "--all", "--why", "x", "--replace", "nothing.json"], "--replace is for one record"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(rejecting_desk: Path, arguments: list[str], said: str) -> None:
    done = run_command("rejects", arguments[0], rejecting_desk, *arguments[1:])
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1
