"""The demo's plot, as tables: who wants to trade what, who moves money, which venues fail and what is announced.

Times are seconds after the start. Amounts of collateral were chosen so that prices take each client where the story
needs it: one to a margin call that is met, one to default with an affiliate, one down with its stablecoins.
"""

from typing import NamedTuple

from seawall.ops.demo.world import UNCOVERED

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
