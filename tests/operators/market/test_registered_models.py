"""A River estimator of one's own in the place of a market group's models."""

from river import anomaly, preprocessing

from seawall.operators.core.detection import (
    UNUSUAL_SCORE,
    Composite,
    IndependentKind,
    ModelRegistry,
    RegisteredModels,
    make_models,
)
from seawall.operators.core.market import GroupState
from seawall.operators.river import river_kind
from seawall.schemas.configuration import MarketTerms
from seawall_testing.desk import SECOND, T0
from seawall_testing.market_data import group_items, market, quote, signals

TERMS = MarketTerms(groups=1)


def build():
    return preprocessing.StandardScaler() | anomaly.LODA(n_random_cuts=5, seed=7)


def loda(columns):
    return RegisteredModels(columns, ModelRegistry(lambda: (river_kind(columns, build),)))


def composites(columns):
    return RegisteredModels(columns, make_models(columns))


def challenged(columns):
    def kinds():
        return IndependentKind(lambda: Composite(columns), UNUSUAL_SCORE), river_kind(columns, build)

    return RegisteredModels(columns, ModelRegistry(kinds))


def given(seconds, names=("ETH-PERP",)):
    return [item for _, item in group_items(market(seconds, names=names), TERMS)]


def rows_of(records):
    return [row for signal in signals(records) for row in signal.instruments if row.state]


def test_a_groups_scores_are_those_of_the_estimator_that_was_given():
    group = GroupState(0, TERMS, loda)
    rows = rows_of([record for item in given(320) for record in group.step(item)])
    other = GroupState(0, TERMS)
    usual = rows_of([record for item in given(320) for record in other.step(item)])
    assert [row.features for row in rows] == [row.features for row in usual]
    assert {row.state for row in rows} == {"warming", "ready"}
    assert [row.score for row in rows] != [row.score for row in usual]


def test_a_group_of_them_restarts_in_mid_stream_bit_for_bit():
    for make in (loda, challenged):
        whole, half = GroupState(0, TERMS, make), GroupState(0, TERMS, make)
        stream = given(200, ("A", "B"))
        wanted = [whole.step(item) for item in stream]
        found = [half.step(item) for item in stream[:137]]
        restored = GroupState.restore(half.snapshot(), TERMS, make)
        assert found + [restored.step(item) for item in stream[137:]] == wanted
        assert restored.snapshot() == whole.snapshot()


def test_an_alert_of_a_registered_composite_names_its_features():
    group = GroupState(0, TERMS, composites)
    stream = [item for _, item in group_items(market(330, crash_at=280), TERMS)]
    told = [a for s in signals([r for item in stream for r in group.step(item)]) for a in s.alerts]
    assert "return_z" in next(alert.text for alert in told if alert.kind == "anomaly")


def test_a_forgotten_instrument_gives_its_slot_back():
    group = GroupState(0, MarketTerms(groups=1, instruments_max=1), composites)
    records = [quote(T0 + s * SECOND, 100.0 + s % 7, name=name) for name in "AB" for s in range(40)]
    for at, record in enumerate(records):
        record["event_time_us"] = T0 + at * SECOND
    for _, item in group_items(records, TERMS):
        group.step(item)
    assert group.registry.evicted == 1 and len(group.registry) == 1
    assert all(len(models._classes) <= 1 for models in group.registry.models.values())
