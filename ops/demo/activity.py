"""The demo's people: what clients and the house trade, move, report and announce while prices fall.

Clients trade against the house, which buys the same on venues (hedges), so that it is flat until a venue breaks, a
hedge is taken away by auto-deleveraging, or a client's positions come back to it in a liquidation.
"""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

from seawall.ops.demo.market import (
    LISTINGS,
    PERPETUALS,
    START_US,
    VENUES,
    Placed,
    placed,
    quantity_text,
    traded_price,
)
from seawall.ops.demo.plot import (
    BLOCKED_S,
    CAMPAIGNS,
    NOTICES,
    OPENING_BALANCES,
    OPENING_POSITIONS,
    TRANSFERS,
    VENUE_STATES,
    Campaign,
)

GROVE_FILLS = 650


def activity_records(rng: Random) -> Iterator[Placed]:
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


def _openings() -> Iterator[Placed]:
    for account, asset, amount in OPENING_BALANCES:
        yield _placed(0.1, "balance_report", account=account, asset=asset, amount=amount, kind="opening")
    for account, instrument, units, price in OPENING_POSITIONS:
        held = {"quantity": _signed(instrument, units), "entry_price": price, "kind": "opening"}
        yield _placed(0.2, "position_report", account=account, instrument=instrument, **held)


# --- fills ------------------------------------------------------------------------------------------------------------


def _fills(rng: Random) -> Iterator[Placed]:
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


def _fill(rng: Random, name: str, account: str, campaign: Campaign, units: int, at_us: int) -> Placed:
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
    return Placed(at_us, record)


# --- orders, reports, obligations -------------------------------------------------------------------------------------


def _orders() -> Iterator[Placed]:
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


def _reports(fills: list[Placed]) -> Iterator[Placed]:
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


def _held(fills: list[Placed], account: str, instrument: str, until_us: int) -> int:
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


def _placed(second: float, type_: str, /, **fields: Any) -> Placed:
    return placed(START_US + round(second * 1e6), type_, **fields)
