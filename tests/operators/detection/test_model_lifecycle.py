"""A model's life: trials on identical inputs, promotion, rollback, retraining after drift, and the record of each."""

import random

import pytest

from seawall.operators.core.detection import (
    ChallengerRole,
    IndependentKind,
    ModelEvent,
    ModelKey,
    ModelRegistry,
    ModelScope,
    RegistryParameters,
    Sample,
    Score,
    ScoreState,
    Trial,
    TrialTerms,
    make_models,
    new_page_hinkley,
)
from seawall.operators.river import RiverDrift

MINUTE_US = 60_000_000
KEY = ModelKey(ModelScope.COUNTERPARTY, "bank", "dealer")
TERMS = TrialTerms(trial_rows=200, rollback_rows=100)


class Scripted:
    """A detector that answers with the sample's own value of one column: its score is what the test says."""

    names = ("said",)

    def __init__(self, column):
        self._column = column
        self.learned = []

    def score(self, sample):
        return Score(sample.values[self._column], ScoreState.READY)

    def learn(self, sample, score):
        self.learned.append(sample)

    def fresh(self):
        return Scripted(self._column)

    def snapshot(self):
        return b""

    def restore(self, data):
        assert data == b""


def scripted(kinds=2):
    made = []

    def maker(column):
        def make():
            made.append(Scripted(column))
            return made[-1]

        return make

    registry = ModelRegistry(
        lambda: tuple(IndependentKind(maker(column), unusual=0.9) for column in range(kinds)),
        RegistryParameters(terms=TERMS),
        lambda: new_page_hinkley() if kinds == 1 else Still(),
    )
    return registry, made


class Still:
    def update(self, score):
        return False

    def snapshot(self):
        return b""

    def restore(self, data):
        pass


def show(registry, rows, champion, rival, tripped=lambda row: False):
    """Show rows on which the two kinds say what they are told to, and return what came of it."""
    for row in range(rows):
        registry.observe(KEY, Sample(row * MINUTE_US, (float(champion(row)), float(rival(row)))), tripped(row))
    return [(change.event, change.version) for change in registry.drain()]


def every(rows):
    return lambda row: row % rows == 0


def test_a_challenger_sees_identical_inputs_and_answers_nobody():
    registry, made = scripted()
    samples = [Sample(row, (0.25, 0.75)) for row in range(50)]
    assert {registry.observe(KEY, sample).value for sample in samples} == {0.25}
    learning = [detector.learned for detector in made if detector.learned]
    assert learning == [samples, samples]


def test_a_challenger_that_is_calmer_than_a_noisy_champion_is_promoted():
    registry, _ = scripted()
    assert show(registry, 200, every(4), every(50)) == [(ModelEvent.PROMOTED, 1)]
    assert registry.observe(KEY, Sample(0, (0.25, 0.75))).value == 0.75


def test_a_challenger_that_misses_what_the_champion_caught_is_not_promoted_however_calm():
    registry, _ = scripted()
    found = show(registry, 400, every(4), lambda row: False, tripped=lambda row: row == 100)
    assert found == [(ModelEvent.KEPT, 0)]


def test_a_challenger_that_catches_more_confirmed_incidents_is_promoted():
    registry, _ = scripted()
    found = show(registry, 261, lambda row: False, lambda row: row == 95, tripped=lambda row: row == 100)
    assert found == [(ModelEvent.PROMOTED, 1)]


def test_a_tie_keeps_the_champion_and_the_challenger_is_tried_again():
    registry, _ = scripted()
    assert show(registry, 400, every(50), every(50)) == [(ModelEvent.KEPT, 0), (ModelEvent.KEPT, 0)]
    assert registry.life(KEY).role is ChallengerRole.CHALLENGER


def test_a_promoted_model_that_turns_noisy_is_rolled_back():
    registry, _ = scripted()
    assert show(registry, 200, every(4), every(50)) == [(ModelEvent.PROMOTED, 1)]
    assert show(registry, 100, every(50), every(3)) == [(ModelEvent.ROLLED_BACK, 2)]
    assert registry.observe(KEY, Sample(0, (0.25, 0.75))).value == 0.25


def test_a_promoted_model_that_holds_is_kept_and_the_former_one_becomes_its_challenger():
    registry, _ = scripted()
    show(registry, 200, every(4), every(50))
    assert show(registry, 100, every(4), every(50)) == [(ModelEvent.KEPT, 1)]
    assert registry.life(KEY).role is ChallengerRole.CHALLENGER


