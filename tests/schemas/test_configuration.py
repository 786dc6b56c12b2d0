"""Configuration: what is not known is refused with the nearest name that is, and only what decides is journaled."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from seawall.schemas.configuration import journaled_configuration, load_configuration, load_limits, load_playbook, where
from seawall.schemas.configuration._configuration import source_names
from seawall.schemas.errors import UsageError
from seawall.schemas.generate import documents

DESK = """bus = "sqlite:seawall.db"
shards = 4
[inputs]
events = ["reference.jsonl", "fills.jsonl.gz"]
[limits]
file = "limits.toml"
[mitigation]
playbook = "playbook.toml"
[keys]
signer = "file:keys/dev.pem"
"""
LIMITS = """[[limit]]
id = "client-margin"
scope = "account:*"
measure = "margin_ratio"
warning = 0.8
hard = 1.0
exit_ratio = 0.9
dwell_s = 60
"""
PLAYBOOK = """[[rule]]
id = "margin-call"
when = { limit = "client-margin", level = "hard" }
commands = [ { kind = "CALL_MARGIN", target = "account" }, { kind = "REDUCE_ONLY", target = "account" } ]
cooldown_s = 60
"""
MINE = """maintenance_factor = 0.9
[[grids]]
moves = [-0.2, 0.2]
"""


def write(folder: Path, desk: str = DESK, limits: str = LIMITS, playbook: str = PLAYBOOK) -> Path:
    for name, text in (("desk.toml", desk), ("limits.toml", limits), ("playbook.toml", playbook)):
        (folder / name).write_text(text)
    return folder / "desk.toml"


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_configuration(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_configuration_has_its_defaults_filled_in(tmp_path: Path) -> None:
    got = load_configuration(write(tmp_path))
    assert (got.shards, got.slice_ms, got.issuer, got.environment) == (4, 100, "risk/dev", "dev")
    assert (got.events, got.topics, got.wait_ms) == (("reference.jsonl", "fills.jsonl.gz"), (), 100)
    assert got.directory == tmp_path and got.limits_file == tmp_path / "limits.toml"
    assert got.limits[0] == {
        "id": "client-margin",
        "scope": "account:*",
        "measure": "margin_ratio",
        "direction": "above",
        "warning": 0.8,
        "hard": 1.0,
        "exit_ratio": 0.9,
        "dwell_s": 60,
    }
    assert got.playbook[0]["commands"][1] == {"kind": "REDUCE_ONLY", "target": "account"}


def test_market_reads_all_topics_or_those_that_are_named(tmp_path: Path) -> None:
    desk = DESK.replace("[inputs]", '[inputs]\ntopics = ["trades", "fills"]')
    assert load_configuration(write(tmp_path, desk=desk)).market_topics == ("trades", "fills")
    for names, wanted in (('["trades"]', ("trades",)), ("[]", ())):
        said = desk.replace("[inputs]", f"[inputs]\nmarket_topics = {names}")
        assert load_configuration(write(tmp_path, desk=said)).market_topics == wanted


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("shards = 4", "shrads = 4", "'shards'"),
        ("[inputs]", "[input]", "'inputs'"),
        ("events =", "event =", "'events'"),
        ("signer =", "singer =", "'signer'"),
        ("shards = 4", 'environment = "production"', "prod"),
        ("shards = 4", "shards = 0", "shards"),
        ("shards = 4", "shards = true", "shards"),
        ("shards = 4", 'shards = "4"', "shards"),
        ("shards = 4", "slice_ms = 300", "slice_ms"),
        ("shards = 4", "mark_max_age_s = nan", "mark_max_age_s"),
        ("shards = 4", 'issuer = "a b"', "issuer"),
        ("shards = 4", 'environment = "prod"', "documents"),
        ("shards = 4", "shards = = 4", "TOML"),
        ("limits.toml", "limit.toml", "limit.toml"),
        ('"fills.jsonl.gz"', '"reference.jsonl"', "reference.jsonl"),
        (
            "[inputs]",
            '[inputs]\ntopics = ["trades"]\nmarket_topics = ["trade"]',
            "'trade' is not among topics; did",
        ),
        ("[inputs]", '[inputs]\nmarket_topics = ["trades"]', "'trades' is not among topics"),
        ("[inputs]", '[kafka]\ncompression = "lz5"\n[inputs]', "did you mean 'lz4'"),
        ("[inputs]", '[inputs]\ntopics = ["signals"]\nmarket_topics = ["signals"]', "Seawall's own"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(tmp_path: Path, old: str, new: str, names: str) -> None:
    told = refusal(write(tmp_path, desk=DESK.replace(old, new)))
    assert names in told


def test_a_run_that_writes_its_state_more_seldom_than_it_counts_as_stuck_is_refused(tmp_path: Path) -> None:
    desk = DESK.replace("shards = 4", "shards = 4\nsnapshot_s = 20")
    assert load_configuration(write(tmp_path, desk=desk.replace("snapshot_s = 20", "snapshot_s = 10"))).snapshot_s == 10
    told = refusal(write(tmp_path, desk=desk))
    assert "health.stuck_s is 30 and snapshot_s 20" in told and "set it to 40 at least" in told


@pytest.mark.parametrize(
    ("old", "new", "nearest"),
    [
        ('"margin_ratio"', '"margin_ration"', "'margin_ratio'"),
        ('"account:*"', '"acount:*"', "'account'"),
        ('"account:*"', '"account"', "account:NAME"),
        ("warning =", "waring =", "'warning'"),
        ("warning = 0.8", "warning = 1.5", "rise"),
        ("warning = 0.8\nhard = 1.0\n", "", "at least one"),
        ('measure = "margin_ratio"\n', "", "measure"),
        ("dwell_s = 60", 'direction = "over"', "'above'"),
        ("dwell_s = 60", "floor = 60", "add scaling"),
        ("exit_ratio = 0.9", "exit_ratio = 0", "exit_ratio"),
        ('id = "client-margin"', 'id = "default-deny"', "taken"),
    ],
)
def test_a_mistake_in_the_limits_is_named(tmp_path: Path, old: str, new: str, nearest: str) -> None:
    told = refusal(write(tmp_path, limits=LIMITS.replace(old, new)))
    assert nearest in told and "limits.toml" in told


@pytest.mark.parametrize(
    ("old", "new", "nearest"),
    [
        ('"CALL_MARGIN"', '"CALL_MARGINS"', "'CALL_MARGIN'"),
        ('"CALL_MARGIN"', '"REINSTATE"', "people"),
        ('target = "account" },', 'target = "accounts" },', "'account'"),
        ('limit = "client-margin"', 'limit = "client-margins"', "'client-margin'"),
        ('level = "hard"', 'level = "heard"', "'hard'"),
        (', level = "hard"', "", "level"),
        ('limit = "client-margin", level = "hard"', "", "exactly one"),
        ('limit = "client-margin"', 'limit = "client-margin", venue_status = "down"', "exactly one"),
        ("cooldown_s", "cool_down_s", "'cooldown_s'"),
    ],
)
def test_a_mistake_in_the_playbook_is_named(tmp_path: Path, old: str, new: str, nearest: str) -> None:
    told = refusal(write(tmp_path, playbook=PLAYBOOK.replace(old, new)))
    assert nearest in told and "playbook.toml" in told


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("configuration", DESK, "shards"),
        ("limits", LIMITS, "warning"),
        ("playbook", PLAYBOOK, "cooldown_s"),
        ("grid", MINE, "moves"),
    ],
)
def test_an_editor_finds_by_the_schema_what_a_run_refuses(name: str, text: str, key: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(documents()[f"{name}.json"]))
    assert validator.is_valid(tomllib.loads(text))
    assert not validator.is_valid(tomllib.loads(text.replace(key, f"{key}x")))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.toml does not exist" in refusal(tmp_path / "absent.toml")
    assert "cannot be read" in refusal(tmp_path)


def test_limits_and_playbooks_load_alone(tmp_path: Path) -> None:
    write(tmp_path)
    assert load_limits(tmp_path / "limits.toml")[0]["id"] == "client-margin"
    assert load_playbook(tmp_path / "playbook.toml")[0]["id"] == "margin-call"


def test_where_is_a_run_directory_or_a_configuration_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert where(path).shards == 4
    with pytest.raises(UsageError, match=r"run\.toml"):
        where(tmp_path)
    path.rename(tmp_path / "run.toml")
    assert where(tmp_path).path == tmp_path / "run.toml"


def test_the_journal_is_told_of_a_change_once_and_versions_count_changes(tmp_path: Path) -> None:
    before = journaled_configuration(load_configuration(write(tmp_path)), None)
    assert before is not None and (before["version"], before["limits"]["version"]) == (1, 1)
    assert journaled_configuration(load_configuration(tmp_path / "desk.toml"), before) is None
    after = journaled_configuration(load_configuration(write(tmp_path, limits=LIMITS.replace("0.8", "0.7"))), before)
    assert after is not None
    assert (after["version"], after["limits"]["version"], after["playbook"]["version"]) == (2, 2, 1)
    assert after["limits"]["sha256"] != before["limits"]["sha256"]


def test_terms_of_credit_are_journaled_where_they_are_stated_and_may_change(tmp_path: Path) -> None:
    before = journaled_configuration(load_configuration(write(tmp_path)), None)
    assert before is not None and not {"holidays", "potential_exposure_change_min"} & before.keys()
    stated = 'holidays = ["2026-01-01"]\npotential_exposure_change_min = 0.05\n'
    after = journaled_configuration(load_configuration(write(tmp_path, desk=stated + DESK)), before)
    assert after is not None and (after["version"], after["holidays"]) == (2, ["2026-01-01"])
    assert after["potential_exposure_change_min"] == 0.05
    assert journaled_configuration(load_configuration(tmp_path / "desk.toml"), after) is None


def test_nothing_that_is_journaled_names_a_path(tmp_path: Path) -> None:
    assert ".toml" not in str(journaled_configuration(load_configuration(write(tmp_path)), None))


def test_grids_of_venues_are_journaled_as_their_files_say_and_only_where_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    tables = '[portfolio_margin.a]\ngrid = "deribit"\n[portfolio_margin.b]\ngrid = "mine.toml"\ninitial_factor = 1.2\n'
    event = journaled_configuration(load_configuration(write(tmp_path, DESK + tables)), None)
    plain = journaled_configuration(load_configuration(write(tmp_path)), None)
    assert event and plain and "portfolio_margin" not in plain
    assert {**event, "portfolio_margin": None} == {**plain, "portfolio_margin": None}
    own, shipped = event["portfolio_margin"]["b"], event["portfolio_margin"]["a"]
    assert (own["initial_factor"], own["maintenance_factor"], own["grids"][0]["moves"]) == (1.2, 0.9, [-0.2, 0.2])
    assert [one["underlyings"] for one in shipped["grids"]] == [["BTC"], ["ETH"]]


@pytest.mark.parametrize(
    ("table", "text", "told"),
    [
        ('grid = "deribi"', MINE, "did you mean 'deribit'"),
        ('grid = "mine.toml"', MINE, "initial_factor is 0 and maintenance_factor 0.9 of mine.toml"),
        ('grid = "bybit"', MINE, "initial_factor is 0 and maintenance_factor 1 of bybit"),
        ('grid = "none.toml"', MINE, "does not exist"),
        ('grid = "mine.toml"', MINE.replace("moves", "move"), "did you mean 'moves'"),
        ('grid = "mine.toml"', f"{MINE}volatilities = [{{ days = [30, 0] }}]", "days must be given and rise"),
        ('grid = "mine.toml"', f"{MINE}volatilities = [{{ relative = [1, 2] }}]", "one for each of days"),
        ('grid = "mine.toml"', f"{MINE}extended = [{{ moves = [0] }}]", "0 is no move"),
        ('grid = "mine.toml"', f"{MINE}extended = [{{ moves = [0.1], price_range = 0.2 }}]", "beyond price_range"),
        ('grid = "mine.toml"', f"{MINE}[[grids]]\nmoves = [0.1]", "name each underlying once"),
        ('grid = "okx"\ninitial_factor = 11', MINE, "must lie between 0 and 10"),
    ],
)
def test_a_mistake_in_a_venues_grid_is_named(tmp_path: Path, table: str, text: str, told: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    assert told in refusal(write(tmp_path, f"{DESK}[portfolio_margin.hub]\n{table}\n"))


def test_amounts_of_a_grid_in_another_currency_than_the_reports_are_refused(tmp_path: Path) -> None:
    """A dampener of 100,000 USD would be one of 100,000 BTC, and let every loss off."""
    desk = f'reporting_currency = "BTC"\n{DESK}[portfolio_margin.hub]\ngrid = '
    told = refusal(write(tmp_path, f'{desk}"deribit"\n'))
    assert "amounts of deribit are in USD, and reporting_currency is BTC; name a file of your own" in told
    (tmp_path / "mine.toml").write_text(f'currency = "BTC"\n{MINE}')
    assert load_configuration(write(tmp_path, f'{desk}"mine.toml"\ninitial_factor = 1\n')).portfolio_margin["hub"]


def test_every_shipped_grid_can_be_read(tmp_path: Path) -> None:
    for name in ("deribit", "okx", "bybit"):
        got = load_configuration(
            write(tmp_path, f'{DESK}[portfolio_margin.x]\ngrid = "{name}"\ninitial_factor = 1.5\n')
        )
        assert got.portfolio_margin["x"]["grids"] and got.portfolio_margin["x"]["initial_factor"] == 1.5


def test_only_dev_lets_a_stale_price_stand_for_ever(tmp_path: Path) -> None:
    desk = 'environment = "test"\n' + DESK
    with pytest.raises(UsageError, match=r"test needs price_max_age_s.*add price_max_age_s = 3600"):
        load_configuration(write(tmp_path, desk))
    assert load_configuration(write(tmp_path, f"price_max_age_s = 60\n{desk}")).price_max_age_s == 60
    assert load_configuration(write(tmp_path)).price_max_age_s == 0


@pytest.mark.parametrize("change", [{"shards": 8}, {"slice_ms": 50}, {"issuer": "other"}, {"environment": "test"}])
def test_what_never_may_change_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    before = journaled_configuration(load_configuration(write(tmp_path)), None)
    [(name, value)] = change.items()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    desk = f"{name} = {text}\nprice_max_age_s = 60\n" + DESK.replace(
        "shards = 4\n", "" if name == "shards" else "shards = 4\n"
    )
    with pytest.raises(UsageError, match=name):
        journaled_configuration(load_configuration(write(tmp_path, desk=desk)), before)


def test_a_source_is_called_by_the_shortest_end_of_its_path_that_tells_it_apart() -> None:
    assert source_names(["/data/marks.jsonl", "x/fills.jsonl", "../y/fills.jsonl"]) == (
        "marks.jsonl",
        "x/fills.jsonl",
        "y/fills.jsonl",
    )
    with pytest.raises(UsageError, match="twice"):
        source_names(["a.jsonl", "a.jsonl"])
