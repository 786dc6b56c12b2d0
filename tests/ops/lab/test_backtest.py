"""A backtest is the live system reading history: the same signals, breaches, commands; it shows what acting saves."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from seawall.connectors.bus import open_bus, read_all
from seawall.operators.core.forecasts import _losses
from seawall.ops.cli._app import app
from seawall.ops.lab.backtest import (
    Cache,
    Exposures,
    Workers,
    backtest,
    detection_quality,
    load_backtest_plan,
    prepare_history,
)
from seawall.ops.lab.backtest._play import (
    HOUR_US,
    VAR_OF_ES,
    HourlyObservations,
    VariantPlay,
    episodes,
    reactions_of_plan,
)
from seawall.ops.lab.backtest._run import variant_verdicts
from seawall.ops.lab.backtest._stream import read_stream, survey_market
from seawall.ops.lab.backtest.commands import Gates
from seawall.ops.run import _run as runner
from seawall.schemas.configuration import load_configuration
from seawall.schemas.errors import UsageError
from seawall_testing.lab_history import DESK, LIMITS, PLAN, write_history, write_inputs

Json = dict[str, Any]


@pytest.fixture(scope="module")
def history_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    write_history(folder)
    return folder


@pytest.fixture(scope="module")
def workers() -> Any:
    with Workers(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def result(history_folder: Path, workers: Workers) -> Json:
    return backtest(load_backtest_plan(history_folder / "plan.toml"), Cache(history_folder / "cache"), workers)


def published(folder: Path, topics: tuple[str, ...]) -> dict[str, list[bytes]]:
    configuration = load_configuration(folder / "desk.toml")
    bus = open_bus(configuration.bus, folder)
    found = {
        topic: [stored.value for part in bus.partitions(topic) for stored in read_all(bus, topic, part)]
        for topic in topics
    }
    bus.close()
    return found


def test_a_backtest_is_the_live_run_over_the_same_history(history_folder: Path, workers: Workers, result: Json) -> None:
    plan = load_backtest_plan(history_folder / "plan.toml")
    plan = plan._replace(reactions=plan.reactions | {"depth_share": 0.0})  # the live run has no depth either
    ready = prepare_history(plan, Cache(history_folder / "cache"), workers)
    write_inputs(history_folder, ready.files)
    runner.run(load_configuration(history_folder / "desk.toml"))
    live = published(history_folder, ("signals", "exposures", "breaches", "commands"))
    assert [line for path in ready.signals for line in path.read_bytes().splitlines()] == live["signals"]
    heard: dict[str, list[bytes]] = {"exposures": [], "breaches": [], "commands": []}
    deaf = VariantPlay(plan.variants[1]._replace(obeys=False), reactions_of_plan(plan, [], False))
    keep = deaf._take_record

    def hear(topic: str, stored: Any) -> None:
        heard.setdefault(topic, []).append(stored.value)
        keep(topic, stored)

    deaf._take_record = hear  # type: ignore[method-assign]
    deaf.run(
        read_stream(
            plan,
            ready.files,
            ready.signals,
            survey_market(ready.files, ready.signals, plan, Cache(history_folder / "cache")),
            [],
        )
    )
    for topic in ("breaches", "commands"):
        assert {_told(value) for value in heard[topic]} == {_told(value) for value in live[topic]} != set()
    assert _rows(heard["exposures"]) == _rows(live["exposures"]) != []


def _rows(values: list[bytes]) -> list[str]:
    """Return the rows of accounts with their times, in an order of their own."""
    found = [orjson.loads(value) for value in values]
    return sorted(f"{one['as_of_us']} {row}" for one in found for row in one["accounts"])


def _told(value: bytes) -> str:
    """Return what a decision says, without what names the journal that it stands on."""
    found = orjson.loads(value)
    kept = (
        "limit",
        "scope",
        "value",
        "bound",
        "level",
        "previous_level",
        "type",
        "target",
        "action",
        "as_of_us",
        "iat_us",
    )
    return str({name: found[name] for name in kept if name in found})


def test_closing_out_saves_what_a_client_could_not_have_paid(result: Json) -> None:
    alone, closed = result["variants"]["unmitigated"], result["variants"]["mitigated"]
    assert alone["loss"] == pytest.approx(alone["shortfall"], abs=1) and alone["loss"] > 300
    assert closed["loss"] < alone["loss"] / 2
    assert alone["insolvent"] == 1
    assert set(alone["command_kinds"]) <= {"REDUCE_ONLY"}  # of the rule that is built in, where a price is not known
    assert set(closed["command_kinds"]) == {"REDUCE_ONLY", "REDUCE_POSITION"}
    assert closed["rejected"] == 0
    assert result["detection"]["episodes"] == 1


def test_the_same_question_is_answered_from_the_cache_and_another_is_not(
    history_folder: Path, workers: Workers, result: Json
) -> None:
    cache = Cache(history_folder / "cache")
    before = {path.name for path in cache.folder.iterdir()}
    assert backtest(load_backtest_plan(history_folder / "plan.toml"), cache, workers) == result
    assert {path.name for path in cache.folder.iterdir()} == before
    (history_folder / "tight.toml").write_text(LIMITS.replace("0.5", "0.45"))
    variant = '\n[[variant]]\nname = "tight"\nlimits = "tight.toml"\n'
    (history_folder / "tight-plan.toml").write_text(PLAN + variant)
    tight = backtest(load_backtest_plan(history_folder / "tight-plan.toml"), cache, workers)["variants"]["tight"]
    assert tight["journal_sha256"] != result["variants"]["mitigated"]["journal_sha256"]
    assert len({path.name for path in cache.folder.iterdir()} - before) == 1


def test_the_command_ends_with_1_where_a_gate_fails(history_folder: Path, result: Json) -> None:
    call = [
        "backtest",
        str(history_folder / "plan.toml"),
        "--cache",
        str(history_folder / "cache"),
        "--processes",
        "1",
        "--json",
    ]
    found = CliRunner().invoke(app, [*call, "--fail-if", "saved < 0", "--fail-if", "unmitigated.loss > 1"])
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    assert told["result"] == json.loads(json.dumps(result))
    assert len(told["failed"]) == 1 and told["failed"][0].startswith("unmitigated.loss > 1: unmitigated.loss is ")


def test_gates_name_figures_and_refuse_what_they_do_not_understand() -> None:
    found = {"a": {"loss": 5.0, "recall": None}, "ok": True, "text": "x"}
    assert Gates(["a.loss >= 5", "a.loss<5"]).failed(found) == ["a.loss >= 5: a.loss is 5"]
    assert Gates(["a.recall < 0.9"]).failed(found) == ["a.recall < 0.9: a.recall is not known"]
    for text in ("a.los > 5", "ok == 1", "text > 1"):
        with pytest.raises(UsageError, match=r"did you mean 'a\.loss'" if text[0] == "a" else "there is no figure"):
            Gates([text]).failed(found)
    for text in ("a.loss", "a.loss > x", "a.loss > nan"):
        with pytest.raises(UsageError, match="--fail-if"):
            Gates([text])


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"ohlcv"', '"ohlvc"', "there is no format 'ohlvc'; did you mean 'ohlcv'"),
        ('"SIM-*.csv"', '"SUM-*.csv"', r"SUM-.*names no file"),
        ("[reactions]", "[reaction]", "there is no key 'reaction'; did you mean 'reactions'"),
        ('"desk.toml"', '"desk.toml"\nfrom = "soon"', "from is 'soon'; write a time"),
        ("[reactions]", '[[variant]]\nname = "a"\n[[variant]]\nname = "a"\n[reactions]', "two have the same name"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_nearest_right_one(history_folder: Path, old: str, new: str, why: str) -> None:
    (history_folder / "wrong.toml").write_text(PLAN.replace(old, new))
    with pytest.raises(UsageError, match=why):
        load_backtest_plan(history_folder / "wrong.toml")


TERMS = {"move": 0.1, "within_s": 600, "quiet_s": 3600}


def test_a_move_is_one_episode_from_its_extreme_to_its_break_out() -> None:
    times = [at * 60_000_000 for at in range(100)]
    prices = [100.0] * 50 + [97.0, 94.0, 89.0, 85.0] + [85.0] * 46
    (found,) = episodes("X", times, prices, TERMS)
    assert (found.began_us, found.broke_out_us) == (49 * 60_000_000, 52 * 60_000_000)
    assert found.move == pytest.approx(-0.11)
    assert episodes("X", times, [100 + at * 0.1 for at in range(100)], TERMS) == []


def test_detection_counts_what_was_told_how_early_and_what_was_false() -> None:
    times = [at * 60_000_000 for at in range(100)]
    prices = [100.0] * 50 + [97.0, 94.0, 89.0] + [89.0] * 47
    alerts = [{"as_of_us": at * 60_000_000, "scope": "instrument:X"} for at in (5, 50, 51)]
    found = detection_quality({"X": (times, prices)}, [*alerts, {"as_of_us": 0, "scope": "venue:V"}], TERMS)
    assert (found.episodes, found.told, found.alerts, found.false) == (1, 1, 3, 1)
    assert found.lead_s == [120.0]
    told = found.as_dict()
    assert (told["recall"], told["precision"]) == (1.0, pytest.approx(2 / 3))


def test_an_observation_is_the_figure_of_an_hours_beginning_and_the_profit_until_its_end() -> None:
    hourly = HourlyObservations()
    for hour in range(4):
        at_us = hour * HOUR_US + 60_000_000
        hourly.take_exposures(Exposures(at_us, [], [], {"pnl": 10.0 * hour * hour}))
        told = {"scope": "firm", "state": "ready", "var_99_1h": 5.0 + hour, "es_975_1h": 6.0 + hour}
        hourly.take_forecasts({"as_of_us": at_us + 1, "losses": [told]})
    first, second = hourly.observations("firm", "hour")
    assert (first.time_us, first.pnl, first.var_99, first.es_975) == (HOUR_US, 10.0, 5.0, 6.0)
    assert (second.pnl, second.var_99, second.var_975) == (30.0, 6.0, pytest.approx(7.0 * VAR_OF_ES))
    assert hourly.observations("firm", "day") == []


def test_no_observation_spans_a_silence() -> None:
    hourly = HourlyObservations()
    for hour in (0, 1, 2, 7, 8, 9, 10):
        hourly.take_exposures(Exposures(hour * HOUR_US + 1, [], [], {"pnl": float(hour)}))
        told = {"scope": "firm", "state": "ready", "var_99_1h": 5.0, "es_975_1h": 6.0}
        hourly.take_forecasts({"as_of_us": hour * HOUR_US + 2, "losses": [told]})
    assert [one.time_us // HOUR_US for one in hourly.observations("firm", "hour")] == [1, 8, 9]


@pytest.mark.soak  # hours of market at every second
def test_losses_are_observed_as_they_were_published_before_the_hour(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_losses, "READY_MIN", 1)  # or it takes a hundred hours of minutes until anything is tested
    write_history(tmp_path)
    (tmp_path / "desk.toml").write_text(DESK + "[forecasts]\nenabled = true\nlosses = true\n")
    plan, cache = load_backtest_plan(tmp_path / "plan.toml"), Cache(tmp_path / "cache")
    ready = prepare_history(plan, cache, workers)
    played = VariantPlay(plan.variants[0], reactions_of_plan(plan, [], False))
    told, keep = dict[int, Json](), played.hourly.take_forecasts

    def take(record: Json) -> None:
        for row in record.get("losses", ()):
            if row["scope"] == "counterparty:bold":
                told[record["as_of_us"]] = row
        keep(record)

    played.hourly.take_forecasts = take  # type: ignore[method-assign]
    played.run(
        read_stream(plan, ready.files, ready.growing, survey_market(ready.files, ready.growing, plan, cache), [])
    )
    found = played.hourly.observations("counterparty:bold", "hour")
    assert found
    for one in found:
        stood = told[max(at_us for at_us in told if at_us < one.time_us)]
        assert (one.var_99, one.es_975, stood["state"]) == (stood["var_99_1h"], stood["es_975_1h"], "ready")
    said = {one["scope"]: one["reason"] for one in variant_verdicts(played) if one["every"] == "hour"}
    assert said["counterparty:bold"].startswith(f"{len(found)} observations of one hour give the tests no power")