def test_rows_in_a_confirmed_incident_say_nothing_about_noise():
    trial = Trial()
    for row in range(60):
        trial.count(champion=True, rival=False, tripped=row == 0)
    assert (trial.incidents, trial.caught_champion, trial.caught_rival, trial.rows) == (1, 1, 0, 0)


def test_the_shadow_record_counts_what_each_said():
    registry, _ = scripted()
    show(registry, 100, every(10), every(20), tripped=lambda row: row == 99)
    trial = registry.life(KEY).trial
    assert (trial.rows, trial.unusual_champion, trial.unusual_rival, trial.incidents) == (99, 10, 5, 1)


class Frozen:
    """A detector that learns from its first 150 rows and never again: unusual is what lies outside their range."""

    names = ("x",)

    def __init__(self):
        self.rows, self.low, self.high = 0, float("inf"), -float("inf")

    def score(self, sample):
        if self.rows < 150:
            return Score(0.0, ScoreState.WARMING)
        return Score(0.25 if self.low <= sample.values[0] <= self.high else 1.0, ScoreState.READY)

    def learn(self, sample, score):
        if self.rows < 150:
            self.low, self.high = min(self.low, sample.values[0]), max(self.high, sample.values[0])
        self.rows += 1

    def fresh(self):
        return Frozen()

    def snapshot(self):
        raise NotImplementedError

    def restore(self, data):
        raise NotImplementedError


def frozen(make_drift=new_page_hinkley):
    return ModelRegistry(lambda: (IndependentKind(Frozen, 0.99),), RegistryParameters(terms=TERMS), make_drift)


def feed(registry, rows, mean, seed=1):
    chance = random.Random(seed)
    for row in range(rows):
        registry.observe(KEY, Sample(row * MINUTE_US, (chance.gauss(mean, 1.0),)))
    return [change.event for change in registry.drain()]


def adwin():
    from river import drift

    return RiverDrift(lambda: drift.ADWIN(delta=0.002, clock=1))


@pytest.mark.parametrize("make_drift", [new_page_hinkley, adwin])
def test_a_lasting_shift_starts_a_successor_that_takes_over_only_after_its_trial(make_drift):
    registry = frozen(make_drift)
    assert feed(registry, 1200, 0.0) == []
    assert feed(registry, 2000, 9.0, seed=2)[:3] == [ModelEvent.DRIFTED, ModelEvent.PROMOTED, ModelEvent.KEPT]
    assert registry.observe(KEY, Sample(0, (9.0,))).value < 0.9 < registry.observe(KEY, Sample(0, (0.0,))).value


def test_a_model_trained_on_a_crisis_is_rolled_back_when_the_crisis_ends():
    registry = frozen()
    feed(registry, 1200, 0.0)
    found = []
    for part in range(20):
        found += feed(registry, 50, 9.0, seed=2 + part)
        if ModelEvent.PROMOTED in found:
            break
    found += feed(registry, 400, 0.0, seed=40)
    assert found[:3] == [ModelEvent.DRIFTED, ModelEvent.PROMOTED, ModelEvent.ROLLED_BACK]
    assert registry.observe(KEY, Sample(0, (0.0,))).value < 0.9


def test_a_short_shift_starts_a_successor_that_never_answers():
    registry = frozen()
    feed(registry, 1200, 0.0)
    assert feed(registry, 300, 9.0, seed=2) == [ModelEvent.DRIFTED]
    assert feed(registry, 600, 0.0, seed=3) == [ModelEvent.KEPT]
    life = registry.life(KEY)
    assert (life.version, life.role, life.drifts) == (0, ChallengerRole.NONE, 1)


@pytest.mark.parametrize("cut", [100, 1300, 2600])
def test_a_restart_in_mid_trial_continues_bit_for_bit(cut):
    chance = random.Random(5)
    names = ("a", "b", "c")
    samples = [
        (
            ModelKey(ModelScope.INSTRUMENT, names[row % 3], "perpetual"),
            Sample(row * MINUTE_US, (chance.gauss(0, 1), chance.gauss(0, 1) * (5 if row > 1200 else 1))),
            row % 400 == 0,
        )
        for row in range(3000)
    ]
    whole, first, second = (make_models(("x", "y"), terms=TERMS, challenger=True) for _ in range(3))
    expected = [whole.observe(*each)[:3] for each in samples]
    changes = whole.drain()
    found = [first.observe(*each)[:3] for each in samples[:cut]]
    second.restore(first.snapshot())
    found += [second.observe(*each)[:3] for each in samples[cut:]]
    assert found == expected
    assert first.drain() + second.drain() == changes
    assert {change.event for change in changes} > {ModelEvent.KEPT}
    assert second.snapshot() == whole.snapshot()
