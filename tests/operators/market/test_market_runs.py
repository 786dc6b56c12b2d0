"""``market`` for real: kill -9, workers, live partitions, and the way from a venue's records to a signed command."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seawall.connectors.bus import open_bus
from seawall.connectors.keys import _key_files
from seawall.dataflows import _market_inputs
from seawall.dataflows._market_inputs import MarketReader
from seawall.operators.core.market import GroupRecords
from seawall.schemas import events as ev
from seawall.schemas.configuration import load_configuration
from seawall.schemas.decoding import decode_event
from seawall_testing.command_line import CLI, Contents, bus_contents, differences, seawall
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, lines, transfer
from seawall_testing.market_data import VENUES, market, quote
from seawall_testing.pipeline import MemoryBus, write_configuration

NAMES = ("ETH-PERP", "BTC-PERP", "SOL-PERP", "XRP-PERP")
SECONDS = 30
CRASH_AT = 24
LIMITS: list[Json] = [{"id": "margin", "scope": "account:*", "measure": "margin_ratio", "hard": 1e6}]
PLAYBOOK: list[Json] = [
    {
        "id": "stop-opening",
        "when": {"alert": "circuit_breaker"},
        "commands": [{"kind": "REDUCE_ONLY", "target": "account"}, {"kind": "REROUTE", "target": "underlying"}],
        "cooldown_s": 60,
    }
]


def reference() -> list[Json]:
    rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
    instruments = [instrument(name, base=name[:3], **rates) for name in NAMES]
    return [*instruments, *account("holder"), *account("bystander")]


def book() -> list[Json]:
    money = [transfer(T0 + 1, f"t-{name}", name, amount="100000") for name in ("holder", "bystander")]
    return [*money, fill(T0 + 2, "f1", "holder"), fill(T0 + 3, "f2", "bystander", instrument="SOL-PERP")]


def write_run(folder: Path, events: list[Json], **top: Any) -> Path:
    files = {"reference.jsonl": lines(*reference()), "book.jsonl": lines(*book()), "events.jsonl": lines(*events)}
    return write_configuration(folder, files, LIMITS, PLAYBOOK, **{"shards": 2, **top})


@pytest.fixture(scope="module")
def market_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Contents]:
    """A bounded run without interruption in which ETH falls by a tenth; in the others nothing happens."""
    calm = market(SECONDS, names=NAMES[1:])
    events = sorted(market(SECONDS, 2, ("ETH-PERP",), CRASH_AT) + calm, key=lambda record: record["event_time_us"])
    path = write_run(tmp_path_factory.mktemp("market") / "run", events)
    done = seawall("run", path)
    assert done.returncode == 0, done.stderr
    return path.parent, bus_contents(path.parent)


def twin(original: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in ("reference.jsonl", "book.jsonl", "events.jsonl", "limits.toml", "playbook.toml", "desk.toml"):
        (folder / name).write_bytes((original / name).read_bytes())
    (folder / "keys").mkdir(mode=0o700)
    for key in (original / "keys").iterdir():
        (folder / "keys" / key.name).write_bytes(key.read_bytes())
        (folder / "keys" / key.name).chmod(key.stat().st_mode)
    return folder / "desk.toml"


def values(found: Contents, topic: str) -> list[Json]:
    return [json.loads(value) for (name, _), records in sorted(found.items()) if name == topic for *_, value in records]


# --- bounded ----------------------------------------------------------------------------------------------------------


def test_a_crash_at_the_venues_becomes_an_alert_and_commands_for_those_who_hold_the_instrument(
    market_run: tuple[Path, Contents],
) -> None:
    found = market_run[1]
    told = [alert for alert in values(found, "alerts") if alert["kind"] == "circuit_breaker"]
    assert [(alert["shard"], alert["scope"], alert["severity"]) for alert in told] == [
        ("all", "instrument:ETH-PERP", 3)
    ]
    assert "below its 60-minute high" in told[0]["text"]
    commands = {(c["type"], f"{c['target']['scope']}:{c['target']['id']}") for c in values(found, "commands")}
    assert commands == {("REDUCE_ONLY", "account:holder"), ("REROUTE", "underlying:ETH")}
    evidence = [c["evidence"]["id"] for c in values(found, "commands")]
    signals = {f"signal:{s['group']}-{s['seq']}" for s in values(found, "signals") if s.get("alerts")}
    assert {text.rpartition(":")[0] for text in evidence} <= signals


def test_exposures_use_the_robust_mark_of_the_signals(market_run: tuple[Path, Contents]) -> None:
    found = market_run[1]
    marks = [s["marks"] for s in values(found, "journal") if s.get("marks")]
    robust = [
        (price, time_us)
        for columns in marks
        for kind, number, price, time_us in zip(
            columns["kind"], columns["instrument"], columns["price"], columns["time_us"], strict=True
        )
        if kind == "robust" and number == 0
    ]
    last = max(robust, key=lambda pair: pair[1])[0]
    rows = [row for e in values(found, "exposures") for row in e["accounts"] if row["account"] == "holder"]
    assert rows[-1]["gross_notional"] == pytest.approx(1.5 * last, rel=2e-3)


def test_every_interval_in_which_anything_happened_has_one_signal_per_group(market_run: tuple[Path, Contents]) -> None:
    found = values(market_run[1], "signals")
    assert max(Counter((s["group"], s["event_time_us"]) for s in found).values()) == 1
    lines_read = sum(1 for _ in (market_run[0] / "events.jsonl").open())
    assert sum(s.get("events", 0) for s in found) == lines_read
    ends = [s for s in found if s.get("end")]
    assert [s["group"] for s in ends] == sorted({s["group"] for s in found})


@pytest.mark.parametrize("workers", ["2", pytest.param("1", marks=pytest.mark.soak)])
def test_kills_in_mid_stream_leave_every_topic_byte_for_byte(
    market_run: tuple[Path, Contents], tmp_path: Path, workers: str
) -> None:
    path = twin(market_run[0], tmp_path / "run")
    killed = 0
    for records in (40, 200, 500):
        with subprocess.Popen(
            [*CLI, "run", str(path), "--workers", workers], stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            while process.poll() is None and stands(path.parent) < records:
                time.sleep(0.01)
            killed += process.poll() is None
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert killed >= 1
    done = seawall("run", path, "--workers", workers)
    assert done.returncode == 0, done.stderr
    assert differences(bus_contents(path.parent), market_run[1]) == []
    assert seawall("verify", path.parent).returncode == 0


def stands(folder: Path) -> int:
    if not (folder / "seawall.db").exists():
        return 0
    bus = open_bus("sqlite:seawall.db", folder)
    try:
        return sum(bus.end("signals", partition) for partition in bus.partitions("signals"))
    finally:
        bus.close()


def test_a_lost_recovery_store_loses_nothing(market_run: tuple[Path, Contents], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(market_run[0], folder)
    shutil.rmtree(folder / "recovery-market")
    done = seawall("run", folder / "desk.toml")
    assert done.returncode == 0, done.stderr
    assert "stands, what came again differs" not in done.stderr
    assert differences(bus_contents(folder), market_run[1]) == []


def test_a_finished_run_does_nothing_and_inputs_that_grew_are_continued(
    market_run: tuple[Path, Contents], tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(market_run[0], folder)
    assert seawall("run", folder / "desk.toml").returncode == 0
    assert differences(bus_contents(folder), market_run[1]) == []
    with (folder / "events.jsonl").open("ab") as file:
        file.write(lines(quote(T0 + (SECONDS + 5) * SECOND, 90.0)))
    assert seawall("run", folder / "desk.toml").returncode == 0
    before, after = values(market_run[1], "signals"), values(bus_contents(folder), "signals")
    assert sum(s.get("events", 0) for s in after) == sum(s.get("events", 0) for s in before) + 1
    assert seawall("verify", folder).returncode == 0


def test_sequence_refuses_signals_of_a_market_that_has_not_ended(
    market_run: tuple[Path, Contents], tmp_path: Path
) -> None:
    path = twin(market_run[0], tmp_path / "run")
    bus = open_bus("sqlite:seawall.db", path.parent)
    group = next(partition for topic, partition in sorted(market_run[1]) if topic == "signals")
    writer = bus.writer([("signals", group)])
    for _, key, headers, value in market_run[1]["signals", group][:5]:
        writer.append("signals", group, key, value, dict(headers))
    writer.flush()
    writer.close()
    bus.close()
    done = seawall("run", path, "--only", "sequence")
    assert done.returncode == 2
    assert "market has not finished" in done.stderr and "Traceback" not in done.stderr


def test_another_number_of_groups_is_refused_in_one_line(market_run: tuple[Path, Contents], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(market_run[0], folder)
    text = (folder / "desk.toml").read_text()
    (folder / "desk.toml").write_text(f"{text}[market]\ngroups = 2\n")
    done = seawall("run", folder / "desk.toml")
    assert done.returncode == 2
    assert "groups is 2 but signals were begun with 4" in done.stderr and "Traceback" not in done.stderr


# --- live -------------------------------------------------------------------------------------------------------------

PARTITIONS = 3
GROUPS = 4  # each of which hears a notice


def test_several_live_partitions_give_one_signal_per_group_and_interval_whatever_is_killed(tmp_path: Path) -> None:
    """Three partitions are written while market runs, is killed and comes back; no record is lost or counted twice."""
    path = write_configuration(tmp_path / "run", {"reference.jsonl": lines(*reference())}, LIMITS, shards=2)
    path.write_text(path.read_text().replace("[inputs]\n", '[inputs]\ntopics = ["venues"]\n'))
    _key_files.new_key(path.parent / "keys" / "dev.pem")
    bus = open_bus("sqlite:seawall.db", path.parent)
    writer = bus.writer([("venues", partition) for partition in range(PARTITIONS)])
    sent, kills, process = 0, 0, None
    try:
        for burst in range(30):
            process = process or live(path)
            for place, venue in enumerate(VENUES):
                for name in NAMES:
                    now = time.time_ns() // 1000
                    record = lines(quote(now, 100 + burst * 0.01, venue, name)).strip()
                    writer.append("venues", place % PARTITIONS, venue, record, {})
                    sent += 1
            if burst == 7:  # what tells of markets comes in between, and must not come twice either
                described = lines(instrument(NAMES[0], base=NAMES[0][:3])).strip()
                writer.append("venues", 0, "reference", described, {})
            if burst == 11:
                note = {"notice_id": "n-1", "subject": VENUES[0], "kind": "outage", "severity": 3}
                told = lines({"type": "notice", "event_time_us": time.time_ns() // 1000, **note}).strip()
                writer.append("venues", 1, "news", told, {})
                sent += GROUPS
            writer.flush()
            time.sleep(0.15)
            if stands(path.parent) > 8 * (kills + 1) and kills < 3:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                process, kills = None, kills + 1
        process = process or live(path)
        deadline = time.monotonic() + 120
        while counted(path.parent) < sent and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    finally:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    found = live_signals(path.parent)
    assert kills == 3
    assert sum(s.events for s in found) == sent
    assert max(Counter((s.group, s.event_time_us) for s in found).values()) == 1
    noticed = Counter((s.group, a.kind) for s in found for a in s.alerts if a.kind == "notice")
    assert set(noticed.values()) == {1}
    for group in {s.group for s in found}:
        times = [s.event_time_us for s in found if s.group == group]
        assert times == sorted(times)
        assert [s.seq for s in found if s.group == group] == list(range(len(times)))
    assert b"what came again differs" not in err


def waiting_market(folder: Path, slow: list[int], fast: list[int]) -> Callable[[bytes | None], MarketReader]:
    """Return what opens a reader of two partitions of quotes at some times, one of which makes the other wait."""
    path = write_configuration(folder, {"reference.jsonl": lines(*reference())}, LIMITS, shards=2)
    path.write_text(path.read_text().replace("[inputs]\n", '[inputs]\ntopics = ["venues"]\n'))
    bus = MemoryBus()
    for partition, times in enumerate((slow, fast)):
        writer = bus.writer([("venues", partition)])
        for at in times:
            writer.append("venues", partition, "", lines(quote(at, 100, VENUES[partition], NAMES[0])).strip(), {})
        writer.flush()
    configuration = load_configuration(path)
    return lambda state: MarketReader(configuration, bus, state, lambda: T0 + 1000 * SECOND)


def intervals(reader: MarketReader, reads: int) -> Counter[int]:
    """Return how many records of the second venue a reader gives to each interval."""
    found, waiting = Counter[int](), 0
    for _ in range(reads):
        for _, item in reader.read() or []:
            if isinstance(item, GroupRecords):
                waiting += sum(getattr(event, "venue", "") == VENUES[1] for event in item.events)
            elif waiting:
                found[item.as_of_us] += waiting
                waiting = 0
    return found


def test_what_waits_for_another_partition_is_cut_alike_after_a_restart(tmp_path: Path) -> None:
    slow, fast = [T0 + n * 1000 for n in range(3000)], [T0 + n * SECOND // 10 for n in range(900)]
    opened = waiting_market(tmp_path / "run", slow, fast)
    whole, first = intervals(opened(None), 20), opened(None)
    before = Counter[int]()
    while not before:
        before += intervals(first, 1)
    assert before + intervals(opened(first.snapshot()), 20) == whole
    assert max(whole.values()) == 1


def test_a_partition_that_is_far_ahead_is_cut_no_further_than_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_market_inputs, "PENDING_MAX", 2000)
    slow, fast = [T0 + n for n in range(4000)], [T0 + n * SECOND // 10 for n in range(8000)]
    found = intervals(waiting_market(tmp_path / "run", slow, fast)(None), 40)
    assert found.total() == len(fast)
    assert max(found.values()) == 1


def test_topics_that_hold_none_of_the_market_are_not_read(tmp_path: Path) -> None:
    """Those that ``market_topics`` leaves out, and those whose mapping makes nothing of the market."""
    path = write_configuration(tmp_path / "run", {"reference.jsonl": lines(*reference())}, LIMITS, shards=2)
    (path.parent / "fills.toml").write_text(
        '[[record]]\ntype = "fill"\n[record.fields]\nevent_time_us = { from = "time", time = "s" }\nfill_id = "id"\n'
        'account = "owner"\ninstrument = "symbol"\nside = "side"\nquantity = "size"\nprice = "price"\n'
    )
    topics = 'topics = ["venues", "others", "fills"]\nmarket_topics = ["venues", "fills"]\n'
    mapped = '[inputs.mappings]\nfills = "fills.toml"\n'
    text = path.read_text().replace("[inputs]\n", f"[inputs]\n{topics}")
    path.write_text(text + mapped)
    bus = CountedBus(open_bus("sqlite:seawall.db", path.parent))
    writer = bus.writer([(topic, 0) for topic in ("venues", "others", "fills")])
    for topic in ("venues", "others"):
        writer.append(topic, 0, topic, lines(quote(time.time_ns() // 1000, 100, VENUES[0], NAMES[0])).strip(), {})
    writer.append("fills", 0, "fills", b"{}", {})
    writer.flush()
    reader = MarketReader(load_configuration(path), bus, None, lambda: time.time_ns() // 1000 + SECOND)
    while reader.events < 1:
        reader.read()
    reader.close()
    writer.close()
    assert reader.events == 1
    assert bus.looked_at == {"venues"}


class CountedBus:
    """A bus that remembers which topics somebody followed."""

    def __init__(self, bus: Any) -> None:
        self._bus = bus
        self.looked_at: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def follow(self, topic: str, *reader: Any) -> Any:
        self.looked_at.add(topic)
        return self._bus.follow(topic, *reader)


def live(path: Path) -> "subprocess.Popen[bytes]":
    command = [*CLI, "run", str(path), "--only", "market"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def live_signals(folder: Path) -> list[ev.Signal]:
    bus = open_bus("sqlite:seawall.db", folder)
    try:
        stored = [r for p in bus.partitions("signals") for r in bus.read("signals", p, 0, 100_000)]
        found = [decode_event(record.value) for record in stored]
        return [signal for signal in found if isinstance(signal, ev.Signal)]
    finally:
        bus.close()


def counted(folder: Path) -> int:
    return sum(s.events for s in live_signals(folder))
