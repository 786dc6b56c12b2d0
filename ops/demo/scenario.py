"""Plot and people of the demo: trades, transfers, reports and announcements while prices fall.

Clients trade against the house, which buys the same on venues (hedges), so that it is flat until a venue breaks, a
hedge is taken away by auto-deleveraging, or a client's positions come back to it in a liquidation.

Times are seconds after the start. Amounts of collateral were chosen so that prices take each client where the story
needs it: one to a margin call that is met, one to default with an affiliate, one down with its stablecoins.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from seawall.ops.demo import _world
from seawall.ops.demo._world import (
    END_S,
    LISTINGS,
    PERPETUALS,
    START_US,
    UNCOVERED,
    VENUES,
    PlacedRecord,
    market_records,
    place_record,
    quantity_text,
    traded_price,
)

# The demo's plot, as tables: who wants to trade what, who moves money, which venues fail and what is announced.

BLOCKED_S = 548  # from here binance lets no money out, and hedges go elsewhere


class Campaign(NamedTuple):
    """One intention, traded in many fills: ``units`` are signed increments of the instrument."""

    account: str
    instrument: str
    units: int
    begin_s: float
    end_s: float
    fills: int
    source: str = "order"


CAMPAIGNS = (
    Campaign("alder-fund/main", "BTC-PERP", 150_000, 20, 200, 90),
    Campaign("alder-fund/main", "BTC-PERP", -40_000, 575, 610, 20),
    Campaign("birch-capital/main", "ETH-PERP", 900_000, 25, 220, 120),
    Campaign("birch-capital/main", "SOL-PERP", 1_200_000, 30, 240, 120),
    Campaign("birch-offshore/main", "SOL-PERP", 150_000, 40, 200, 50),
    Campaign("cedar-trading/binance", "BTC-PERP", 300_000, 20, 210, 110),
    Campaign("dune-partners/basis", "BTC-26DEC25", 200_000, 30, 200, 70),
    Campaign("dune-partners/basis", "BTC-PERP", -200_000, 30, 200, 70),
    Campaign("dune-partners/basis", "BTC-26DEC25", -80_000, 400, 470, 30),
    Campaign("dune-partners/basis", "BTC-PERP", 80_000, 400, 470, 30),
    Campaign("dune-partners/directional", "SOL-PERP", -200_000, 60, 240, 60),
    Campaign("elm-family-office/vault", "BTC-PERP-INVERSE", -60_000, 30, 150, 40),
    Campaign("elm-family-office/vault", "BTC/USD", 100_000, 320, 440, 30),
    Campaign("grove-quant/alpha", "BTC-PERP", 60_000, 525, 548, 50),
    Campaign(UNCOVERED, "ETH-PERP", 200, 130, 150, 3),
    Campaign("birch-offshore/main", "SOL-PERP", -150_000, 560, 575, 25, "liquidation"),
    Campaign("birch-capital/main", "SOL-PERP", -1_200_000, 556, 600, 90, "liquidation"),
    Campaign("birch-capital/main", "ETH-PERP", -900_000, 560, 610, 90, "liquidation"),
    Campaign("cedar-trading/binance", "BTC-PERP", -120_000, 564, 580, 30, "liquidation"),
    Campaign("house/hyperliquid", "BTC-PERP", 150_000, 566, 572, 12, "adl"),
    Campaign("house/hyperliquid", "SOL-PERP", 100_000, 567, 573, 8, "adl"),
)
# account, asset, amount, second, purpose
TRANSFERS = (
    ("alder-fund/main", "USD", "2730000", 2, "deposit"),
    ("birch-capital/main", "USD", "13000000", 2, "deposit"),
    ("birch-offshore/main", "USD", "880000", 3, "deposit"),
    ("cedar-trading/binance", "USDE", "10200000", 3, "deposit"),
    ("dune-partners/basis", "USD", "6000000", 4, "deposit"),
    ("dune-partners/directional", "USD", "1500000", 4, "deposit"),
    ("elm-family-office/vault", "BTC", "120", 5, "deposit"),
    ("elm-family-office/vault", "USD", "3000000", 5, "deposit"),
    ("grove-quant/alpha", "USD", "400000", 6, "deposit"),
    ("grove-quant/beta", "ETH", "400", 6, "deposit"),
    ("grove-quant/beta", "USD", "500000", 6, "deposit"),
    (UNCOVERED, "USD", "5000", 7, "deposit"),
    ("dune-partners/basis", "USD", "-1000000", 350, "withdrawal"),
    ("elm-family-office/vault", "USD", "-250000", 505, "withdrawal"),
    ("grove-quant/alpha", "USD", "400000", 570, "deposit"),
    ("alder-fund/main", "USD", "2500000", 590, "deposit"),
    ("house/meridian", "USD", "-2000000", 620, "variation_margin"),
    ("cedar-trading/binance", "USD", "3000000", 630, "deposit"),
)
OPENING_BALANCES = (
    ("house/binance", "USD", "30000000"),
    ("house/hyperliquid", "USD", "22000000"),
    ("house/okx", "USD", "20000000"),
    ("house/okx", "USDE", "2000000"),
    ("house/meridian", "USD", "5000000"),
)
OPENING_POSITIONS = (
    ("house/hyperliquid", "BTC-PERP", -350_000, "122000"),
    ("house/hyperliquid", "SOL-PERP", -200_000, "222"),
    ("house/meridian", "BTC-26DEC25", -150_000, "123450"),
)
VENUE_STATES = (
    ("binance", "up", 0, ""),
    ("hyperliquid", "up", 0, ""),
    ("okx", "up", 0, ""),
    ("binance", "degraded", 520, "order entry slow"),
    ("binance", "withdrawals_blocked", BLOCKED_S, "withdrawals suspended"),
    ("okx", "degraded", 556, "market data late"),
    ("okx", "up", 596, ""),
    ("binance", "degraded", 690, "withdrawals open again"),
    ("binance", "up", 740, ""),
)
NOTICES = (
    ("n-tariffs", "US", "regulation", 1, 300, "tariffs announced"),
    ("n-rating", "meridian-otc", "rating", 1, 470, "outlook negative"),
    ("n-outage", "binance", "outage", 2, 531, "order entry and transfers disturbed"),
    ("n-usde", "USDE", "reserves", 2, 563, "trades far below its peg on one venue"),
    ("n-birch", "birch-capital", "insolvency", 3, 640, "client says that it cannot pay"),
)


# The demo's people: what clients and the house trade, move, report and announce while prices fall.

GROVE_FILLS = 650


def activity_records(rng: Random) -> Iterator[PlacedRecord]:
    """Yield all that people do, not yet in order of time."""
    yield from _openings()
    for venue, status, second, detail in VENUE_STATES:
        yield _placed(second, "venue_status", venue=venue, status=status, **({"detail": detail} if detail else {}))
    for name, subject, kind, severity, second, detail in NOTICES:
        yield _placed(second, "notice", notice_id=name, subject=subject, kind=kind, severity=severity, detail=detail)
    for number, (account, asset, amount, second, purpose) in enumerate(TRANSFERS):
        held = {"segregated": True, "held_by": "keel-custody"} if asset == "BTC" else {}
        moved = {"account": account, "asset": asset, "amount": amount, "purpose": purpose}
        yield _placed(second + 0.001 * number, "collateral", transfer_id=f"t{number:03}", **moved, **held)
    fills = list(_fills(rng))
    yield from fills
    yield from _orders()
    yield from _reports(fills)


def _openings() -> Iterator[PlacedRecord]:
    for account, asset, amount in OPENING_BALANCES:
        yield _placed(0.1, "balance_report", account=account, asset=asset, amount=amount, kind="opening")
    for account, instrument, units, price in OPENING_POSITIONS:
        held = {"quantity": _signed(instrument, units), "entry_price": price, "kind": "opening"}
        yield _placed(0.2, "position_report", account=account, instrument=instrument, **held)


# --- fills ------------------------------------------------------------------------------------------------------------


def _fills(rng: Random) -> Iterator[PlacedRecord]:
    number = 0
    for campaign in CAMPAIGNS:
        for at_us, units in _pieces(rng, campaign):
            for account, delay_us in _parties(rng, campaign, at_us):
                number += 1
                yield _fill(rng, f"f{number:05}", account, campaign, units, at_us + delay_us)
    for account in ("grove-quant/alpha", "grove-quant/beta"):
        for at_us, instrument, units in _market_making(rng):
            number += 1
            yield _fill(rng, f"f{number:05}", account, Campaign(account, instrument, 0, 0, 0, 0), units, at_us)


def _pieces(rng: Random, campaign: Campaign) -> Iterator[tuple[int, int]]:
    """Yield when and how many units of each fill; they add up to the campaign's."""
    cuts = sorted({rng.randrange(1, abs(campaign.units)) for _ in range(campaign.fills - 1)})
    sign = 1 if campaign.units > 0 else -1
    bounds = [0, *cuts, abs(campaign.units)]
    length_us = int((campaign.end_s - campaign.begin_s) * 1e6)
    times = sorted(rng.randrange(length_us) for _ in bounds[1:])
    for time_us, (low, high) in zip(times, pairwise(bounds), strict=True):
        yield START_US + int(campaign.begin_s * 1e6) + time_us, sign * (high - low)


