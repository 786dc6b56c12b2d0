"""``sw.detect`` alone in somebody's dataflow; the market operator by its dotted name; the examples of both are true."""

import doctest
import importlib
import pkgutil
import random
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, cluster_main, run_main

import seawall.operators as sw
from seawall.operators.core import market
from seawall.operators.core.detection import AlertRule, Composite, Sample, ScoreState, observe

ROWS = 400


def rows(keys: str = "ab", seed: int = 3) -> list[tuple[str, tuple[int, tuple[float, float]]]]:
    rng = random.Random(seed)
    found = []
    for row in range(ROWS):
        for key in keys:
            jump = 40.0 if (key, row) == ("a", 350) else 0.0
            found.append((key, (row * 1_000_000, (rng.gauss(10, 1) + jump, rng.gauss(5, 1)))))
    return found


def flow(source: Any, found: list[Any], **options: Any) -> Dataflow:
    dataflow = Dataflow("plant")
    samples = op.input("samples", dataflow, source)
    op.output("found", sw.detect("detect", samples, ("heat", "load"), **options), TestingSink(found))
    return dataflow


def detected(given: list[Any], **options: Any) -> list[Any]:
    found: list[Any] = []
    run_main(flow(TestingSource(given, batch_size=13), found, **options))
    return found


def test_scores_are_those_of_the_detector_alone_and_keys_do_not_touch_each_other() -> None:
    found = detected(rows(), make=lambda: Composite(("heat", "load")))
    for key in "ab":
        alone = Composite(("heat", "load"))
        wanted = [observe(alone, Sample(*value)).value for name, value in rows() if name == key]
        assert [answer.score.value for name, answer in found if name == key] == wanted


def test_a_jump_is_an_alert_that_names_the_column_and_calm_keys_have_none() -> None:
    found = detected(rows(), rule=AlertRule(level=0.7))
    told = [(key, answer.sample.time_us, answer.alert) for key, answer in found if answer.alert]
    assert [(key, time_us) for key, time_us, _ in told] == [("a", 350_000_000)]
    assert "heat" in told[0][2]


def test_numbers_that_cannot_be_used_are_answered_invalid_and_leave_no_trace() -> None:
    clean = [("a", value) for _, value in rows("a")]
    bad = [("a", (None, values)) for values in ((float("nan"), 1.0), (1.0, float("inf")), (1e200, 1.0))]
    found = detected(clean[:200] + bad + clean[200:])
    assert [answer.score.state for _, answer in found[200:203]] == [ScoreState.INVALID] * 3
    kept = [answer.score.value for _, answer in found[:200] + found[203:]]
    assert kept == [answer.score.value for _, answer in detected(clean)]


def test_a_restart_in_mid_stream_continues_bit_for_bit(tmp_path: Path) -> None:
    given = rows()
    whole = detected(given)
    init_db_dir(tmp_path, 1)
    found: list[Any] = []
    broken = [*given[:500], TestingSource.ABORT(), *given[500:]]
    source = TestingSource(broken, batch_size=1)
    for _ in range(2):
        run_main(flow(source, found), epoch_interval=None, recovery_config=RecoveryConfig(str(tmp_path)))
    last = {(key, answer.sample.time_us): answer for key, answer in found}
    assert last == {(key, answer.sample.time_us): answer for key, answer in whole}


def test_two_workers_give_what_one_gives() -> None:
    found: list[Any] = []
    cluster_main(flow(TestingSource(rows()), found), [], 0, worker_count_per_proc=2)
    for key in "ab":
        assert [a for name, a in found if name == key] == [a for name, a in detected(rows()) if name == key]


def test_the_dotted_step_ids_are_frozen_because_they_are_the_state_schema() -> None:
    dataflow = flow(TestingSource([]), [])
    assert [step.step_id for step in dataflow.substeps[1].substeps] == ["plant.detect.key"]


CORE = sorted(f"{market.__name__}.{module.name}" for module in pkgutil.iter_modules(market.__path__))
MODULES = ["seawall.operators._streams", *CORE]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
