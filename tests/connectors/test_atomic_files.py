"""Files that are written whole or not at all: what stood there stands until all of the new one is on the disk."""

import resource
import threading
from pathlib import Path

import pytest

from seawall.connectors.files import write_atomically


def test_a_file_takes_the_place_of_one_that_stands_there_and_folders_are_made(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "b" / "one", tmp_path / "a" / "two"
    write_atomically([(first, b"old"), (second, b"")])
    write_atomically([(first, b"new")])
    assert (first.read_bytes(), second.read_bytes()) == (b"new", b"")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "one", "two"]


def test_what_stood_there_stands_where_the_new_one_has_no_room(tmp_path: Path) -> None:
    target = tmp_path / "one"
    write_atomically([(target, b"old")])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically([(target, bytes(5000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_writers_of_one_file_at_the_same_time_leave_what_one_of_them_wrote(tmp_path: Path) -> None:
    target, wanted = tmp_path / "one", [bytes([n]) * 100_000 for n in range(4)]
    failed: list[OSError] = []

    def write(data: bytes) -> None:
        try:
            for _ in range(20):
                write_atomically([(target, data)])
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=[data]) for data in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert target.read_bytes() in wanted
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_as_long_as_the_system_takes_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "\N{GRINNING FACE}" * 63):
        write_atomically([(tmp_path / name, b"here")])
        assert (tmp_path / name).read_bytes() == b"here"
