"""The demo's scenario: a folder of input files, written from a seed, that ``seawall run`` takes like any other.

Real inputs are never clean, so neither are these: records that come late, repeated fills, a bust and a correction, and
records that must be rejected, one for each of a dozen rules.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from seawall.ops.demo import _world
from seawall.ops.demo._activity import activity_records
from seawall.ops.demo._world import END_S, START_US, PlacedRecord, market_records

REPEATED = 6
LATE = 8
MOMENTS = (
    (0, "A quiet Friday evening: bitcoin at 122,000, clients build positions, the house hedges them on three venues"),
    (300, "Tariffs are announced, prices start to fall"),
    (480, "Bitcoin below 113,000, depth is a fraction of what it was"),
    (520, "binance is degraded"),
    (548, "binance blocks withdrawals; bitcoin prints about 101,400 there, USDe 0.65"),
    (556, "Liquidations, and auto-deleveraging takes our hedges on hyperliquid"),
    (590, "Margin arrives, prices recover"),
    (640, "Birch Capital says that it cannot pay"),
)


class Moment(NamedTuple):
    """Something worth telling while the demo runs: ``time_us`` is event time."""

    time_us: int
    text: str


class Scenario(NamedTuple):
    """Files of a scenario that was written.

    Attributes
    ----------
    configuration
        The configuration file to run.
    records, fills, rejected
        Lines in the input files without the reference records; fills among them; lines that must end in ``rejects``.
    start_us, end_us
        Event time of the story.
    moments
        The story, in order.
    """

    configuration: Path
    seed: int
    records: int
    fills: int
    rejected: int
    start_us: int
    end_us: int
    moments: tuple[Moment, ...]


def write_scenario(folder: Path, seed: int) -> Scenario:
    """Write reference.jsonl, events.jsonl, limits.toml, playbook.toml and desk.toml into a folder.

    Parameters
    ----------
    folder
        Made when it is not there; files of these names are replaced.
    seed
        The same seed gives the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scenario = write_scenario(Path(folder), seed=7)
    ...     scenario.configuration.name, scenario.records > 20_000
    ('desk.toml', True)
    """
    rng = Random(seed)
    events = [*market_records(rng), *activity_records(rng)]
    broken = list(_broken())
    events += [*_trouble(rng, events), *broken]
    events.sort(key=lambda placed: placed.at_us)
    folder.mkdir(parents=True, exist_ok=True)
    reference = [PlacedRecord(0, record) for record in _world.reference_records()]
    (folder / "reference.jsonl").write_bytes(b"".join(map(_line, reference)))
    (folder / "events.jsonl").write_bytes(b"".join(map(_line, events)))
    (folder / "limits.toml").write_text(_world.limits_text(), "utf-8")
    (folder / "playbook.toml").write_text(_world.playbook_text(), "utf-8")
    (folder / "desk.toml").write_text(_world.CONFIGURATION, "utf-8")
    return Scenario(
        configuration=folder / "desk.toml",
        seed=seed,
        records=len(events),
        fills=sum(isinstance(placed.record, dict) and placed.record["type"] == "fill" for placed in events),
        rejected=len(broken),
        start_us=START_US,
        end_us=START_US + END_S * 1_000_000,
        moments=tuple(Moment(START_US + second * 1_000_000, text) for second, text in MOMENTS),
    )


def _line(placed: PlacedRecord) -> bytes:
    record = placed.record
    return (record if isinstance(record, bytes) else json.dumps(record, separators=(",", ":")).encode()) + b"\n"


def _trouble(rng: Random, events: list[PlacedRecord]) -> Iterator[PlacedRecord]:
    """Yield repeated fills, a correction, a bust, and records that were taken out to be placed later."""
    fills = [placed for placed in events if _is(placed, "fill")]
    for _ in range(REPEATED):
        chosen = fills[rng.randrange(len(fills))]
        yield PlacedRecord(chosen.at_us + rng.randrange(2_000_000, 30_000_000), chosen.record)
    grove = [p.record for p in fills if _is(p, "fill", account="grove-quant/beta", instrument="BTC-PERP")]
    for number, action, second in ((40, "correct", 400.5), (60, "bust", 420.5)):
        fill = grove[number]
        assert isinstance(fill, dict)
        time_us = START_US + int(second * 1e6)
        price = fill["price"] if action == "bust" else f"{float(fill['price']) - 12.5:.1f}"
        changed = {"event_time_us": time_us, "fill_id": f"{action}-1", "action": action, "ref_fill_id": fill["fill_id"]}
        yield PlacedRecord(time_us, {**fill, **changed, "price": price})
    for kind in ("fill", "mark") * (LATE // 2):
        at = rng.randrange(len(events))
        while not _is(events[at], kind):
            at = (at + 1) % len(events)
        late = events.pop(at)
        yield PlacedRecord(late.at_us + rng.randrange(1_000_000, 4_000_000), late.record)


def _is(placed: PlacedRecord, kind: str, **fields: str) -> bool:
    record = placed.record
    wanted = {"type": kind, **fields}
    return isinstance(record, dict) and all(record.get(name) == value for name, value in wanted.items())


def _broken() -> Iterator[PlacedRecord]:
    """Yield records that must be rejected, a minute apart; the comment names the rule."""
    mark = {"type": "mark", "instrument": "BTC-PERP", "venue": "okx"}
    fill = {"type": "fill", "account": "alder-fund/main", "instrument": "BTC-PERP", "side": "buy", "price": "121000"}
    second = iter(range(47, END_S, 55))
    for record in (
        b'{"type":"fill","event_time_us":1760129147000000,"fill_id":"f0',  # JSON_MUST_BE_VALID
        {**mark, "price": "-121000.0"},  # PRICE_MUST_BE_POSITIVE
        {**fill, "fill_id": "x1", "account": "zephyr/main", "quantity": "1"},  # ACCOUNT_MUST_BE_KNOWN
        {**mark, "price": "NaN"},  # NUMBER_MUST_BE_FINITE or DECIMAL_MUST_BE_WELL_FORMED
        {**fill, "fill_id": "x2", "quantity": "0.0005"},  # QUANTITY_MUST_BE_A_MULTIPLE_OF_THE_INCREMENT
        {**mark, "price": "119000.0", "colour": "red"},  # FIELD_MUST_BE_KNOWN
        {**fill, "fill_id": "f00001", "quantity": "77"},  # ID_MUST_NOT_BE_REUSED
        {**fill, "fill_id": "x3", "quantity": "1", "action": "bust", "ref_fill_id": "x0"},  # FILL_MUST_BE_KNOWN
        {"type": "notice", "notice_id": "n-x", "subject": "okx", "kind": "outage", "severity": 7},  # ..._IN_ITS_RANGE
        b'{"type":"mark","instrument":"BTC-PERP","price":"109000.0","venue":"caf\xe9"}',  # TEXT_MUST_BE_UTF_8
        {**mark, "instrument": "DOGE-PERP", "price": "0.2"},  # INSTRUMENT_MUST_BE_KNOWN
        {**mark, "price": "112000.0", "event_time_us": 4_070_908_800_000_000},  # ..._MUST_NOT_BE_IN_THE_FUTURE
    ):
        yield _broken_at(START_US + next(second) * 1_000_000, record)


def _broken_at(time_us: int, record: dict[str, Any] | bytes) -> PlacedRecord:
    return PlacedRecord(time_us, record if isinstance(record, bytes) else {"event_time_us": time_us, **record})
