"""Random streams of events: a seed and some features give one stream, from which model and code make the same desk.

A plain stream has spot, linear, inverse, quanto and dated contracts, fills, busts, corrections, transfers, and two
netting sets under margin agreements. Each feature adds one thing; `CONTESTED` names those that the code of before the
contract's new definitions gets wrong.
"""

from collections.abc import Collection
from random import Random

from seawall_testing.reference.terms import SECOND, Json

T0 = 1_700_000_000_000_000
YEAR = 365 * 86_400 * SECOND
FEATURES = (
    "options", "funding", "expiry", "haircuts", "kinds", "venue", "tiers", "sets", "segregated", "silence", "unmarked",
    "corrections", "repeats", "terms", "late", "eligible", "openings", "lending", "pegs", "debts",
)  # fmt: skip
CONTESTED = ("payments",)
SPOTS = {
    "BTC/USD": ("BTC", "USD"), "ETH/USD": ("ETH", "USD"), "USDT/USD": ("USDT", "USD"), "STETH/USD": ("STETH", "USD"),
}  # fmt: skip
OPTIONS = ("BTC-CALL", "BTC-PUT", "BTC-COIN-CALL")
LEVELS = {
    "BTC/USD": 30_000, "ETH/USD": 2_000, "USDT/USD": 1, "STETH/USD": 2_000, "BTC-LIN": 30_000,
    "ETH-LIN": 2_000, "BTC-INV": 30_000, "ETH-QUANTO": 2_000, "BTC-DATED": 30_500, "BTC-CALL": 1_800,
    "BTC-PUT": 1_300, "BTC-COIN-CALL": 0.06, "BTC-SOON": 30_000, "ETH-SOON-INV": 2_000,
}  # fmt: skip
SOON = ("BTC-SOON", "ETH-SOON-INV")
ACCOUNTS = ("at-venue", "at-dealer", "ann", "bob", "cyd-1", "cyd-2")
COLLATERAL_ASSETS = {"USD": 100_000, "USDT": 50_000, "BTC": 2, "ETH": 20, "STETH": 10}
LENT = {"USDT": "20000", "BTC": "1", "ETH": "5"}  # with a schedule, and where its second tier begins
SOON_US = T0 + 100 * SECOND + 50_000


