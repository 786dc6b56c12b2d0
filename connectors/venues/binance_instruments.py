"""Binance's instruments: from ``exchangeInfo``, or from a futures symbol alone."""

import re
from typing import Any

from seawall.connectors.venues.messages import Unreadable, decimal, listed, milliseconds, text
from seawall.connectors.venues.terms import eight_utc, split_quote
from seawall.schemas import events as ev

GONE = frozenset({"SETTLING", "CLOSE", "DELIVERED"})
KINDS: dict[str, Any] = {"SPOT": "spot", "PERPETUAL": "perpetual"}

_dated = re.compile(r"(.+)_(\d{2})(\d{2})(\d{2})").fullmatch


def instrument_record(item: Any, instrument: str) -> ev.Instrument:
    """Return the record of an entry of ``exchangeInfo``, spot or futures.

    Raises
    ------
    Unreadable
        The entry lacks what a record needs.
    """
    steps = [f for f in listed(item, "filters") if isinstance(f, dict) and f.get("filterType") == "LOT_SIZE"]
    if len(steps) != 1:
        raise Unreadable("an instrument without one LOT_SIZE filter")
    kind = KINDS.get(item.get("contractType", "SPOT"), "future")
    base, quote = text(item, "baseAsset"), text(item, "quoteAsset")
    settlement = quote if kind == "spot" else text(item, "marginAsset")
    return ev.Instrument(
        instrument=instrument,
        kind=kind,
        base=base,
        quote=quote,
        settlement=settlement,
        quantity_increment=decimal(steps[0], "stepSize"),
        contract_size=decimal(item, "contractSize") if "contractSize" in item else "1",
        inverse=settlement == base,
        expiry_us=milliseconds(item, "deliveryDate") if kind == "future" else 0,
        status="closed" if item.get("status") in GONE else "active",
    )


def terms_of_symbol(symbol: str) -> dict[str, Any] | None:
    """Read a futures symbol: ``SUSHIUSDT`` is a perpetual, ``BTCUSDT_210924`` expires on that day at 08:00 UTC.

    Examples
    --------
    >>> terms_of_symbol("BTCUSDT_210924")["expiry_us"], terms_of_symbol("ETHBTC")
    (1632470400000000, None)
    """
    dated = _dated(symbol)
    pair = split_quote(dated[1] if dated else symbol, ("USDT", "BUSD", "USDC"))
    if pair is None:
        return None
    terms: dict[str, Any] = {"kind": "perpetual", "base": pair[0], "quote": pair[1], "settlement": pair[1]}
    if dated:
        terms |= {"kind": "future", "expiry_us": eight_utc(dated[2], dated[3], dated[4])}
    return terms
