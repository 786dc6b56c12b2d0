"""What the supervisor prescribes for SA-CCR: factors, correlations, volatilities, floors, and the crypto regimes.

Every number is a fraction unless its name says otherwise. CRE52 knows no crypto class: each regime that adds one is
a named parameter set, and a set that was not read in its source says so in ``status``, which every result repeats.

References
----------
Basel Framework CRE52 (version effective 1 January 2023): Table 2 in CRE52.72; the rest as cited.
OSFI, "Interim arrangements for the regulatory capital and liquidity treatment of cryptoasset exposures" (Advisory,
Q2 2023), section 4.2.
Basel Framework SCO60 (BCBS d545, December 2022, revised July 2024).
"""

from dataclasses import dataclass
from typing import Final

ALPHA: Final = 1.4  # CRE52.1
MULTIPLIER_FLOOR: Final = 0.05  # CRE52.23
BUSINESS_DAYS_PER_YEAR: Final = 250.0  # CRE52.49 and 52.53
MATURITY_FLOOR_DAYS: Final = 10.0  # for M (CRE52.48) and for the supervisory duration (CRE52.34)
DURATION_RATE: Final = 0.05  # CRE52.34
BASIS_FACTOR: Final = 0.5  # CRE52.46
VOLATILITY_FACTOR: Final = 5.0  # CRE52.47
ADJACENT_BUCKETS: Final = 1.4  # interest-rate buckets 1-2 and 2-3 (CRE52.57)
DISTANT_BUCKETS: Final = 0.6  # interest-rate buckets 1-3 (CRE52.57)

MARGIN_PERIOD_DAYS: Final = 10.0  # CRE52.50(1)
CLEARED_MARGIN_PERIOD_DAYS: Final = 5.0  # CRE54, clearing members' client trades
LONG_MARGIN_PERIOD_DAYS: Final = 20.0  # CRE52.51(1) and (2)
MANY_TRADES: Final = 5000  # CRE52.51(1): more than this
MANY_DISPUTES: Final = 2  # CRE52.51(3): more than this

DIGITAL_COLLAR: Final = (0.95, 1.05)  # CRE52.42(3)


@dataclass(frozen=True, slots=True)
class Supervisory:
    """One row of Table 2: supervisory factor, correlation (0 where none applies) and option volatility per year^0.5."""

    factor: float
    correlation: float
    volatility: float


@dataclass(frozen=True, slots=True)
class CryptoRegime:
    """How one supervisor treats derivatives on crypto assets: the mathematics of FX with other numbers."""

    name: str
    status: str
    parameters: Supervisory
    own_netting_set: bool
    source: str


SUPERVISORY: Final[dict[tuple[str, str], Supervisory]] = {
    ("IR", ""): Supervisory(0.005, 0.0, 0.5),
    ("FX", ""): Supervisory(0.04, 0.0, 0.15),
    ("CR", "AAA"): Supervisory(0.0038, 0.5, 1.0),
    ("CR", "AA"): Supervisory(0.0038, 0.5, 1.0),
    ("CR", "A"): Supervisory(0.0042, 0.5, 1.0),
    ("CR", "BBB"): Supervisory(0.0054, 0.5, 1.0),
    ("CR", "BB"): Supervisory(0.0106, 0.5, 1.0),
    ("CR", "B"): Supervisory(0.016, 0.5, 1.0),
    ("CR", "CCC"): Supervisory(0.06, 0.5, 1.0),
    ("CR", "IX_IG"): Supervisory(0.0038, 0.8, 0.8),
    ("CR", "IX_SG"): Supervisory(0.0106, 0.8, 0.8),
    ("EQ", "SN"): Supervisory(0.32, 0.5, 1.2),
    ("EQ", "IX"): Supervisory(0.2, 0.8, 0.75),
    ("EQ", "CRYPTO"): Supervisory(0.4, 0.5, 1.5),  # OSFI: funds and other indirect crypto exposures
    ("CO", "ELECTRICITY"): Supervisory(0.4, 0.4, 1.5),
    ("CO", "ENERGY"): Supervisory(0.18, 0.4, 0.7),
    ("CO", "METALS"): Supervisory(0.18, 0.4, 0.7),
    ("CO", "AGRICULTURAL"): Supervisory(0.18, 0.4, 0.7),
    ("CO", "OTHER"): Supervisory(0.18, 0.4, 0.7),
}

CRYPTO_REGIMES: Final[dict[str, CryptoRegime]] = {
    "osfi": CryptoRegime(
        name="osfi",
        status="sourced",
        parameters=Supervisory(0.4, 0.0, 1.5),
        own_netting_set=True,
        source="OSFI interim advisory on cryptoasset exposures (in force to the end of fiscal 2025), section 4.2",
    ),
    "basel": CryptoRegime(
        name="basel",
        status="to confirm",
        parameters=Supervisory(0.32, 0.0, 1.2),
        own_netting_set=False,
        source="Basel SCO60, Group 2a (July 2024): factor and volatility from memory, the passage was not read",
    ),
}
CRYPTO_REGIME_DEFAULT: Final = "osfi"  # the stricter of the two and the one that was read


def margin_period_floor(
    remargin_business_days: float, centrally_cleared: bool, trades: int, illiquid: bool, long_disputes: int
) -> float:
    """Return the floor of the margin period of risk in business days (CRE52.50-52.51).

    Parameters
    ----------
    remargin_business_days
        Business days between two margin calls; 1 is daily.
    centrally_cleared
        Whether the set faces a central counterparty (or is a client's set with a clearing member).
    trades
        Number of trades in the netting set.
    illiquid
        Whether the set holds illiquid collateral or a trade that cannot be easily replaced.
    long_disputes
        Margin disputes of the last two quarters that outlasted the margin period.

    Examples
    --------
    >>> margin_period_floor(5, False, 6, False, 0)
    14.0
    """
    base = CLEARED_MARGIN_PERIOD_DAYS if centrally_cleared else MARGIN_PERIOD_DAYS
    floor = base - 1.0 + remargin_business_days
    if illiquid or (trades > MANY_TRADES and not centrally_cleared):
        floor = max(floor, LONG_MARGIN_PERIOD_DAYS)
    return 2.0 * floor if long_disputes > MANY_DISPUTES else floor
