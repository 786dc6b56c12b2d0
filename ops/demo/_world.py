"""World of the demo: counterparties, terms, limits and rules, and the markets of a simulated crash.

The crash is modelled on the evening of 10 October 2025, in thirteen minutes. It keeps these facts: bitcoin falls from
122,000 to below 107,000 and to about 101,400 on one venue, ether by 16 %, SOL by 31 %; depth vanishes; the stablecoin
USDe trades at 0.65 on one venue while it holds elsewhere. Traders and their fate are invented. Prices are straight
lines between knots plus bounded noise, from + - x / alone, so a seed gives the same bytes on every host.
"""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

# The demo's markets: a simulated crash modelled on the evening of 10 October 2025, in thirteen minutes.

START_US = 1_760_129_100_000_000  # 2025-10-10T20:45:00Z
END_S = 780
VENUES = ("binance", "hyperliquid", "okx")
Knots = tuple[tuple[float, float], ...]


class PlacedRecord(NamedTuple):
    """A record and when it stands in the file, which differs from its event time where it comes late."""

    at_us: int
    record: dict[str, Any] | bytes


class Listing(NamedTuple):
    """An instrument of the demo: where it trades, its ticks and increments, and what its price follows."""

    instrument: str
    kind: str
    follows: str
    venues: tuple[str, ...]
    price_places: int
    quantity_places: int
    initial: str
    maintenance: str
    inverse: bool = False
    basis: Knots = ((0, 1.0),)


_BASIS_FUTURE: Knots = ((0, 1.012), (480, 1.010), (550, 0.996), (780, 1.003))
LISTINGS = {
    listing.instrument: listing
    for listing in (
        Listing("BTC-PERP", "perpetual", "BTC", VENUES, 1, 3, "0.05", "0.025"),
        Listing("ETH-PERP", "perpetual", "ETH", VENUES, 2, 2, "0.06", "0.03"),
        Listing("SOL-PERP", "perpetual", "SOL", VENUES, 3, 1, "0.1", "0.05"),
        Listing("BTC-PERP-INVERSE", "perpetual", "BTC", ("binance", "okx"), 1, 0, "0.05", "0.025", inverse=True),
        Listing("BTC-26DEC25", "future", "BTC", ("okx",), 1, 3, "0.06", "0.03", basis=_BASIS_FUTURE),
        Listing("BTC/USD", "spot", "BTC", ("binance", "okx"), 1, 4, "", ""),
        Listing("ETH/USD", "spot", "ETH", ("binance", "okx"), 2, 3, "", ""),
        Listing("USDE/USD", "spot", "USDE", ("binance", "okx"), 4, 0, "", ""),
    )
}
PERPETUALS = ("BTC-PERP", "ETH-PERP", "SOL-PERP")