def _parties(rng: Random, campaign: Campaign, at_us: int) -> Iterator[tuple[str, int]]:
    """Yield who gets a fill, and after how many microseconds: the account, then the house's hedge if there is one."""
    yield campaign.account, 0
    if campaign.source == "adl" or (campaign.source == "liquidation" and rng.random() < 0.6):
        return
    venues = LISTINGS[campaign.instrument].venues
    if at_us >= START_US + BLOCKED_S * 1_000_000:
        venues = tuple(venue for venue in venues if venue != "binance")
    weights = {"binance": 5, "hyperliquid": 2, "okx": 3}
    chosen = [venue for venue in venues for _ in range(weights[venue])]
    yield f"house/{chosen[rng.randrange(len(chosen))]}", rng.randrange(20_000, 300_000)


def _market_making(rng: Random) -> Iterator[tuple[int, str, int]]:
    """Yield small fills on both sides, leaning against what is held."""
    typical = {"BTC-PERP": 200, "ETH-PERP": 500, "SOL-PERP": 2_000}
    held = dict.fromkeys(PERPETUALS, 0)
    for time_us in sorted(rng.randrange(10_000_000, 775_000_000) for _ in range(GROVE_FILLS)):
        instrument = PERPETUALS[rng.randrange(3)]
        lean = 0.3 if held[instrument] > 0 else 0.7
        units = rng.randrange(typical[instrument] // 4, 2 * typical[instrument]) * (1 if rng.random() < lean else -1)
        held[instrument] += units
        yield START_US + time_us, instrument, units


def _fill(rng: Random, name: str, account: str, campaign: Campaign, units: int, at_us: int) -> PlacedRecord:
    holder, _, place = account.partition("/")
    listing = LISTINGS[campaign.instrument]
    venue = place if place in VENUES else listing.venues[-1]
    side = "buy" if units > 0 else "sell"
    price = traded_price(rng, campaign.instrument, venue, at_us, side)
    record = {
        "type": "fill",
        "event_time_us": at_us,
        "fill_id": name,
        "account": account,
        "instrument": campaign.instrument,
        "side": side,
        "quantity": quantity_text(campaign.instrument, units),
        "price": price,
        "venue": venue,
    }
    if not listing.inverse:
        worth = abs(units) / 10**listing.quantity_places * float(price)
        record |= {"fee": f"{worth * 0.0002:.2f}", "fee_asset": "USD"}
    if campaign.source != "order":
        record["source"] = campaign.source
    elif holder == "house":
        record |= {"strategy": "hedge", "trader": "hedger"}
    return PlacedRecord(at_us, record)


# --- orders, reports, obligations -------------------------------------------------------------------------------------


def _orders() -> Iterator[PlacedRecord]:
    """Yield working orders: each campaign of a client rests for a while and is gone when it ends."""
    for number, campaign in enumerate(CAMPAIGNS):
        if campaign.source != "order":
            continue
        side = "buy" if campaign.units > 0 else "sell"
        order = {
            "order_id": f"o{number:02}",
            "account": campaign.account,
            "instrument": campaign.instrument,
            "side": side,
        }
        for part in range(4):
            second = campaign.begin_s + (campaign.end_s - campaign.begin_s) * part / 3
            left = quantity_text(campaign.instrument, campaign.units * (3 - part) // 3)
            yield _placed(second, "order", **order, open_quantity=left)


def _reports(fills: list[PlacedRecord]) -> Iterator[PlacedRecord]:
    """Yield what venues say we hold, once right and once not, after the auto-deleveraging; and what they owe us."""
    for account, second, missing in (("house/okx", 260.0, 0), ("house/hyperliquid", 600.0, 2_500)):
        held = _held(fills, account, "BTC-PERP", START_US + int(second * 1e6)) + missing
        report = {"account": account, "instrument": "BTC-PERP", "quantity": _signed("BTC-PERP", held)}
        yield _placed(second, "position_report", **report)
    # okx values our stablecoins at less than we sent.
    yield _placed(650, "balance_report", account="house/okx", asset="USDE", amount="1999000")
    owed = {"obligation_id": "w1", "from": "binance", "to": "house", "asset": "USD", "kind": "withdrawal"}
    due = {"due_us": START_US + 600_000_000}
    yield _placed(525, "obligation", **owed, amount="5000000", **due)
    yield _placed(605, "obligation", **owed, amount="5000000", **due, status="failed")


def _held(fills: list[PlacedRecord], account: str, instrument: str, until_us: int) -> int:
    """Return the units that an account holds just before ``until_us``."""
    places = 10 ** LISTINGS[instrument].quantity_places
    held = sum(units for name, of, units, _ in OPENING_POSITIONS if (name, of) == (account, instrument))
    for at_us, record in fills:
        if isinstance(record, dict) and (record["account"], record["instrument"]) == (account, instrument):
            units = round(float(record["quantity"]) * places) * (1 if record["side"] == "buy" else -1)
            held += units if at_us < until_us else 0
    return held


def _signed(instrument: str, units: int) -> str:
    return ("-" if units < 0 else "") + quantity_text(instrument, units)


def _placed(second: float, type_: str, /, **fields: Any) -> PlacedRecord:
    return place_record(START_US + round(second * 1e6), type_, **fields)


# The demo's scenario: a folder of input files, written from a seed, that ``seawall run`` takes like any other.
#
# Real inputs are never clean, so neither are these: records that come late, repeated fills, a bust and a correction,
# and records that must be rejected, one for each of a dozen rules.

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
