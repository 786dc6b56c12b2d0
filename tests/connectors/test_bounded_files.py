"""Bounded files: every line once, with its number and offset, from any place, in bounded memory."""

import gzip
import hashlib
from pathlib import Path

import pytest

from seawall.connectors import files
from seawall.connectors.files import HEAD_BYTES, LINE_BYTES_MAX, Line, Lines, Oversize
from seawall.schemas.errors import UsageError


def lines_of(path: Path, line: int = 1, offset: int = 0) -> list[Line]:
    reader = Lines(path, line, offset)
    return [line for chunk in iter(reader.read, []) for line in chunk]


def written(folder: Path, content: bytes, name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_lines_have_their_numbers_and_the_offset_after_them(tmp_path: Path, name: str) -> None:
    assert lines_of(written(tmp_path, b"a\n\n  \nbc\nd", name)) == [(1, 2, b"a"), (4, 9, b"bc"), (5, 10, b"d")]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_an_empty_file_has_no_lines(tmp_path: Path, name: str) -> None:
    assert lines_of(written(tmp_path, b"", name)) == []


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 18])
def test_the_size_of_chunks_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    path = written(tmp_path, b"one\n\r\ntwo\n\n\nthree\r\nfour")
    want = lines_of(path)
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk)
    assert lines_of(path) == want


def test_reading_resumes_after_any_line(tmp_path: Path) -> None:
    path = written(tmp_path, b"one\n\ntwo\nthree\n  \nfour")
    want = lines_of(path)
    for at, (number, offset, _) in enumerate(want):
        assert lines_of(path, number + 1, offset) == want[at + 1 :]


@pytest.mark.parametrize("more", [b"\nsecond\n", b"second\n"])
def test_a_last_line_without_line_feed_is_over_when_the_file_grows(tmp_path: Path, more: bytes) -> None:
    path = written(tmp_path, b"first")
    [(number, offset, _)] = lines_of(path)
    path.write_bytes(b"first" + more)
    [(following, _, content)] = lines_of(path, number + 1, offset)
    assert (following, content) == (2, b"second")


@pytest.mark.parametrize("end", [b"\nafter\n", b""])
@pytest.mark.parametrize("chunk", [1 << 10, 1 << 18, 1 << 23])
def test_of_an_oversize_line_the_head_the_length_and_the_hash_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, chunk: int
) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", chunk)
    long = b"x" * (LINE_BYTES_MAX + 1)
    path = written(tmp_path, b"before\n" + long + end)
    got = [content for _, _, content in lines_of(path)]
    oversize = Oversize(long[:HEAD_BYTES], len(long), hashlib.sha256(long).hexdigest())
    assert got == [b"before", oversize] + ([b"after"] if end else [])
    assert lines_of(path)[1][1] == len(b"before\n" + long + end[:1])


def test_a_line_of_exactly_the_limit_is_kept_whole(tmp_path: Path) -> None:
    assert lines_of(written(tmp_path, b"x" * LINE_BYTES_MAX + b"\n"))[0][2] == b"x" * LINE_BYTES_MAX


@pytest.mark.parametrize("kind", ["missing", "folder", "no gzip", "cut gzip", "shorter"])
def test_what_cannot_be_read_is_a_usage_error_of_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("in.jsonl.gz" if "gzip" in kind else "in.jsonl")
    if kind == "folder":
        path.mkdir()
    elif kind == "no gzip":
        path.write_bytes(b"{}\n")
    elif kind == "cut gzip":
        path.write_bytes(gzip.compress(bytes(range(256)) * 999)[:500])
    elif kind == "shorter":
        path.write_bytes(b"a\n")
    with pytest.raises(UsageError) as caught:
        lines_of(path, offset=9 if kind == "shorter" else 0)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