# Seconds after START_US, price.
_LEVELS: dict[str, Knots] = {
    "BTC": (
        *((0, 122_000), (300, 121_500), (330, 119_700), (420, 116_400), (480, 113_000)),
        *((520, 109_500), (550, 106_600), (575, 107_900), (600, 109_600), (660, 112_200), (780, 113_100)),
    ),
    "ETH": (
        *((0, 4_370), (300, 4_350), (330, 4_270), (420, 4_120), (480, 3_960)),
        *((520, 3_800), (552, 3_670), (580, 3_730), (600, 3_790), (660, 3_880), (780, 3_900)),
    ),
    "SOL": (
        *((0, 222), (300, 220), (330, 215), (420, 204), (480, 190)),
        *((520, 171), (555, 153.2), (580, 160), (600, 167), (660, 178), (780, 182)),
    ),
    "USDE": ((0, 1.0), (330, 0.9995), (480, 0.996), (560, 0.968), (600, 0.985), (780, 0.998)),
}
# What one venue trades at, relative to the others.
_WICKS: dict[tuple[str, str], Knots] = {
    ("binance", "BTC"): ((0, 1.0), (535, 1.0), (550, 0.9511), (560, 0.968), (590, 0.999), (780, 1.0)),
    ("binance", "ETH"): ((0, 1.0), (535, 1.0), (552, 0.970), (590, 0.999), (780, 1.0)),
    ("binance", "SOL"): ((0, 1.0), (535, 1.0), (555, 0.940), (590, 0.998), (780, 1.0)),
    ("binance", "USDE"): ((0, 1.0), (500, 1.0), (562, 0.6715), (590, 0.78), (640, 0.95), (780, 0.999)),
}
_NOISE: Knots = ((0, 0.0001), (300, 0.0002), (500, 0.0008), (620, 0.0006), (780, 0.0003))  # half width, a fraction
_SPREAD: Knots = ((0, 0.0001), (300, 0.0002), (510, 0.002), (550, 0.008), (620, 0.001), (780, 0.0003))
_DEPTH: Knots = ((0, 1.0), (300, 0.8), (420, 0.4), (510, 0.1), (550, 0.02), (620, 0.2), (780, 0.5))
_TOP_USD = 900_000.0  # value of the best level in quiet times
# Marks come faster as markets do: from second, one round of all venues every so many milliseconds.
_ROUNDS = ((0, 1_000), (300, 500), (510, 250), (620, 500), (END_S, 0))


def interpolate(knots: Knots, second: float) -> float:
    """Return the value of a line through ``knots`` at ``second``; constant outside of them."""
    for (left, low), (right, high) in pairwise(knots):
        if second < right:
            return low + (high - low) * max(0.0, second - left) / (right - left)
    return knots[-1][1]


def fair_price(instrument: str, venue: str, second: float) -> float:
    """Return an instrument's price at a venue without noise."""
    listing = LISTINGS[instrument]
    wick = interpolate(_WICKS.get((venue, listing.follows), ((0, 1.0),)), second)
    return interpolate(_LEVELS[listing.follows], second) * interpolate(listing.basis, second) * wick


def price_text(instrument: str, price: float) -> str:
    """Return a price as decimal text, rounded to the instrument's tick."""
    return f"{price:.{LISTINGS[instrument].price_places}f}"


def quantity_text(instrument: str, units: int) -> str:
    """Return a quantity of increments as decimal text, without sign."""
    places = LISTINGS[instrument].quantity_places
    whole, part = divmod(abs(units), 10**places)
    return f"{whole}.{part:0{places}d}" if places else str(whole)


def traded_price(rng: Random, instrument: str, venue: str, at_us: int, side: str) -> str:
    """Return what a taker of ``side`` pays or gets: the fair price, half a spread and some luck."""
    second = (at_us - START_US) / 1e6
    half = interpolate(_SPREAD, second) / 2 * (1 if side == "buy" else -1)
    luck = (rng.random() - 0.5) * interpolate(_NOISE, second)
    return price_text(instrument, fair_price(instrument, venue, second) * (1 + half + luck))


def market_records(rng: Random) -> Iterator[PlacedRecord]:
    """Yield marks, quotes, depth, open interest, predicted funding and public liquidations, not in order of time."""
    yield from _marks(rng)
    for second in range(END_S):
        for number, venue in enumerate(VENUES):
            for instrument in PERPETUALS:
                time_us = START_US + second * 1_000_000 + 300_000 + number * 7_000
                yield from _book(rng, venue, instrument, second, time_us)


def _marks(rng: Random) -> Iterator[PlacedRecord]:
    drift = {(venue, name): 0.0 for name, listing in LISTINGS.items() for venue in listing.venues}
    for (begin, every_ms), (end, _) in pairwise(_ROUNDS):
        for ms in range(begin * 1_000, end * 1_000, every_ms):
            # The venue that breaks reports first: across venues the latest mark wins (contract.md, "Prices").
            for number, venue in enumerate(VENUES):
                time_us = START_US + ms * 1_000 + 20_000 + number * 6_000
                for instrument, listing in LISTINGS.items():
                    if venue in listing.venues:
                        second = (time_us - START_US) / 1e6
                        calm = 0.1 if listing.follows == "USDE" else 1.0
                        step = (rng.random() - 0.5) * 2 * interpolate(_NOISE, second) * calm
                        drift[venue, instrument] = 0.7 * drift[venue, instrument] + step
                        price = fair_price(instrument, venue, second) * (1 + drift[venue, instrument])
                        yield place_record(
                            time_us, "mark", instrument=instrument, price=price_text(instrument, price), venue=venue
                        )