def instruments() -> list[Json]:
    """Return the contracts."""
    rates = {"initial_margin_rate": "0.1", "maintenance_margin_rate": "0.05"}
    option = {"kind": "option", "base": "BTC", "settlement": "USD", "expiry_us": T0 + YEAR // 8}
    kinds: dict[str, Json] = {
        name: {"kind": "spot", "base": base, "quote": quote, "settlement": quote}
        for name, (base, quote) in SPOTS.items()
    }
    inverse = {"inverse": True, "quantity_increment": "1"}
    kinds |= {
        "BTC-LIN": {"kind": "perpetual", "base": "BTC", "settlement": "USD"},
        "ETH-LIN": {"kind": "perpetual", "base": "ETH", "quote": "USDT", "settlement": "USDT"},
        "BTC-INV": {"kind": "perpetual", "base": "BTC", "settlement": "BTC", "contract_size": "100", **inverse},
        "ETH-QUANTO": {"kind": "perpetual", "base": "ETH", "settlement": "BTC", "contract_size": "0.000001"},
        "BTC-DATED": {"kind": "future", "base": "BTC", "settlement": "USD", "expiry_us": T0 + YEAR // 4},
        "BTC-SOON": {"kind": "future", "base": "BTC", "settlement": "USD", "expiry_us": SOON_US},
        "ETH-SOON-INV": {"kind": "future", "base": "ETH", "settlement": "ETH", "contract_size": "10",
                         "expiry_us": SOON_US, **inverse},
        "BTC-CALL": {**option, "strike": "32000", "option_type": "call", "discount_rate": "0.03"},
        "BTC-PUT": {**option, "strike": "29000", "option_type": "put", "premium": "futures_style"},
        "BTC-COIN-CALL": {**option, "strike": "30500", "option_type": "call", "settlement": "BTC", "inverse": True,
                          "forward": "BTC-DATED"},
    }  # fmt: skip
    return [
        {"type": "instrument", "instrument": name, "quote": "USD", "quantity_increment": "0.001", **rates, **fields}
        for name, fields in kinds.items()
    ]


def reference(random: Random, features: Collection[str]) -> list[Json]:
    """Return the desk: contracts, a venue, a dealer and three clients, and sets with terms of their own."""
    cut = {"haircut": "0.07"} if "haircuts" in features else {}
    made: list[Json] = [
        {"type": "asset", "asset": "USD", "class": "fiat"}, {"type": "asset", "asset": "USDT", "class": "stablecoin"},
        {"type": "asset", "asset": "BTC", "class": "coin"}, {"type": "asset", "asset": "ETH", "class": "coin", **cut},
    ]  # fmt: skip
    if "pegs" in features:
        made[1] |= {"peg": "USD"}
        made.append({"type": "asset", "asset": "STETH", "class": "token", "peg": "ETH"})
    made += instruments()
    for name, role in {"venue": "venue", "dealer": "dealer", "ann": "client", "bob": "client", "cyd": "client"}.items():
        made.append({"type": "counterparty", "counterparty": name, "name": name, "role": role})
    made += [_set("csa-bob", "bob", random), _set("csa-dealer", "dealer", random)]
    if "eligible" in features:  # ETH is not
        made[-2] |= {"eligible": {"USD": "0", "USDT": "0.02", "BTC": "0.15"}}
    if "sets" in features:
        made[-1] |= {"they_post": random.random() < 0.5, "we_post": random.random() < 0.5}
        made.append({"type": "netting_set", "netting_set": "cyd", "counterparty": "cyd",
                     "enforceable": random.random() < 0.5})  # fmt: skip
    lent: Json = {"venue": "venue"} if "lending" in features else {}
    at_venue: Json = {"venue": "venue"} if "venue" in features else {**lent}
    made += [_lending(asset, random) for asset in LENT if lent]
    if "tiers" in features:
        at_venue = {"venue": "venue", "margin_model": "schedule"}
        made.append({"type": "schedule", "venue": "venue", "instrument": "BTC-LIN", "tiers": _tiers()})
    for name, party, holder, more in (
        ("at-venue", "venue", "house", at_venue), ("at-dealer", "dealer", "house", {"netting_set": "csa-dealer"}),
        ("ann", "ann", "counterparty", lent), ("bob", "bob", "counterparty", {"netting_set": "csa-bob", **lent}),
        ("cyd-1", "cyd", "counterparty", {"netting_set": "cyd"} if "sets" in features else {}),
        ("cyd-2", "cyd", "counterparty", {"capacity": "agency"}),
    ):  # fmt: skip
        made.append({"type": "account", "account": name, "counterparty": party, "holder": holder, **more})
    return made


def _tiers() -> list[Json]:
    return [
        {"notional_from": start, "initial_margin_rate": initial, "maintenance_margin_rate": rate, "deduction": less}
        for start, initial, rate, less in (
            ("0", "0.02", "0.01", "0"), ("20000", "0.05", "0.025", "300"), ("100000", "0.1", "0.05", "2800"),
        )
    ]  # fmt: skip


def _lending(asset: str, random: Random) -> Json:
    start = LENT[asset]
    tiers = [("0", "0.02"), (start, "0.1"), (str(2 * int(start)), f"{random.uniform(0.2, 1):.3f}")]
    cap = {"cap": str(3 * int(start))} if random.random() < 0.5 else {}
    return {
        "type": "collateral_schedule", "venue": "venue", "asset": asset, "borrow_weight": "1.15", **cap,
        "tiers": [{"amount_from": amount, "haircut": haircut} for amount, haircut in tiers],
    }  # fmt: skip


def _set(name: str, party: str, random: Random) -> Json:
    return {
        "type": "netting_set", "netting_set": name, "counterparty": party, "margined": True,
        "threshold": str(random.choice([0, 1000, 25_000])), "our_threshold": str(random.choice([0, 5000])),
        "minimum_transfer_amount": str(random.choice([0, 500])),
        "our_minimum_transfer_amount": str(random.choice([0, 500])),
        "independent_amount": str(random.choice([0, 2000, -1000])), "rounding": random.choice(["0", "0.1", "1000"]),
    }  # fmt: skip


class Stream:
    """Makes one stream: ``events``, and the second ``end_us`` after the last of them."""

    def __init__(self, seed: int, features: Collection[str] = (), events: int = 300) -> None:
        self.random, self.features = Random(seed), features
        self.at_us, self._numbers = T0 + 1_037, 0
        self.events = reference(self.random, features)
        self._levels: dict[str, float] = dict(LEVELS)
        self._fills: list[Json] = []
        self._dark: set[str] = set()  # never marked again
        self._names = [name for name in LEVELS if self._is_there(name)]
        for name in self._names:
            if "unmarked" not in features or name in SPOTS or self.random.random() < 0.5:
                self._mark(name)
        for name in self._names if "unmarked" in features else ():
            if name not in SPOTS and self.random.random() < 0.2:
                self._dark.add(name)
        for account in ACCOUNTS:
            if "openings" in features:
                self._open(account)
            self._deposit(account, "USD", 200_000)
        makers = [self._fill] * 9 + [self._any_mark] * 12 + [self._transfer] * 3 + [self._undo] * 2
        makers += [self._funding] * 3 if "funding" in features or "payments" in features else []
        makers += [self._silence] if "silence" in features else []
        makers += [self._debt] if "debts" in features else []
        makers += [self._repeat] if "repeats" in features else []
        makers += [self._terms] if "terms" in features else []
        while len(self.events) < events:
            self._settle()
            self.random.choice(makers)()
        self.end_us = (self.at_us // SECOND + 2) * SECOND
        self.at_us = self.end_us + 2 * SECOND
        self._mark("USDT/USD")  # cuts the slice before it

    def seconds(self, count: int) -> list[int]:
        """Return second ends to compare at, the last one among them."""
        first, last = self.events[-290].get("event_time_us", T0) // SECOND + 1, self.end_us // SECOND
        some = self.random.sample(range(first, last), min(count - 1, last - first))
        return [one * SECOND for one in sorted({*some, last})]

    def _is_there(self, name: str) -> bool:
        of = {**dict.fromkeys(OPTIONS, "options"), **dict.fromkeys(SOON, "expiry"), "STETH/USD": "pegs"}
        return name not in of or of[name] in self.features

    def _repeat(self) -> None:
        """Send a fill or transfer once more, with the same content: it changes nothing."""
        sent = [event for event in self.events if event["type"] in ("fill", "collateral")]
        self._tick()
        self.events.append(self.random.choice(sent))

    def _open(self, account: str) -> None:
        """Report what an account held before its first fill and transfer."""
        at_us = self._tick()
        name = self.random.choice(["BTC-LIN", "BTC-INV", "ETH-LIN", "BTC-DATED"])
        self.events += [
            {"type": "position_report", "event_time_us": at_us, "account": account, "instrument": name,
             "kind": "opening", "quantity": str(self.random.randrange(-3, 4)), "entry_price": str(LEVELS[name] * 0.97)},
            {"type": "balance_report", "event_time_us": at_us, "account": account, "asset": "BTC", "kind": "opening",
             "amount": f"{self.random.uniform(-0.5, 2):.6f}"},
        ]  # fmt: skip

    def _debt(self) -> None:
        """Let a counterparty owe something to the house, or the house to it; some debts are paid."""
        parties = sorted({event["counterparty"] for event in self.events if event["type"] == "counterparty"})
        party = self.random.choice(parties)
        at, pair, kinds = (
            self.random.randrange(3),
            self.random.sample(["house", party], 2),
            ["loan", "withdrawal", "estimate"],
        )
        self.events.append({
            "type": "obligation", "event_time_us": self._tick(), "obligation_id": f"o{party}{at}", "from": pair[0],
            "to": pair[1], "asset": self.random.choice(["USD", "BTC", "ETH"]),
            "amount": f"{self.random.uniform(0, 3):.4f}", "kind": self.random.choice(kinds),
            "status": self.random.choice(["open", "open", "failed", "paid"]),
        })  # fmt: skip

    def _terms(self) -> None:
        """Change a margin rate, a haircut or the terms of a set; lift a peg, close a schedule."""
        kinds = ["instrument", "asset", "netting_set", *(["collateral_schedule"] if "lending" in self.features else ())]
        kind = self.random.choice(kinds)
        old = self.random.choice([event for event in self.events if event["type"] == kind])
        new = {**old, "event_time_us": self._tick()}
        if kind == "instrument" and old["kind"] != "spot":
            new["maintenance_margin_rate"] = f"{self.random.uniform(0.02, 0.09):.4f}"
        if kind == "asset" and "haircut" in old:
            new["haircut"] = f"{self.random.uniform(0, 0.2):.3f}"
        if kind == "collateral_schedule":
            new["status"] = self.random.choice(["active", "closed"])
        if kind == "netting_set" and "threshold" in old:
            new["threshold"] = str(self.random.randrange(10_000))
        self.events.append(new)

    def _tick(self) -> int:
        if "late" in self.features and self.random.random() < 0.03:
            return self.at_us - self.random.randrange(SECOND)
        self.at_us += self.random.choice([1_000, 13_000, 170_000, 900_000, 2_300_000]) + self.random.randrange(900)
        return self.at_us

    def _silence(self) -> None:
        if self.random.random() < 0.3:
            self.at_us += self.random.randrange(30, 90) * SECOND

    def _name(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers}"

    def _mark(self, name: str, **fields: str) -> None:
        self._levels[name] *= 1 + self.random.uniform(-0.02, 0.02)
        event: Json = {
            "type": "mark", "event_time_us": self._tick(), "instrument": name, "price": f"{self._levels[name]:.6f}",
            **fields,
        }  # fmt: skip
        if name in OPTIONS:
            event["implied_volatility"] = f"{self.random.uniform(0.4, 0.9):.4f}"
        self.events.append(event)

    def _any_mark(self) -> None:
        name, fields = self.random.choice([name for name in self._names if name not in self._dark]), {}
        if "kinds" in self.features and name not in OPTIONS:
            fields["kind"] = self.random.choice(["mark", "index", "mid", "last"])
        if "venue" in self.features and self.random.random() < 0.5:
            fields["venue"] = self.random.choice(["venue", "dealer"])
        self._mark(name, **fields)

    def _settle(self) -> None:
        """Publish settlement prices a little after what expires has expired, once."""
        if "expiry" in self.features and self.at_us > SOON_US + 3 * SECOND and SOON[0] in self._names:
            for name in SOON:
                self._names.remove(name)
                self._mark(name, kind="settlement")

    def _fill(self) -> None:
        name = self.random.choice(self._names)
        price = self._levels[name] * self.random.uniform(0.99, 1.01)
        most = {"BTC-INV": 300, "ETH-SOON-INV": 1_000, "ETH-QUANTO": 5_000}.get(name)
        quantity = str(self.random.randrange(1, most)) if most else f"{self.random.randrange(1, 2000) / 1000:.3f}"
        event: Json = {
            "type": "fill", "event_time_us": self._tick(), "fill_id": self._name("f"),
            "account": self.random.choice(ACCOUNTS), "instrument": name, "side": self.random.choice(["buy", "sell"]),
            "quantity": quantity, "price": f"{price:.6f}",
        }  # fmt: skip
        if self.random.random() < 0.4:
            event |= {"fee": f"{self.random.uniform(-1, 5):.4f}", "fee_asset": self.random.choice(["USD", "USDT"])}
        self.events.append(event)
        self._fills.append(event)

    def _undo(self) -> None:
        if not self._fills:
            return
        old = self._fills.pop(self.random.randrange(len(self._fills)))
        kept = {key: old[key] for key in ("type", "account", "instrument", "side", "quantity", "price")}
        action = self.random.choice(["bust", "correct"])
        if action == "correct":
            kept["price"] = f"{float(old['price']) * self.random.uniform(0.98, 1.02):.6f}"
            if "corrections" in self.features:
                kept |= {"side": self.random.choice(["buy", "sell"]), "fee": f"{self.random.uniform(0, 3):.3f}"}
                kept["quantity"] = str(max(int(float(old["quantity"])) // 2, 1))
        self.events.append({
            **kept, "event_time_us": self._tick(), "fill_id": self._name("f"), "action": action,
            "ref_fill_id": old["fill_id"],
        })  # fmt: skip

    def _transfer(self) -> None:
        known = {name: most for name, most in COLLATERAL_ASSETS.items() if name != "STETH" or "pegs" in self.features}
        asset, most = self.random.choice(list(known.items()))
        self._deposit(self.random.choice(ACCOUNTS), asset, most * self.random.uniform(-0.3, 1))

    def _deposit(self, account: str, asset: str, amount: float) -> None:
        purpose = "deposit" if amount > 0 else "withdrawal"
        if self.random.random() < 0.3:
            purpose = self.random.choice(["variation_margin", "independent_amount", "transfer"])
        is_apart = "segregated" in self.features and amount > 0 and self.random.random() < 0.3
        apart = {"segregated": True} if is_apart else {}
        self.events.append({
            "type": "collateral", "event_time_us": self._tick(), "transfer_id": self._name("t"), "account": account,
            "asset": asset, "amount": f"{amount:.4f}", "purpose": purpose, **apart,
        })  # fmt: skip

    def _funding(self) -> None:
        """Publish a rate, in a slice of its own; with ``payments`` an account is paid, before or after it."""
        name = self.random.choice(["BTC-LIN", "ETH-LIN", "BTC-INV"])
        self.at_us += SECOND // 4
        record: Json = {
            "type": "funding", "event_time_us": self._tick(), "venue": "venue", "instrument": name,
            "rate": f"{self.random.uniform(-0.001, 0.001):.6f}", "interval_us": 60 * SECOND,
            "kind": self.random.choice(["predicted", "settled"]),
        }  # fmt: skip
        pair = [record]
        if "payments" in self.features and record["kind"] == "settled":
            asset = {"BTC-LIN": "USD", "ETH-LIN": "USDT", "BTC-INV": "BTC"}[name]
            paid = {
                "type": "collateral", "transfer_id": self._name("t"), "account": self.random.choice(ACCOUNTS),
                "asset": asset, "amount": f"{self.random.uniform(-0.002, 0.002):.6f}", "purpose": "funding",
                "event_time_us": record["event_time_us"],
            }  # fmt: skip
            pair = self.random.sample([record, paid], 2)
            pair[1]["event_time_us"] = self._tick()
        self.events += pair
        self.at_us += SECOND // 4
