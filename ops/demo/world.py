"""The demo's world before the crash: who trades with whom, on what terms, and which limits and rules stand."""

from typing import Any

from seawall.ops.demo.market import LISTINGS, VENUES

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