def _book(rng: Random, venue: str, instrument: str, second: int, time_us: int) -> Iterator[PlacedRecord]:
    """Yield what a venue publishes about its order book in one second, each kind at its own pace."""
    where = {"venue": venue, "instrument": instrument}
    price, half, size = (
        fair_price(instrument, venue, second),
        interpolate(_SPREAD, second) / 2,
        interpolate(_DEPTH, second),
    )
    places = 10 ** LISTINGS[instrument].quantity_places
    top = max(1, int(_TOP_USD * size * (0.5 + rng.random()) / price * places))
    if second % 2 == 0:
        bid, ask = (price_text(instrument, price * (1 + sign * half)) for sign in (-1, 1))
        sizes = {"bid_size": quantity_text(instrument, top), "ask_size": quantity_text(instrument, 2 * top)}
        yield place_record(time_us, "quote", **where, bid=bid, ask=ask, **sizes)
    if second % 10 == 5:
        levels = [(1 + step, quantity_text(instrument, top * (1 + step))) for step in range(5)]
        bids, asks = (
            [[price_text(instrument, price * (1 + sign * half * step)), size_text] for step, size_text in levels]
            for sign in (-1, 1)
        )
        yield place_record(time_us + 1_000, "depth", **where, bids=bids, asks=asks)
    if second % 30 == 10:
        held = quantity_text(instrument, int(4e9 * (0.6 + 0.4 * size) / price * places))
        yield place_record(time_us + 2_000, "open_interest", **where, quantity=held)
    if second % 60 == 20:
        rate = f"{0.0001 - 0.0009 * (1 - size):.6f}"
        yield place_record(time_us + 3_000, "funding", **where, rate=rate, interval_us=28_800_000_000, kind="predicted")
    if 500 <= second < 620 and rng.random() < 0.3:
        forced = {"side": "sell", "price": price_text(instrument, price * (1 - half))}
        yield place_record(
            time_us + 4_000, "liquidation", **where, **forced, quantity=quantity_text(instrument, 3 * top)
        )


def place_record(time_us: int, type_: str, /, **fields: Any) -> PlacedRecord:
    """Return a record that stands where its event time says."""
    return PlacedRecord(time_us, {"type": type_, "event_time_us": time_us, **fields})


# The demo's world before the crash: who trades with whom, on what terms, and which limits and rules stand.

EXPIRY_US = 1_766_736_000_000_000  # 2025-12-26T08:00:00Z
UNCOVERED = "iris-ventures/pilot"  # the one account without a limit: trading in it is refused by default

