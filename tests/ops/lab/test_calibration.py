"""Calibration is judged on history that it was not fitted on, says plainly if it is no better, and applies nothing."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from seawall.operators.core.limits import Policy
from seawall.ops.cli._app import app
from seawall.ops.lab.backtest import Cache, Workers, load_backtest_plan, load_study, prepare_history
from seawall.ops.lab.backtest._history import write_signals
from seawall.ops.lab.backtest._proposal import DRIFTED, Fit, alerts_at_threshold, read_scores, stability
from seawall.ops.lab.backtest._study import apply_values, blocks, candidates, current_value, folds, walk_forward
from seawall.ops.reports import read_requested_changes
from seawall.ops.run import _run as runner
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall.schemas.evidence import LimitDocument
from seawall_testing.lab_history import write_history, write_inputs

Json = dict[str, Any]
STUDY = """
plan = "plan.toml"
blocks = 4
embargo_s = 300
[[parameter]]
name = "limits.margin.hard"
values = [0.55]
[[parameter]]
name = "market.alert_score"
values = [0.7]
[objective]
close_out = 0.001
command = 0
"""


@given(st.integers(2, 12), st.integers(0, 50), st.integers(0, 10_000))
def test_what_is_judged_lies_an_embargo_after_all_that_was_fitted(count: int, embargo: int, first: int) -> None:
    cut = blocks(first, first + 100 * count, count, embargo)
    for fold in folds(count):
        ended = max(cut[at].last_us for at in fold.train)
        assert cut[fold.test].first_us >= ended + embargo
    assert {fold.test for fold in folds(count)} == set(range(1, count))


def test_an_embargo_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than a block"):
        blocks(0, 100, 10, 10)


def fitted(costs: list[list[float]]) -> Fit:
    means = [sum(row) for row in costs]
    tried = [{"limits.margin.hard": 0.7 - at / 10} for at in range(len(costs))]
    return Fit("limits", ("limits.margin.hard",), tried, costs, walk_forward(costs), means.index(min(means)))


def test_a_candidate_that_is_better_everywhere_is_found_and_said_to_beat() -> None:
    found = fitted([[5.0, 6.0, 5.0, 7.0, 6.0, 5.0], [4.0, 5.0, 4.0, 5.0, 5.0, 4.0], [9.0] * 6])
    assert found.beats and found.chosen == 1
    assert {one.chosen for one in found.judged} == {1}
    assert (found.train_gain > 0, found.test_gain) == (True, pytest.approx(1.2))
    assert "calibration beats the values in force out of sample: +1.2 saved" in found.sentence()


def test_a_candidate_that_fits_the_past_alone_is_said_not_to_beat() -> None:
    found = fitted([[5.0, 5.0, 5.0, 5.0], [1.0, 9.0, 9.0, 9.0], [9.0, 9.0, 9.0, 9.0]])
    assert found.judged[0].chosen == 1 and found.judged[0].test_rank == 2
    assert found.train_gain > 0 > found.test_gain
    assert not found.beats
    assert "does not beat" in found.sentence() and "3 folds are too few to be sure" in found.sentence()


def test_where_nothing_is_better_what_is_in_force_stays() -> None:
    found = fitted([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    assert (found.chosen, found.beats, found.test_gain) == (0, False, 0.0)


def test_scores_that_fall_where_they_fell_do_not_drift_and_others_do() -> None:
    edges = [at / 10 for at in range(1, 10)]
    same = [(at + 0.5) / 1_000 for at in range(1_000)]
    assert stability(same, edges) == pytest.approx(0.0, abs=1e-9)
    assert stability([value**3 for value in same], edges) > DRIFTED


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate")
    write_history(folder, 60)
    (folder / "study.toml").write_text(STUDY)
    with Workers(1) as workers:
        ready = prepare_history(load_backtest_plan(folder / "plan.toml"), Cache(folder / "cache"), workers)
    write_inputs(folder, ready.files)
    return folder


def test_other_thresholds_give_the_alerts_that_market_itself_would_have_given(study_folder: Path) -> None:
    plan = load_backtest_plan(study_folder / "plan.toml")
    signals = sorted((study_folder / "cache").glob("*.signals.jsonl"))
    files = [path for path in (study_folder / "cache").glob("*.jsonl") if path.name.count(".") == 1]
    raised = []
    for score in (0.5, 0.9):
        terms = msgspec.structs.replace(plan.configuration.market, alert_score=score)
        again = [study_folder / f"again-{group}.jsonl" for group in range(terms.groups)]
        for group, path in enumerate(again):
            write_signals(files, 0, 1 << 53, terms, group, path, lambda time_us: None)
        found = [
            (one["as_of_us"], one["scope"])
            for one in alerts_at_threshold(read_scores(signals), score, terms.refractory_s)
        ]
        told = [
            (signal["event_time_us"], alert["scope"])
            for path in again
            for signal in map(json.loads, path.read_bytes().splitlines())
            for alert in signal.get("alerts", ())
        ]
        assert sorted(found) == sorted(told)
        raised.append(len(told))
    assert raised == sorted(raised, reverse=True) and raised[0] > raised[-1]


def test_a_study_proposes_an_unsigned_document_with_its_evidence_and_applies_nothing(study_folder: Path) -> None:
    before = (study_folder / "limits.toml").read_bytes()
    runner.run(load_configuration(study_folder / "desk.toml"))
    call = [
        "calibrate",
        str(study_folder / "study.toml"),
        "--out",
        str(study_folder / "out"),
        "--cache",
        str(study_folder / "cache"),
    ]
    done = CliRunner().invoke(app, [*call, "--processes", "1", "--json", "--live", str(study_folder / "desk.toml")])
    told = json.loads(done.stdout)
    evidence = json.loads((study_folder / "out" / "evidence.json").read_text())
    assert [one["part"] for one in told["fits"]] == ["limits and playbook", "detector"]
    assert evidence["fits"] == told["fits"] and len(evidence["blocks"]) == 4
    acting = told["fits"][0]
    assert len(acting["folds"]) == 3 and len(acting["costs"]) == 2
    assert (study_folder / "limits.toml").read_bytes() == before
    assert (done.exit_code == 0) == (any(one["beats"] for one in told["fits"]) and not told["drift"]["drift"])
    assert acting["beats"], acting["said"]
    document = LimitDocument.parse((study_folder / "out" / "document.json").read_bytes())
    assert (document.reason, document.set[0]["hard"]) == ("calibration", 0.55)
    assert "evidence sha256" in document.comment
    changes = read_requested_changes(study_folder / "out" / "limits.toml", [], [], None, Policy())
    assert changes.set == document.set
    assert "limit margin: hard is 0.7, calibrated 0.55" in told["drift"]["differs"]


def test_the_first_candidate_is_what_is_in_force(study_folder: Path) -> None:
    study = load_study(study_folder / "study.toml")
    tried = candidates(study, study.parameters)
    assert tried[0] == {"limits.margin.hard": 0.7, "market.alert_score": 0.6}
    assert len(tried) == 4
    changed = apply_values(study.plan.configuration, {"playbook.close.REDUCE_POSITION.participation": 0.25})
    assert current_value(changed, "playbook.close.REDUCE_POSITION.participation") == 0.25
    assert current_value(study.plan.configuration, "playbook.close.REDUCE_POSITION.participation") == 0.5


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("limit.margin.hard", "parameters are limits"),
        ("limits.margn.hard", "there is no 'margn'; did you mean 'margin'"),
        ("limits.margin.hrd", "there is no number 'hrd'; did you mean 'hard'"),
        ("playbook.close.REDUCE.participation", "there is no 'REDUCE'"),
        ("market.stale_s", "only alert_score can be calibrated"),
    ],
)
def test_a_parameter_that_does_not_exist_is_refused_with_the_nearest(study_folder: Path, name: str, why: str) -> None:
    (study_folder / "wrong.toml").write_text(STUDY.replace("limits.margin.hard", name))
    with pytest.raises(UsageError, match=why):
        load_study(study_folder / "wrong.toml")
