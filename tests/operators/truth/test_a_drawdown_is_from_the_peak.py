"""A drawdown is how far P&L stands below its peak within the window, in every scope that has P&L.

10 bought at 30,000: P&L rises to 10 x 1,000 = 10,000 and falls to 10 x 400, a drawdown of 6,000.
"""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from seawall.operators.core.limits import limit_statuses
from seawall.schemas.errors import UsageError
from seawall.schemas.measures import check_limits
from seawall_testing.desk import T0, Json
from seawall_testing.pipeline import PipelineRun
from seawall_testing.risk_desk import SECOND, client, deposit, house, perpetual, price, run, trade

SCOPES = ("account", "counterparty", "group", "underlying", "venue", "firm", "instrument", "strategy")
BOOK = [perpetual(), *house(venue="desk-venue")]


def limit(kind: str = "account", **fields: Any) -> Json:
    body = {"measure": "drawdown", "direction": "above", "soft": 5_000, "window_s": 60, **fields}
    return {"id": kind, "scope": kind if kind == "firm" else f"{kind}:*", **body}


def desk(folder: Path, *moves: tuple[float, str], limits: Any = (), more: Any = ()) -> PipelineRun:
    party = {"type": "counterparty", "counterparty": "desk-venue", "name": "v", "role": "venue", "group": "g"}
    bought = trade(1, "BTC-PERP", "buy", "10", "30000", strategy="carry", venue="desk-venue")
    begun = [price(0.1, "BTC-PERP", "30000"), deposit(0.2, "100000"), bought]
    records = [*begun, *more, *(price(second, "BTC-PERP", value) for second, value in moves)]
    ordered = sorted(records, key=lambda record: int(record["event_time_us"]))
    return run(folder, BOOK, party, ordered, limits=list(limits) or [limit()])


def test_every_scope_with_pnl_has_a_drawdown(tmp_path: Path) -> None:
    found = desk(tmp_path, (10, "31000"), (20, "30400"), (22, "30400"), limits=[limit(kind) for kind in SCOPES])
    broken = {b["limit"]: (b["measure"], b["value"], b["level"]) for b in found.topic("breaches")}
    assert broken == dict.fromkeys(SCOPES, ("drawdown", pytest.approx(6_000, abs=1e-6), "soft"))


def test_deposits_and_withdrawals_are_no_drawdown(tmp_path: Path) -> None:
    """90,000 go out and P&L stands; then it falls by 6,000, with 1,000,000 coming in."""
    moved = [deposit(12, "-90000"), deposit(20, "1000000")]
    found = desk(tmp_path, (10, "31000"), (20.01, "30400"), (22, "30400"), more=moved)
    assert [(b["as_of_us"], b["value"]) for b in found.topic("breaches")] == [
        (T0 + 20_100_000, pytest.approx(6_000, abs=1e-6))
    ]


def test_a_clients_loss_is_a_drawdown_of_the_account_and_none_of_the_firm(tmp_path: Path) -> None:
    """The client's account is its holder's; from our side the fall is a gain."""
    found = run(
        tmp_path, perpetual(), client(), price(0.1, "BTC-PERP", "30000"), deposit(0.2, "100000", holder="ann"),
        trade(1, "BTC-PERP", "buy", "10", "30000", holder="ann"), price(10, "BTC-PERP", "29000"),
        price(12, "BTC-PERP", "29000"), limits=[limit(), limit("firm"), limit("counterparty")],
    )  # fmt: skip
    assert [(b["scope"], b["value"]) for b in found.topic("breaches")] == [("account:ann", pytest.approx(10_000))]


def test_a_peak_that_lies_before_the_window_does_not_count(tmp_path: Path) -> None:
    """P&L falls by 10 a second from its peak: within any minute by 600 (650 with the part that is running)."""
    moves = [(10.0, "31000"), *((10.5 + n, f"{31_000 - n}") for n in range(150))]
    found = desk(tmp_path, *moves, limits=[limit(soft=560, hard=660)])
    assert [b["level"] for b in found.topic("breaches")] == ["soft"]


class Watched(PipelineRun):
    """A run that keeps the drawdown of the account after every slice."""

    def __init__(self, values: list[bytes], shards: int) -> None:
        self.drawdowns: list[tuple[int, float, float]] = []
        super().__init__(values, shards)

    def _step(self, value: bytes) -> None:
        super()._step(value)
        measures = next(m for m in reversed(self.measured) if m.measures.moment.key != "all").measures
        table = measures.tables["account"]
        if "desk" in table.names:
            pnl = table.values.item(table.measures.index("pnl"), table.names.index("desk"))
            [status] = limit_statuses(self._deciders[0].limits, measures)
            self.drawdowns.append((measures.moment.as_of_us, pnl, status.value))


@pytest.mark.parametrize("seed", range(3))
def test_a_drawdown_is_that_of_an_exhaustive_search(seed: int, tmp_path: Path) -> None:
    """The window reaches back ``window_s``, and at most a twelfth of it further."""
    random = Random(seed)

    def moves() -> Iterator[tuple[float, str]]:
        second, level = 2.0, 30_000.0
        for _ in range(200):
            second, level = second + random.choice((0.1, 1.0, 3.0)), level + random.uniform(-100, 100)
            yield second, f"{level:.2f}"

    found = Watched(desk(tmp_path, *moves(), limits=[limit(soft=1e9)]).values, 1).drawdowns
    until = [*(us for us, *_ in found[1:]), found[-1][0] + 1]  # a value stands until the next
    stood = [(us, end_us, pnl) for (us, pnl, _), end_us in zip(found, until, strict=True)]
    for at_us, now, code in found:
        least, most = (
            max(pnl for us, end_us, pnl in stood if us <= at_us and end_us > at_us - back * SECOND) - now
            for back in (60, 65.1)
        )
        assert least - 1e-9 <= code <= most + 1e-9


def test_a_drawdown_without_a_window_has_a_day() -> None:
    [found] = check_limits([{"id": "d", "scope": "firm", "measure": "drawdown", "hard": 1.0}], "limits")
    assert found["window_s"] == 86_400


@pytest.mark.parametrize(
    "fields",
    [{"direction": "below"}, {"scope": "netting_set:*"}, {"window_s": None, "floor": 1.0, "scaling": {"rating": {}}}],
)
def test_a_drawdown_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    table = {k: v for k, v in {**limit(), **fields}.items() if v is not None}
    with pytest.raises(UsageError, match="drawdown"):
        check_limits([table], "limits")
