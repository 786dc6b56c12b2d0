"""Recordings of venue messages: one message per line, with the time at which it was received.

Understood lines, as public recorders write them:

- ``<Unix seconds>: <JSON>``: a message received;
- ``<URL> -> <Unix seconds>: <JSON>``: the answer to a request;
- ``<URL> <- <Unix seconds>: <JSON>`` (sent), ``<URL> <-> <Unix seconds>`` (opened) and ``configuration: <JSON>``: no
  message;
- ``<JSON>`` alone: a message whose time of receipt is not known.

Files may be gzipped. Lines are read one at a time; one over 64 MiB ends the reading with an error.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, NamedTuple, cast

from seawall.schemas.errors import UsageError

LINE_BYTES_MAX = 64 << 20

_received = re.compile(rb"(\d{1,12}(?:\.\d{1,9})?): (.*)", re.DOTALL).fullmatch
_answered = re.compile(rb"(\S+) -> (\d{1,12}(?:\.\d{1,9})?): (.*)", re.DOTALL).fullmatch
_sent = re.compile(rb"(\S+ <- \d[\d.]*: .*|\S+ <-> \d[\d.]*|configuration: .*)", re.DOTALL).fullmatch


class Message(NamedTuple):
    """What a venue sent: when it was received (-1: not known), the address it answers, its bytes, its line from 1."""

    received_us: int
    url: str
    content: bytes
    line: int


def read_messages(path: Path) -> Iterator[Message]:
    """Yield the messages of a recording; every other line than those listed above is yielded as a message, too.

    Raises
    ------
    UsageError
        The file is missing, cannot be read, or has a line over 64 MiB.
    """
    try:
        with _open(path) as file:
            line = 0
            while content := file.readline(LINE_BYTES_MAX):
                line += 1
                if len(content) == LINE_BYTES_MAX:
                    raise UsageError(f"{path.name} line {line} is over 64 MiB; is it a recording of messages?")
                message = _message(content.strip(), line)
                if message is not None:
                    yield message
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; name a recording") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _message(content: bytes, line: int) -> Message | None:
    if found := _received(content):
        return Message(_microseconds(found[1]), "", found[2], line)
    if not content or _sent(content):
        return None
    if found := _answered(content):
        return Message(_microseconds(found[2]), found[1].decode(errors="replace"), found[3], line)
    return Message(-1, "", content, line)


def _microseconds(seconds: bytes) -> int:
    return int(Decimal(seconds.decode()) * 1_000_000)
