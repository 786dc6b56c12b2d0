"""Named scenarios of stress losses: what prices, implied volatilities and stablecoins do at once.

Without scenarios of its own a configuration has :data:`STANDARD`. Moves are fractions of today's price by asset; ``*``
is every asset that none is named for. Currencies stand still.
"""

from typing import Any, Final

from seawall.schemas.errors import UsageError
from seawall.schemas.events import IDENTIFIER_PATTERN
from seawall.schemas.tables import Field, Table, check_table, number_in, text_like

MOVE_MIN, MOVE_MAX = -0.99, 10.0
SCENARIOS_MAX: Final = 50
_SCENARIO: Table = {
    "name": Field("text", rule=text_like(IDENTIFIER_PATTERN)),
    "moves": Field("table", {}),
    "volatility": Field("number", 0.0, number_in(-1.0, 10.0)),  # of implied volatilities, a fraction of theirs
    "stablecoins": Field("number", 0.0, number_in(MOVE_MIN, MOVE_MAX)),
}
STANDARD: Final[list[dict[str, Any]]] = [
    {"name": "all-down-10", "moves": {"*": -0.1}, "volatility": 0.2, "stablecoins": 0.0},
    {"name": "all-down-30", "moves": {"*": -0.3}, "volatility": 0.5, "stablecoins": 0.0},
    {"name": "all-down-50", "moves": {"*": -0.5}, "volatility": 1.0, "stablecoins": 0.0},
    {"name": "all-up-10", "moves": {"*": 0.1}, "volatility": 0.2, "stablecoins": 0.0},
    {"name": "all-up-30", "moves": {"*": 0.3}, "volatility": 0.5, "stablecoins": 0.0},
    {"name": "all-up-50", "moves": {"*": 0.5}, "volatility": 1.0, "stablecoins": 0.0},
    # the worst 24 hours of Binance's spot prices in either crash; of coins not named, the worst that any had
    {
        "name": "march-2020",
        "moves": {"*": -0.53, "BTC": -0.46, "ETH": -0.48, "LTC": -0.45, "XRP": -0.41, "ADA": -0.46, "BCH": -0.49},
        "volatility": 1.0,
        "stablecoins": 0.0,
    },
    {
        "name": "may-2021",
        "moves": {"*": -0.55, "BTC": -0.32, "ETH": -0.44, "XRP": -0.46, "LINK": -0.47, "ADA": -0.5, "DOT": -0.51},
        "volatility": 1.0,
        "stablecoins": 0.0,
    },
    {"name": "others-halve", "moves": {"*": -0.5, "BTC": 0.0, "ETH": 0.0}, "volatility": 0.0, "stablecoins": 0.0},
    {"name": "others-double", "moves": {"*": 1.0, "BTC": 0.0, "ETH": 0.0}, "volatility": 0.0, "stablecoins": 0.0},
    {"name": "volatility-doubles", "moves": {}, "volatility": 1.0, "stablecoins": 0.0},
    {"name": "volatility-halves", "moves": {}, "volatility": -0.5, "stablecoins": 0.0},
    {"name": "stablecoins-down-10", "moves": {}, "volatility": 0.0, "stablecoins": -0.1},
]


def check_scenarios(found: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    """Return scenarios with what they leave out filled in.

    Raises
    ------
    UsageError
        Naming the scenario and the rule that it breaks.
    """
    if len(found) > SCENARIOS_MAX:
        raise UsageError(f"{place}: {len(found)} scenarios, at most {SCENARIOS_MAX}; leave some out")
    checked = [_checked(one, f"{place} {at}") for at, one in enumerate(found, 1)]
    names = [one["name"] for one in checked]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{place}: two scenarios are named {twice}; rename one")
    return checked


def _checked(found: dict[str, Any], place: str) -> dict[str, Any]:
    scenario = check_table(found, _SCENARIO, place)
    moves = {asset: Field("number", rule=number_in(MOVE_MIN, MOVE_MAX)) for asset in scenario["moves"]}
    check_table(scenario["moves"], moves, f"{place} moves")
    return scenario


def scenarios_of(section: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the scenarios of a configuration's ``[forecasts]``."""
    return section.get("stress") or STANDARD