_COUNTERPARTIES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("binance", "Binance", "venue", {}),
    ("hyperliquid", "Hyperliquid", "venue", {}),
    ("okx", "OKX", "venue", {}),
    ("meridian-otc", "Meridian OTC", "dealer", {"rating": "BBB", "jurisdiction": "US"}),
    ("keel-custody", "Keel Custody", "custodian", {"rating": "A", "jurisdiction": "CH"}),
    ("usde-issuer", "Issuer of USDe", "issuer", {}),
    ("alder-fund", "Alder Fund", "client", {"rating": "BB", "own_funds": "40000000", "jurisdiction": "US"}),
    ("birch-capital", "Birch Capital", "client", {"group": "birch", "own_funds": "15000000", "jurisdiction": "KY"}),
    ("birch-offshore", "Birch Offshore", "client", {"group": "birch", "own_funds": "3000000", "jurisdiction": "BS"}),
    ("cedar-trading", "Cedar Trading", "client", {"own_funds": "20000000", "jurisdiction": "SG"}),
    ("dune-partners", "Dune Partners", "client", {"rating": "BBB", "own_funds": "60000000", "jurisdiction": "GB"}),
    (
        "elm-family-office",
        "Elm Family Office",
        "client",
        {"rating": "A", "own_funds": "90000000", "jurisdiction": "CH"},
    ),
    ("grove-quant", "Grove Quant", "client", {"own_funds": "25000000", "jurisdiction": "US"}),
    ("iris-ventures", "Iris Ventures", "client", {"jurisdiction": "EE"}),
)
# account, counterparty, netting set, venue
_CLIENT_ACCOUNTS = (
    ("alder-fund/main", "alder-fund", "", ""),
    ("birch-capital/main", "birch-capital", "", ""),
    ("birch-offshore/main", "birch-offshore", "", ""),
    ("cedar-trading/binance", "cedar-trading", "", "binance"),
    ("dune-partners/basis", "dune-partners", "dune-partners/all", ""),
    ("dune-partners/directional", "dune-partners", "dune-partners/all", ""),
    ("elm-family-office/vault", "elm-family-office", "", ""),
    ("grove-quant/alpha", "grove-quant", "grove-quant/all", ""),
    ("grove-quant/beta", "grove-quant", "grove-quant/all", ""),
    (UNCOVERED, "iris-ventures", "", ""),
)
_ASSETS: tuple[dict[str, Any], ...] = (
    {"asset": "USD", "class": "fiat"},
    {"asset": "BTC", "class": "coin", "haircut": "0.05"},
    {"asset": "ETH", "class": "coin", "haircut": "0.07"},
    {"asset": "SOL", "class": "coin", "haircut": "0.15"},
    {"asset": "USDE", "class": "stablecoin", "peg": "USD", "issuer": "usde-issuer", "haircut": "0.1"},
)
_TIERS = [
    {"notional_from": "0", "initial_margin_rate": "0.05", "maintenance_margin_rate": "0.025"},
    {
        "notional_from": "10000000",
        "initial_margin_rate": "0.1",
        "maintenance_margin_rate": "0.05",
        "deduction": "250000",
    },
]
_CLIENT_TERMS = {
    "margined": True,
    "they_post": True,
    "we_post": False,
    "close_out": True,
    "minimum_transfer_amount": "50000",
}


def reference_records() -> list[dict[str, Any]]:
    """Return the reference records: assets, instruments, schedules, counterparties, netting sets and accounts."""
    return [
        *({"type": "asset", **fields} for fields in _ASSETS),
        *_instruments(),
        *({"type": "schedule", "venue": venue, "instrument": "BTC-PERP", "tiers": _TIERS} for venue in VENUES),
        *_counterparties(),
        *_accounts(),
    ]


def _instruments() -> list[dict[str, Any]]:
    records = []
    for name, listing in LISTINGS.items():
        places = listing.quantity_places
        record: dict[str, Any] = {
            "type": "instrument",
            "instrument": name,
            "kind": listing.kind,
            "base": listing.follows,
        }
        record |= {"quote": "USD", "settlement": listing.follows if listing.inverse else "USD"}
        record["quantity_increment"] = f"0.{'1':0>{places}}" if places else "1"
        if listing.inverse:
            record |= {"inverse": True, "contract_size": "100"}
        if listing.kind == "future":
            record["expiry_us"] = EXPIRY_US
        if listing.initial:
            record |= {"initial_margin_rate": listing.initial, "maintenance_margin_rate": listing.maintenance}
        records.append(record)
    return records


def _counterparties() -> list[dict[str, Any]]:
    return [
        {"type": "counterparty", "counterparty": name, "name": full, "role": role, **more}
        for name, full, role, more in _COUNTERPARTIES
    ]


