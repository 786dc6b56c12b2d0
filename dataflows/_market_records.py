"""Market records: picks them out of a stream by their bytes, before they are decoded."""

import re
from collections.abc import Callable
from typing import Any

from seawall.connectors.files import Lines
from seawall.connectors.mapping import RecordMapping, load_mappings
from seawall.dataflows._sources import check_future
from seawall.schemas.configuration import Configuration
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Rejected
from seawall.schemas.events import Mark

KINDS = b"trade|quote|depth|bar|funding|open_interest|liquidation|venue_status"
_KINDS = {*KINDS.decode().split("|"), "mark", "instrument", "notice"}
# What says more of a market without being its data: none of it alone makes a market to watch.
MORE = b"|instrument|notice"


def _one_of(kinds: bytes) -> Callable[[bytes], Any]:
    """Return what finds records of some kinds; a mark without a venue is somebody's settled price, not the market's."""
    found = rb'"type"\s*:\s*"(?:(?:%s)"|mark"(?=.*"venue"\s*:))|"venue"\s*:.*"type"\s*:\s*"mark"'
    return re.compile(found % kinds).search


_wanted, _readable = _one_of(KINDS), _one_of(KINDS + MORE)
_type = re.compile(rb'"type"\s*:\s*"([a-z_]+)"').search
_READABLE = frozenset((KINDS + MORE).split(b"|"))


class Skipped:
    """Number of market records that could not be read."""

    def __init__(self) -> None:
        self.count = 0


def read_event(raw: bytes, latest_us: int, skipped: Skipped, feed: RecordMapping | None = None) -> Any:
    """Return the market's record in some bytes, or one that tells of it; None where there is none that can be read."""
    try:
        line = raw if feed is None else _mapped(raw, feed)
        if _is_other(line) or not _readable(line):
            return None
        event = decode_event(line)
        check_future(event, latest_us)
    except Rejected:
        skipped.count += 1
        return None
    return None if isinstance(event, Mark) and not event.venue else event


def _is_other(line: bytes) -> bool:
    """Tell at half the cost that a record is none of the market's, as most are; False says nothing."""
    found = _type(line)
    if found is None or line.rfind(b'"type"') != found.start():
        return False
    kind = found[1]
    return kind not in _READABLE and (kind != b"mark" or line.rfind(b'"venue"') < 0)


def _mapped(raw: bytes, feed: RecordMapping) -> bytes:
    """Return a foreign record as an input record; nothing where it becomes none of the market's."""
    found = feed.read(raw) if may_hold_market_records(feed) else None
    return b"" if found is None else found[1]


def may_hold_market_records(feed: RecordMapping | None) -> bool:
    """Tell whether anything of a source can be the market's: of a mapping's, where it makes records of such kinds."""
    return feed is None or bool(feed.kinds & _KINDS)


def _is_market(raw: bytes, feed: RecordMapping | None) -> bool:
    """Tell whether some bytes are a record of the market."""
    try:
        return bool(_wanted(raw if feed is None else _mapped(raw, feed)))
    except Rejected:
        return False


def has_market_records(configuration: Configuration) -> bool:
    """Tell whether any file holds a record of the market; stops at the first."""
    feeds = load_mappings(configuration)
    for path, name in zip(configuration.events, configuration.sources, strict=True):
        feed = feeds.get(name)
        lines = Lines(configuration.directory / path)
        try:
            for chunk in iter(lines.read, []):
                raws = (raw for _, _, raw in chunk if isinstance(raw, bytes))
                if any(_is_market(raw, feed) for raw in raws):
                    return True
        finally:
            lines.close()
    return False
