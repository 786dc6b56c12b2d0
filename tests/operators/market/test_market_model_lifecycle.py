"""Models with a life of their own in a market group: cold start, drift, promotion, rollback, challengers, restarts."""

import random
from typing import Any

import numpy as np
import pytest

from seawall.operators.core.base import pack
from seawall.operators.core.detection import (
    Composite,
    CompositeArray,
    LifecycleModels,
    ModelEvent,
    Sample,
    ScoreState,
    TrialTerms,
    observe,
)
from seawall.operators.core.market import GroupBatcher, GroupState
from seawall.schemas.configuration import MarketTerms
from seawall_testing.desk import SECOND, T0, Json, instrument
from seawall_testing.market_data import decoded, group_items, market, signals

COLUMNS = ("return_z", "volatility_ratio")
SHORT = TrialTerms(trial_rows=300, rollback_rows=200)
Row = tuple[float, ...]


def rows(count: int, slots: int, seed: int = 1, shift: float = 0.0) -> list[list[Row]]:
    chance = random.Random(seed)
    return [
        [(chance.gauss(shift, 1.0), abs(chance.gauss(1.0 + shift, 0.1))) for _ in range(slots)] for _ in range(count)
    ]


def lived(models: LifecycleModels, slots: list[int], given: list[list[Row]], at: int = 0) -> list[Any]:
    """Return the judgements of some rows, one a second."""
    calm = [False] * len(slots)
    return [models.observe(slots, (at + second) * SECOND, row, calm) for second, row in enumerate(given)]


def events(models: LifecycleModels, slot: int) -> list[ModelEvent]:
    return [told.event for told in models.drain() if told.slot == slot]


@pytest.mark.parametrize("slots", [2, 18])
def test_until_something_happens_a_model_judges_as_a_composite_of_32_bit_rows_does(slots: int) -> None:
    models = LifecycleModels(COLUMNS)
    taken, bank = [models.take() for _ in range(slots)], CompositeArray(slots, COLUMNS, 32)
    for second, row in enumerate(rows(300, slots)):
        found = models.observe(taken, second * SECOND, row, [False] * slots)
        batch = bank.observe(np.arange(slots), np.full(slots, second * SECOND), np.array(row))
        assert [judgement.value for judgement in found] == batch.values.tolist()
    assert models.drain() == []


def test_32_bits_judge_as_64_do_to_four_digits() -> None:
    models, single = LifecycleModels(COLUMNS), Composite(COLUMNS)
    slot = models.take()
    for second, (row,) in enumerate(rows(1500, 1)):
        (found,) = models.observe([slot], second * SECOND, [row], [False])
        wanted = observe(single, Sample(second * SECOND, row))
        assert found.ready is (wanted.state is ScoreState.READY)
        assert found.value == pytest.approx(wanted.value, abs=2e-4)


def test_a_new_member_starts_from_its_class_and_one_of_another_class_does_not() -> None:
    models = LifecycleModels(COLUMNS)
    members = [models.take("perpetual") for _ in range(3)]
    lived(models, members, rows(1100, 3))
    new, stranger = models.take("perpetual"), models.take("option")
    (first,) = lived(models, [new, stranger], rows(1, 2))
    assert (first[0].ready, first[1].ready) == (True, False)
    assert events(models, new) == [ModelEvent.STARTED_FROM_CLASS]
    lived(models, [new], rows(200, 1), 1)
    assert events(models, new) == [ModelEvent.WARMED_UP]


def test_what_is_given_back_is_forgotten_and_its_seat_is_taken_again() -> None:
    models = LifecycleModels(COLUMNS)
    slots = [models.take() for _ in range(2)]
    lived(models, slots, rows(200, 2))
    before = len(models.snapshot()[0][0])
    models.give_back(slots[0])
    assert models.take() == slots[0]
    (found,) = lived(models, slots, rows(1, 2))
    assert (found[0].ready, found[1].ready) == (False, True)
    assert len(models.snapshot()[0][0]) == before


def after_a_wild_market(then_wild: bool) -> list[ModelEvent]:
    """Return what happens to a model that has lived wild times, calm ones with confirmed incidents, and what follows.

    The one that knows wild times calls none of the incidents; the successor that drift starts does.
    """
    models, chance = LifecycleModels(COLUMNS, terms=SHORT), random.Random(1)
    slot, found = models.take(), []
    for second in range(3400):
        wild = second < 1000 or (then_wild and ModelEvent.PROMOTED in found)
        trips = not wild and second > 1000 and second % 100 == 0
        spread = (5.0 if found else 30.0) if wild else 1.0
        row = (12.0 if trips else chance.gauss(0.0, spread), abs(chance.gauss(1.0, 0.1 * spread)))
        models.observe([slot], second * SECOND, [row], [trips])
        found += events(models, slot)
    return found


