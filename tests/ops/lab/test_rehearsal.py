"""A world that reacts to commands: with a ready playbook clients owe less than without, from the same prices."""

from pathlib import Path

import pytest

from seawall.ops.lab.backtest import Rehearsal, RehearsalResult, WorldReactions
from seawall.schemas.configuration import load_configuration
from seawall_testing.bench import benchmark
from seawall_testing.desk import SECOND, T0, Json, account, fill, instrument, mark, transfer
from seawall_testing.paths import SHARED
from seawall_testing.pipeline import write_configuration
from seawall_testing.playbooks import rule

DATA = SHARED / "data"
LIMIT: Json = {"id": "m", "scope": "account:a", "measure": "margin_ratio", "warning": 0.2, "soft": 0.3, "hard": 0.5}
ROOM: Json = {"id": "room", "scope": "account:house/hub", "measure": "gross_notional", "hard": 1e9}


def records() -> list[tuple[int, Json]]:
    """Return a client that is long 100 with 2,000 behind it, hedged by the house, while the price falls by half."""
    rates = instrument(initial_margin_rate="0.05", maintenance_margin_rate="0.05")
    hub = {"type": "counterparty", "counterparty": "hub", "name": "hub", "role": "venue"}
    house = {"type": "account", "account": "house/hub", "counterparty": "hub", "holder": "house", "venue": "hub"}
    terms = {"type": "netting_set", "netting_set": "a", "counterparty": "a", "close_out": True}
    party, holder = account("a")
    found = [(T0, one) for one in (rates, hub, house, party, terms, holder)]
    found += [(T0, transfer(T0, "t", amount="2000")), (T0, transfer(T0, "h", "house/hub", amount="20000"))]
    found += [(T0 + 1, mark(T0 + 1, "100")), (T0 + 2, fill(T0 + 2, "f", quantity="100", price="100"))]
    found.append((T0 + 3, fill(T0 + 3, "g", "house/hub", quantity="100", price="100")))
    for at in range(1, 51):
        at_us = T0 + at * SECOND
        row = {"instrument": "ETH-PERP", "price": 100.0 - at, "source": "mark", "time_us": at_us, "state": "ready"}
        depth = {"type": "signal", "event_time_us": at_us, "group": 0, "groups": 1, "seq": at}
        found.append((at_us, {**depth, "instruments": [{**row, "depth": [1000.0] * 8}]}))
        found.append((at_us + 1, mark(at_us + 1, str(100 - at))))
        more = fill(at_us + 2, f"m{at}", quantity="1", price=str(100 - at))  # the client would add all the way down
        found.append((at_us + 2, more))
    return found


CALL = rule("call", {"limit": "m", "level": "warning"}, ("CALL_MARGIN", "account", {"amount": "300"}))
STOP = rule("stop", {"limit": "m", "level": "soft"}, ("REDUCE_ONLY", "account"))
CLOSE = ("REDUCE_POSITION", "account", {"compute": "position", "to": "warning", "participation": 0.05})
BOOK = [CALL, STOP, rule("close", {"limit": "m", "level": "hard"}, CLOSE, dwell_s=1, repeat=True)]


def play(folder: Path, book: list[Json], **reactions: object) -> RehearsalResult:
    response = {"subscribers": ["rehearsal"], "acknowledge_s": 3} if book else None
    path = write_configuration(folder, {}, [LIMIT, ROOM], book, shards=1, exposure_change_min=0, response=response)
    world = WorldReactions(hedged_at="house/hub", **reactions)  # type: ignore[arg-type]
    return Rehearsal(load_configuration(path), world).play(records())


def test_a_client_that_is_stopped_and_closed_out_owes_less_than_one_that_is_left_alone(tmp_path: Path) -> None:
    alone, stopped = play(tmp_path / "alone", []), play(tmp_path / "stopped", BOOK)
    assert alone.commands == []
    assert alone.shortfall(["a"]) > 3000 > 300 > stopped.shortfall(["a"])
    assert stopped.dropped > 20  # fills that REDUCE_ONLY kept from happening
    assert {"REDUCE_ONLY", "REDUCE_POSITION", "CALL_MARGIN"} == {c["type"] for c in stopped.commands}
    assert all(
        delay == 0 for c, delay in zip(stopped.commands, stopped.delays_s(), strict=True) if c["type"] != CLOSE[0]
    )


def test_nobody_acts_where_nobody_listens(tmp_path: Path) -> None:
    alone, deaf = play(tmp_path / "alone", []), play(tmp_path / "deaf", BOOK, obeys=False)
    assert deaf.commands != []
    assert deaf.equity == alone.equity


def test_who_has_the_means_pays_when_called_and_nobody_pays_twice(tmp_path: Path) -> None:
    reactions = {"means": {"a": 200.0}, "pays_after_us": SECOND}
    poor = play(tmp_path / "poor", [CALL])
    paying = play(tmp_path / "paying", [CALL], **reactions)
    assert paying.equity["a"] - poor.equity["a"] == pytest.approx(200.0)


def test_the_same_world_gives_the_same_commands(tmp_path: Path) -> None:
    one, two = play(tmp_path / "1", BOOK), play(tmp_path / "2", BOOK)
    assert one.commands == two.commands


# --- 19 May 2021 ------------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.skipif(not (DATA / "crash_may_2021").is_dir(), reason="the bars of May 2021 are not here")
def test_in_may_2021_the_ready_playbook_keeps_clients_from_owing_without_a_storm_and_without_flapping() -> None:
    module = benchmark("mitigation")
    crash = module.CRASHES["may_2021"]._replace(start="2021-05-19T12:30", end="2021-05-19T13:15")
    without, with_it = (module.play(crash, playbook) for playbook in (None, "client_default"))
    assert without.shortfall_max > 1_000_000
    assert with_it.shortfall_max < 0.25 * without.shortfall_max
    largest = [max(v for name, v in one.peaks.items() if name.startswith("client")) for one in (with_it, without)]
    assert largest[0] < largest[1]
    assert with_it.most_per(60_000_000) <= 60
    assert max(with_it.transitions().values()) <= 2
