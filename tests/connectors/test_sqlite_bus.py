"""The embedded bus: what is flushed stays, all of it or nothing, and a partition has one writer at a time."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.connectors.bus import SqliteBus, cluster_of, open_bus
from seawall.schemas.errors import BusError, PartitionLocked, UsageError
from seawall.schemas.records import Record, Stored

# Appends to two topics in every transaction and says after each flush how many records are durable in each.
WRITER = """
import sys
from pathlib import Path
from seawall.connectors.bus import SqliteBus
path, partition, flushes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
bus = SqliteBus(path)
writer = bus.writer([("journal", partition), ("audit", partition)])
for _ in range(flushes):
    for _ in range(20):
        for topic in ("journal", "audit"):
            n = writer.end(topic, partition)
            writer.append(topic, partition, str(partition), b"%d-%d" % (partition, n) * 50, {"seawall-n": str(n)})
    writer.flush()
    print(writer.end("journal", partition), flush=True)
"""


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[SqliteBus]:
    found = SqliteBus(tmp_path / "seawall.db")
    yield found
    found.close()


def start_writer(path: Path, partition: int, flushes: int = 1_000_000) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(partition), str(flushes)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def read_all(bus: SqliteBus, topic: str, partition: int) -> list[Stored]:
    found: list[Stored] = []
    while batch := bus.read(topic, partition, len(found)):
        found += batch
    return found


def check_whole(bus: SqliteBus, partition: int) -> int:
    """Check that both topics hold the same number of whole flushes, contiguous and byte for byte; return the number."""
    journal, audit = read_all(bus, "journal", partition), read_all(bus, "audit", partition)
    assert len(journal) == len(audit)
    assert len(journal) % 20 == 0
    for records in (journal, audit):
        for n, record in enumerate(records):
            assert record == (n, str(partition), {"seawall-n": str(n)}, b"%d-%d" % (partition, n) * 50)
    assert bus.end("journal", partition) == len(journal)
    return len(journal)


def kill(process: subprocess.Popen[str]) -> int:
    """Kill a writer; return the last count that it said was durable."""
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    said = process.stdout.read().split("\n")[:-1]  # what follows the last newline was cut off
    process.wait()
    process.stdout.close()
    return int(said[-1]) if said else 0


def test_what_was_appended_is_read_back_byte_for_byte(bus: SqliteBus) -> None:
    values = [b"", b"\x00\xff", "ü\u2028".encode(), b"x" * 512 * 1024]
    writer = bus.writer([("journal", 3)])
    for n, value in enumerate(values):
        record = Record("ключ", value, f"3-{n}-0", n, dsse='{"payloadType":"a"}')
        writer.append("journal", 3, record.key, record.value, record.headers())
    writer.flush()
    writer.close()
    headers = [{"seawall-id": f"3-{n}-0", "seawall-n": str(n), "dsse": '{"payloadType":"a"}'} for n in range(4)]
    assert bus.read("journal", 3, 0) == [Stored(n, "ключ", headers[n], values[n]) for n in range(4)]
    assert (bus.topics(), bus.partitions("journal"), bus.end("journal", 3)) == (["journal"], [3], 4)


def test_the_table_is_the_one_that_the_contract_names(bus: SqliteBus) -> None:
    writer = bus.writer([("journal", 0)])
    writer.append("journal", 0, "0", b"\xff\x00", {"seawall-n": "0"})
    writer.flush()
    writer.close()
    with sqlite3.connect(bus.path) as plain:
        rows = plain.execute('select topic, "partition", "offset", key, headers, value from records').fetchall()
        triggers = plain.execute("select count(*) from sqlite_master where type = 'trigger'").fetchone()
    plain.close()
    assert rows == [("journal", 0, 0, "0", '{"seawall-n":"0"}', b"\xff\x00")]
    assert triggers == (0,)


def test_an_empty_bus_has_no_topics_and_ends_at_zero(bus: SqliteBus) -> None:
    assert bus.topics() == []
    assert bus.partitions("journal") == []
    assert bus.end("journal", 0) == 0
    assert bus.read("journal", 0, 0) == []


def test_a_read_is_bounded_by_records_and_by_bytes_but_never_stands_still(bus: SqliteBus) -> None:
    writer = bus.writer([("journal", 0)])
    for _ in range(10):
        writer.append("journal", 0, "0", b"x" * 1000, {})
    writer.flush()
    writer.close()
    assert [record.offset for record in bus.read("journal", 0, 4, records_max=3)] == [4, 5, 6]
    assert len(bus.read("journal", 0, 0, bytes_max=2500)) == 3
    assert len(bus.read("journal", 0, 9, bytes_max=1)) == 1
    assert bus.read("journal", 0, 10) == []


def test_nothing_is_visible_before_the_flush_and_nothing_is_written_without_it(bus: SqliteBus) -> None:
    writer = bus.writer([("journal", 0)])
    writer.append("journal", 0, "0", b"a", {})
    assert writer.end("journal", 0) == 1
    assert bus.end("journal", 0) == 0
    writer.close()
    assert bus.end("journal", 0) == 0


def test_offsets_continue_where_the_writer_before_stopped(bus: SqliteBus) -> None:
    for expected in (0, 2, 4):
        writer = bus.writer([("journal", 0), ("journal", 1)])
        assert writer.end("journal", 0) == expected
        for value in (b"a", b"b"):
            writer.append("journal", 0, "0", value, {})
        writer.flush()
        writer.close()
    assert [record.offset for record in bus.read("journal", 0, 0)] == [0, 1, 2, 3, 4, 5]
    assert bus.end("journal", 1) == 0


def test_a_flush_that_fails_writes_nothing_of_any_partition(bus: SqliteBus) -> None:
    writer = bus.writer([("journal", 0), ("audit", 0)])
    writer.append("audit", 0, "0", b"ours", {})
    writer.append("journal", 0, "0", b"ours", {})
    with sqlite3.connect(bus.path) as plain:  # somebody who does not know of the locks
        plain.execute("insert into records values ('journal', 0, 0, '0', '{}', x'00')")
    plain.close()
    with pytest.raises(BusError, match="without its lock"):
        writer.flush()
    assert bus.end("audit", 0) == 0
    assert bus.read("journal", 0, 0)[0].value == b"\x00"
    writer.close()


def test_a_partition_that_was_not_opened_for_writing_is_refused(bus: SqliteBus) -> None:
    writer = bus.writer([("journal", 0)])
    with pytest.raises(BusError, match="partition 1 of journal"):
        writer.append("journal", 1, "1", b"a", {})
    writer.close()


def test_a_second_writer_of_a_partition_is_refused_at_once_by_name_and_process(bus: SqliteBus) -> None:
    first = bus.writer([("journal", 0), ("journal", 1)])
    started = time.monotonic()
    with pytest.raises(PartitionLocked, match=rf"partition 1 of journal .* process {os.getpid()};"):
        SqliteBus(bus.path).writer([("journal", 2), ("journal", 1)])
    assert time.monotonic() - started < 1
    first.close()
    bus.writer([("journal", 1), ("journal", 2)]).close()  # the refused one kept nothing


def test_a_symbolic_link_to_a_bus_has_the_locks_of_the_bus(bus: SqliteBus, tmp_path: Path) -> None:
    (tmp_path / "alias.db").symlink_to(bus.path)
    first = bus.writer([("journal", 0)])
    with pytest.raises(PartitionLocked, match="partition 0 of journal"):
        SqliteBus(tmp_path / "alias.db").writer([("journal", 0)])
    first.close()


def test_a_killed_writer_lets_its_partition_go_and_the_refusal_names_its_process(bus: SqliteBus) -> None:
    process = start_writer(bus.path, 0)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(PartitionLocked, match=f"process {process.pid};"):
        bus.writer([("journal", 0)])
    kill(process)
    bus.writer([("journal", 0)]).close()


def test_a_writer_killed_at_any_moment_leaves_whole_flushes_and_loses_none_that_returned(tmp_path: Path) -> None:
    path = tmp_path / "seawall.db"
    chance = random.Random(7)
    count = 0
    for _ in range(6):
        process = start_writer(path, 0)
        if count or chance.random() < 0.5:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(chance.uniform(0, 0.15))
        said = kill(process)
        bus = SqliteBus(path)
        standing = check_whole(bus, 0)
        bus.close()
        assert standing >= max(said, count)
        count = standing
    assert count > 0


def test_a_torn_or_damaged_log_opens_again_with_whole_flushes(tmp_path: Path) -> None:
    source = tmp_path / "seawall.db"
    process = start_writer(source, 0)
    assert process.stdout is not None
    for _ in range(15):
        process.stdout.readline()
    kill(process)
    log = (tmp_path / "seawall.db-wal").read_bytes()
    assert log, "the writer was killed with a log to tear"
    chance = random.Random(11)
    found = []
    for trial in range(12):
        folder = tmp_path / str(trial)
        folder.mkdir()
        shutil.copy(source, folder / "seawall.db")
        at = chance.randrange(len(log))
        torn = log[:at] if trial % 2 else log[:at] + bytes([log[at] ^ 0x55]) + log[at + 1 :]
        (folder / "seawall.db-wal").write_bytes(torn)
        bus = SqliteBus(folder / "seawall.db")
        found.append(check_whole(bus, 0))
        writer = bus.writer([("journal", 0)])
        assert writer.end("journal", 0) == found[-1]
        writer.close()
        bus.close()
    assert len(set(found)) > 3, "the log was torn at places that matter"


def test_two_processes_write_different_partitions_while_a_third_reads(bus: SqliteBus) -> None:
    processes = [start_writer(bus.path, partition, 40) for partition in (0, 1)]
    seen = 0
    while any(process.poll() is None for process in processes):
        records = read_all(bus, "journal", 0)
        assert len(records) % 20 == 0
        assert len(records) >= seen, "what was read once is there ever after"
        seen = len(records)
    for process in processes:
        assert process.returncode == 0
        assert process.stdout is not None
        process.stdout.close()
    assert [check_whole(bus, partition) for partition in (0, 1)] == [800, 800]


def test_threads_of_one_process_write_and_read_at_the_same_time(bus: SqliteBus) -> None:
    failures: list[BaseException] = []

    def write(partition: int) -> None:
        try:
            writer = bus.writer([("journal", partition), ("audit", partition)])
            for n in range(400):
                for topic in ("journal", "audit"):
                    value = b"%d-%d" % (partition, n) * 50
                    writer.append(topic, partition, str(partition), value, {"seawall-n": str(n)})
                if n % 20 == 19:
                    writer.flush()
                    assert bus.end("journal", partition) == n + 1
            writer.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(partition,)) for partition in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [check_whole(bus, partition) for partition in range(4)] == [400] * 4


def test_processes_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    text = "import sys, time; from pathlib import Path; from seawall.connectors.bus._sqlite import SqliteBus\n"
    text += "time.sleep(max(0.0, float(sys.argv[2]) - time.time())); SqliteBus(Path(sys.argv[1])).close()"
    for trial in range(3):
        start = str(time.time() + 0.8)
        command = [sys.executable, "-c", text, str(tmp_path / f"{trial}.db"), start]
        processes = [subprocess.Popen(command) for _ in range(4)]
        assert [process.wait() for process in processes] == [0] * 4


def test_a_file_that_is_no_database_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "seawall.db"
    path.write_bytes(b"this is a text\n" * 500)
    with pytest.raises(BusError, match=r"seawall\.db .*not a database.*backup") as caught:
        SqliteBus(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"this is a text\n" * 500


def test_a_database_with_overwritten_pages_is_named_with_what_to_do(bus: SqliteBus) -> None:
    writer = bus.writer([("journal", 0)])
    for _ in range(100):
        writer.append("journal", 0, "0", b"x" * 500, {})
    writer.flush()
    writer.close()
    bus.close()
    raw = bus.path.read_bytes()
    bus.path.write_bytes(raw[:4096] + b"\xff" * (len(raw) - 4096))
    with pytest.raises(BusError, match=r"seawall\.db .*malformed.*backup"):
        SqliteBus(bus.path).read("journal", 0, 0)


def test_a_bus_in_a_folder_that_does_not_exist_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BusError, match="check that its folder exists"):
        SqliteBus(tmp_path / "none" / "seawall.db")


def test_a_read_only_copy_is_read_and_refuses_a_writer(bus: SqliteBus, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = bus.writer([("journal", 0)])
    writer.append("journal", 0, "0", b"a", {})
    writer.flush()
    writer.close()
    bus.close()
    before = sorted(bus.path.parent.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root, to whom nothing is read-only
    copy = SqliteBus(bus.path)
    assert [record.value for record in copy.read("journal", 0, 0)] == [b"a"]
    assert sorted(bus.path.parent.iterdir()) == before
    writer = copy.writer([("journal", 0)])
    writer.append("journal", 0, "0", b"b", {})
    with pytest.raises(BusError, match="make the file and its folder writable"):
        writer.flush()
    writer.close()
    copy.close()


def test_who_may_only_read_follows_a_run_that_begins_after_him(bus: SqliteBus, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = bus.writer([("journal", 0)])
    writer.append("journal", 0, "0", b"0", {})
    writer.flush()
    writer.close()
    bus.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        reader = SqliteBus(bus.path)
        assert reader.end("journal", 0) == 1
    writer = bus.writer([("journal", 0)])
    for _ in range(3000):
        writer.append("journal", 0, "0", b"x" * 600, {})
    writer.flush()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert reader.end("journal", 0) == 3001  # while the run is alive
    writer.close()
    bus.close()
    assert [record.offset for record in reader.read("journal", 0, 0, 5000)] == list(range(3001))
    reader.close()


def test_a_bus_that_its_reader_may_not_write_is_not_called_lost(
    bus: SqliteBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.close()
    bus.path.write_bytes(b"this is a text\n" * 500)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BusError, match="may not write it; read it as the run's user") as caught:
        SqliteBus(bus.path)
    assert "backup" not in str(caught.value)


def test_headers_that_are_no_object_are_kept_for_verify_to_name(bus: SqliteBus) -> None:
    with sqlite3.connect(bus.path) as plain:
        plain.execute("insert into records values ('journal', 0, 0, '0', 'broken', x'00')")
        plain.execute("insert into records values ('journal', 0, 1, '0', '[1]', x'00')")
    plain.close()
    assert [record.headers for record in bus.read("journal", 0, 0)] == [{"unreadable": "broken"}, {"unreadable": "[1]"}]


def test_headers_that_stand_twice_or_are_no_text_are_kept_for_verify_to_name(bus: SqliteBus) -> None:
    twice = '{"a": "1", "b": "2", "\\u0061": "3"}'
    with sqlite3.connect(bus.path) as plain:
        plain.execute("insert into records values ('journal', 0, 0, '0', ?, x'00')", (twice,))
        plain.execute("""insert into records values ('journal', 0, 1, '0', '{"a": [1], "b": "2"}', x'00')""")
    plain.close()
    found = [record.headers for record in bus.read("journal", 0, 0)]
    assert found == [{"a": "3", "a (twice)": "1", "b": "2"}, {"b": "2", "a (no text)": "[1]"}]


@pytest.mark.parametrize(
    ("row", "partition", "what"),
    [
        ("'commands', 0, -1, '0', '{}', x'00'", 0, "partition 0 and offset -1 is no record: offset is negative"),
        ("'commands', 0, 1.5, '0', '{}', x'00'", 0, "offset 1.5 is no record: offset is real"),
        ("'commands', 0, 'x', '0', '{}', x'00'", 0, "offset 'x' is no record: offset is text"),
        ("'commands', -1, 0, '0', '{}', x'00'", -1, "partition -1 and offset 0 is no record: partition is negative"),
        ("'commands', 0.5, 0, '0', '{}', x'00'", 0, "partition 0.5 and offset 0 is no record: partition is real"),
        ("'commands', 'x', 0, '0', '{}', x'00'", 0, "partition 'x' and offset 0 is no record: partition is text"),
        ("'commands', 0, 1, '0', x'7b7d', x'00'", 0, "offset 1 is no record: headers is blob"),
        ("'commands', 0, 1, '0', '{}', 'text'", 0, "offset 1 is no record: value is text"),
    ],
)
def test_a_row_that_no_writer_writes_is_told_and_moves_no_end(
    bus: SqliteBus, row: str, partition: int, what: str
) -> None:
    with sqlite3.connect(bus.path) as plain:
        plain.execute("insert into records values ('commands', 0, 0, '0', '{}', x'00')")
        plain.execute("insert into records values ('acknowledgements', 0, 0, 'oms', '{}', 'text of others')")
        plain.execute(f"insert into records values ({row})")
    plain.close()
    told: list[tuple[str, int, str]] = []
    bus.skip_foreign_records(lambda *found: told.append(found))
    assert [found[:2] for found in told] == [("commands", partition)]
    assert what in told[0][2]
    offsets = [record.offset for record in bus.read("commands", 0, 0)]
    assert (bus.partitions("commands"), bus.end("commands", 0)) == ([0], len(offsets))
    assert offsets == list(range(len(offsets)))


def test_open_bus_takes_a_path_relative_to_the_configuration_and_refuses_other_urls(tmp_path: Path) -> None:
    bus = open_bus("sqlite:seawall.db", tmp_path)
    bus.close()
    assert (tmp_path / "seawall.db").exists()
    for url in ("sqlite:", "seawall.db", "", "amqp://broker:5672"):
        with pytest.raises(UsageError, match=r"sqlite:seawall\.db"):
            open_bus(url, tmp_path)


def test_a_follower_of_a_bus_without_a_cluster_sees_everything_at_once(bus: SqliteBus) -> None:
    follower = bus.follow("journal")
    assert (follower.partitions(), follower.poll(0, 0)) == ([], [])
    writer = cluster_of(bus).copier([("journal", 1)])
    for value in (b"a", b"b"):
        writer.append("journal", 1, "1", value, {})
    writer.flush()
    writer.close()
    assert (follower.partitions(), [stored.value for stored in follower.poll(1, 1)]) == ([1], [b"b"])
    assert not follower.may_lag(1)


def test_what_is_no_cluster_has_nothing_to_make_to_fence_or_to_wait_for(bus: SqliteBus) -> None:
    cluster = cluster_of(bus)
    assert cluster.provide({"journal": 3}, make=True) == []
    assert (cluster.fences, cluster.has_open_transaction("journal", 0)) == (False, False)