@pytest.mark.parametrize(("then_wild", "end"), [(False, ModelEvent.KEPT), (True, ModelEvent.ROLLED_BACK)])
def test_drift_retrains_what_catches_more_is_promoted_and_what_turns_noisy_rolled_back(
    then_wild: bool, end: ModelEvent
) -> None:
    assert after_a_wild_market(then_wild)[:3] == [ModelEvent.DRIFTED, ModelEvent.PROMOTED, end]


def test_a_rule_that_confirms_an_incident_reaches_the_trial() -> None:
    models = LifecycleModels(COLUMNS, challenger=True)
    slot = models.take()
    for second, row in enumerate(rows(1200, 1)):
        models.observe([slot], second * SECOND, row, [second == 1100])
    _, life = models._lives[slot]
    assert life.trial.incidents == 1.0 and life.trial.rows > 100.0


@pytest.mark.parametrize("challenger", [False, True])
@pytest.mark.parametrize("cut", [333, 800])
def test_a_restart_in_mid_stream_continues_bit_for_bit(challenger: bool, cut: int) -> None:
    whole, first, second = (LifecycleModels(COLUMNS, challenger, SHORT) for _ in range(3))
    slots = [whole.take("spot") for _ in range(3)]
    assert [first.take("spot") for _ in slots] == slots
    stream = rows(700, 3) + rows(300, 3, shift=4.0)
    wanted = lived(whole, slots, stream)
    found = lived(first, slots, stream[:cut])
    second.restore(first.snapshot())
    assert found + lived(second, slots, stream[cut:], cut) == wanted
    assert _bytes(second.snapshot()) == _bytes(whole.snapshot())
    assert second.take("spot") == whole.take("spot")


def _bytes(state: list[Any]) -> bytes:
    return pack("test", {"state": state})


def test_numbers_that_cannot_be_judged_leave_no_trace() -> None:
    models = LifecycleModels(COLUMNS)
    slots = [models.take() for _ in range(2)]
    lived(models, slots, rows(200, 2))
    before = _bytes(models.snapshot())
    for bad in (float("nan"), float("inf"), 1e19):
        found = models.observe([slots[0]], 200 * SECOND, [(bad, 1.0)], [False])
        assert (found[0].value, found[0].ready) == (0.0, False)
    assert _bytes(models.snapshot()) == before


def described(records: list[Json], names: dict[str, str], terms: MarketTerms) -> list[Any]:
    """Return the items of a market whose instruments are described first."""
    first = decoded([instrument(name, kind=kind) for name, kind in names.items()])
    cutter = GroupBatcher(1, terms.interval_us)
    for event in first:
        cutter.add(-1, event)
    cutter.flush()
    return [item for _, item in cutter.take()] + [item for _, item in group_items(records, terms)]


def test_an_instruments_kind_is_its_asset_class_and_signals_tell_of_models() -> None:
    terms = MarketTerms(groups=1)
    names = {f"P{number}": "perpetual" for number in range(9)}
    late = [record for record in market(480, 7, names=["P9"]) if record["event_time_us"] > T0 + 440 * SECOND]
    records = sorted(market(480, names=names) + late, key=lambda record: record["event_time_us"])
    group = GroupState(0, terms)
    found = [record for item in described(records, names | {"P9": "perpetual"}, terms) for record in group.step(item)]
    told = [(model.instrument, model.event) for signal in signals(found) for model in signal.models]
    assert ("P9", "started_from_class") in told


def test_a_group_with_challengers_restarts_in_mid_stream_bit_for_bit() -> None:
    terms = MarketTerms(groups=1, challenger=True)
    given = [item for _, item in group_items(market(200, names=("ETH-PERP", "BTC-PERP")), terms)]
    whole = GroupState(0, terms)
    wanted = [whole.step(item) for item in given]
    half = GroupState(0, terms)
    found = [half.step(item) for item in given[: len(given) // 2]]
    restored = GroupState.restore(half.snapshot(), terms)
    assert found + [restored.step(item) for item in given[len(given) // 2 :]] == wanted
    assert restored.snapshot() == whole.snapshot()


def test_a_model_takes_300_bytes_and_220_for_each_feature() -> None:
    models = [LifecycleModels(columns) for columns in (COLUMNS, ("spread_bp",))]
    for family in models:
        slots = [family.take() for _ in range(100)]
        width = 2 if family is models[0] else 1
        lived(family, slots, [[row[:width] for row in one] for one in rows(200, 100)])
    sizes = [len(family.snapshot()[0][0]) / 100 for family in models]
    assert sizes[0] < 300 + 2 * 220 and sizes[1] < 300 + 220