def _accounts() -> list[dict[str, Any]]:
    agreement = {"netting_set": "meridian/isda", "counterparty": "meridian-otc", "agreement": "ISDA 2002 with VM CSA"}
    terms = {"margined": True, "threshold": "1000000", "minimum_transfer_amount": "250000", "eligible": {"USD": "0"}}
    records: list[dict[str, Any]] = [{"type": "netting_set", **agreement, **terms}]
    for name in ("dune-partners", "grove-quant"):
        head = {"netting_set": f"{name}/all", "counterparty": name, "agreement": "prime brokerage"}
        records.append({"type": "netting_set", **head, **_CLIENT_TERMS})
    for account, counterparty, netting_set, venue in _CLIENT_ACCOUNTS:
        record = {"type": "account", "account": account, "counterparty": counterparty, "holder": "counterparty"}
        optional = {"netting_set": netting_set, "venue": venue}
        records.append(record | {name: value for name, value in optional.items() if value})
    for venue in VENUES:
        record = {"type": "account", "account": f"house/{venue}", "counterparty": venue, "holder": "house"}
        records.append(record | {"venue": venue})
    dealer = {"account": "house/meridian", "counterparty": "meridian-otc", "netting_set": "meridian/isda"}
    records.append({"type": "account", **dealer, "holder": "house"})
    return records


# --- limits, playbook, configuration ----------------------------------------------------------------------------------


def limits_text() -> str:
    """Return limits.toml. Clients are named one by one, so that the account nobody gave a limit stands out."""
    clients = [account for account, *_ in _CLIENT_ACCOUNTS if account != UNCOVERED]
    tables = [
        *(_limit(_margin_id(name), f"account:{name}", "margin_ratio", (0.5, 0.8, 1.0)) for name in clients),
        _limit("house-leverage-binance", "account:house/binance", "leverage", (1.8, 2.2, 3.0)),
        _limit("house-leverage-hyperliquid", "account:house/hyperliquid", "leverage", (4.0, 5.0, 6.0)),
        _limit("house-leverage-okx", "account:house/okx", "leverage", (2.5, 3.0, 4.0)),
        _limit("exposure-binance", "counterparty:binance", "current_exposure", (32e6, 36e6, 40e6)),
        _limit("exposure-hyperliquid", "counterparty:hyperliquid", "current_exposure", (24e6, 25e6, 28e6)),
        _limit("exposure-okx", "counterparty:okx", "current_exposure", (26e6, 29e6, 32e6)),
        _limit("exposure-birch-capital", "counterparty:birch-capital", "current_exposure", (0.1e6, 0.5e6, 1e6)),
        _limit("exposure-meridian", "netting_set:meridian/isda", "current_exposure", (6e6, 6.75e6, 8e6)),
        _limit("exposure-birch", "group:birch", "current_exposure", (0.1e6, 0.5e6, 1.2e6)),
        _limit("venue-gross", "venue:*", "gross_notional", (75e6, 85e6, 110e6)),
    ]
    head = "# Written by `seawall demo`. A level is left below level x exit_ratio, after dwell_s.\n"
    return head + "\n" + "\n".join(tables)


def _margin_id(account: str) -> str:
    return f"margin-{account.replace('/', '-')}"


def _limit(name: str, scope: str, measure: str, levels: tuple[float, float, float]) -> str:
    values = "".join(f"{key} = {value:_}\n" for key, value in zip(("warning", "soft", "hard"), levels, strict=True))
    head = f'[[limit]]\nid = "{name}"\nscope = "{scope}"\nmeasure = "{measure}"\ndirection = "above"\n'
    return f"{head}{values}exit_ratio = 0.9\ndwell_s = 10\n"


def playbook_text() -> str:
    """Return playbook.toml: what happens when a level is reached, a venue breaks, news or an alert arrives."""
    clients = [account for account, *_ in _CLIENT_ACCOUNTS if account != UNCOVERED]
    rules = []
    for name in clients:
        limit, short = _margin_id(name), name.replace("/", "-")
        rules.append(_rule(f"margin-call-{short}", {"limit": limit, "level": "soft"}, ("CALL_MARGIN", "account")))
        hard = (("REDUCE_ONLY", "account"), ("CANCEL_ORDERS", "account"))
        rules.append(_rule(f"reduce-{short}", {"limit": limit, "level": "hard"}, *hard))
    for venue in VENUES:
        leverage, exposure = f"house-leverage-{venue}", f"exposure-{venue}"
        rules.append(_rule(f"deleverage-{venue}", {"limit": leverage, "level": "soft"}, ("REDUCE_ONLY", "account")))
        rules.append(
            _rule(f"repatriate-{venue}", {"limit": exposure, "level": "soft"}, ("WITHDRAW_FUNDS", "counterparty"))
        )
        rules.append(
            _rule(f"stop-{venue}", {"limit": exposure, "level": "hard"}, ("BLOCK_COUNTERPARTY", "counterparty"))
        )
    rules += _named_rules()
    head = "# Written by `seawall demo`. One rule, one trigger; commands restrict, only people release.\n"
    return head + "\n" + "\n".join(rules)


def _named_rules() -> list[str]:
    block, recall = ("BLOCK_COUNTERPARTY", "counterparty"), ("RECALL_COLLATERAL", "netting_set")
    reroute, degraded = ("REROUTE", "venue"), ("ENTER_DEGRADED_MODE", "firm")
    return [
        _rule(
            "client-default", {"limit": "exposure-birch-capital", "level": "hard"}, block, ("HALT_TRADING", "account")
        ),
        _rule("dealer-collateral", {"limit": "exposure-meridian", "level": "soft"}, recall),
        _rule("group-default", {"limit": "exposure-birch", "level": "hard"}, ("SUSPEND", "group")),
        _rule("venue-crowded", {"limit": "venue-gross", "level": "soft"}, ("REDUCE_ONLY", "venue")),
        _rule("no-limit-no-trading", {"limit": "default-deny", "level": "hard"}, ("HALT_TRADING", "account")),
        _rule("venue-degraded", {"venue_status": "degraded"}, reroute),
        _rule("venue-keeps-our-money", {"venue_status": "withdrawals_blocked"}, block, reroute, degraded),
        _rule("insolvent", {"notice": "insolvency"}, block),
        _rule("reserves-in-doubt", {"notice": "reserves"}, ("SET_HAIRCUT", "firm"), asset="USDE", haircut=0.5),
        _rule(
            "market-breaks",
            {"alert": "circuit_breaker"},
            ("SWITCH_STRATEGY_PROFILE", "underlying"),
            profile="defensive",
        ),
        _rule("books-disagree", {"alert": "report_mismatch"}, ("CANCEL_ORDERS", "account"), ("SUSPEND", "account")),
    ]


def _rule(name: str, when: dict[str, str], *commands: tuple[str, str], **action: str | float) -> str:
    condition = ", ".join(f'{key} = "{value}"' for key, value in when.items())
    more = "".join(f", {key} = {value!r}".replace("'", '"') for key, value in action.items())
    listed = ", ".join(f'{{ kind = "{kind}", target = "{target}"{more} }}' for kind, target in commands)
    return f'[[rule]]\nid = "{name}"\nwhen = {{ {condition} }}\ncommands = [ {listed} ]\ncooldown_s = 300\n'


CONFIGURATION = """# Written by `seawall demo`; `seawall run desk.toml` does the same without the story.
bus = "sqlite:seawall.db"
environment = "dev"
issuer = "risk/demo"
shards = 4
slice_ms = 250
reporting_currency = "USD"
exposure_change_min = 0.001
mark_max_age_s = 60
fill_memory = 100_000

[inputs]
events = ["reference.jsonl", "events.jsonl"]

[limits]
file = "limits.toml"

[mitigation]
playbook = "playbook.toml"

[keys]
signer = "file:keys/dev.pem"
"""
