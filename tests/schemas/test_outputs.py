"""Every record that a run writes is one that the JSON Schemas describe, in every field."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest

from seawall.connectors.bus import Bus, open_bus, read_all
from seawall.ops.demo.scenario import write_scenario
from seawall.ops.run import run
from seawall.schemas import decisions, exposures, generate
from seawall.schemas.configuration import load_configuration
from seawall.schemas.configuration._playbook import COMMANDS
from seawall.schemas.generate import OUTPUTS, decode_output
from seawall.schemas.measures import DRAWDOWN, FORECASTS, MEASURES, PNL, UNEXPLAINED
from seawall_testing import crisis
from seawall_testing.shared_runs import DemoRun

SCHEMA_CHECKED_MAX = 300  # records of a topic and kind; the types check all of them
ROWS = {
    "account": exposures.AccountRow,
    "netting_set": exposures.NettingSetRow,
    "counterparty": exposures.CounterpartyRow,
    "group": exposures.GroupRow,
    "underlying": exposures.UnderlyingRow,
    "venue": exposures.VenueRow,
    "instrument": exposures.InstrumentRow,
    "asset": exposures.AssetRow,
    "issuer": exposures.IssuerRow,
    "strategy": exposures.StrategyRow,
}


@pytest.fixture(scope="module", params=["apart", pytest.param("together", marks=pytest.mark.soak)])
def buses(
    request: pytest.FixtureRequest, demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Bus]:
    """The buses of runs that write every topic of risk: the demo and a small crisis with forecasts, or both in one."""
    if request.param == "apart":
        small = crisis.write_crisis(tmp_path_factory.mktemp("small"), 130, per_second=5)
        return {"forecasts": with_forecasts(small), "demo": open_bus("sqlite:seawall.db", demo_run.folder)}
    return {"demo": with_forecasts(write_scenario(tmp_path_factory.mktemp("crisis"), 7).configuration)}


def with_forecasts(path: Path) -> Bus:
    """Run a configuration with forecasts, and open what it wrote."""
    with path.open("a") as file:
        file.write("\n[forecasts]\nenabled = true\n")
    configuration = load_configuration(path)
    run(configuration)
    return open_bus(configuration.bus, configuration.directory)


@pytest.mark.parametrize("topic", OUTPUTS)
def test_every_record_of_a_run_fits_its_type_and_its_json_schema(buses: dict[str, Bus], topic: str) -> None:
    schema = json.loads((generate.FOLDER / f"{topic}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(closed(schema))
    checked: Counter[str] = Counter()
    for name, bus in buses.items():
        for stored in (stored for partition in bus.partitions(topic) for stored in read_all(bus, topic, partition)):
            decode_output(topic, stored.value)
            content = json.loads(stored.value)
            kind = f"{name} {content.get('kind', content.get('reason', content.get('shard')))}"
            checked[kind] += 1
            if checked[kind] <= SCHEMA_CHECKED_MAX:
                validator.validate(content)
    assert checked.total() > 0


def closed(node: Any) -> Any:
    """The published schemas allow what later versions add; here nothing may be undescribed."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    shut = {key: closed(value) for key, value in node.items()}
    return {**shut, "additionalProperties": False} if "properties" in node and node.get("type") == "object" else shut


UNSEEN = {"settled", "acknowledgement", "limits", "limit_document", "withheld", "shadowed", "command_state", "release"}


def test_every_kind_of_audit_record_that_this_run_needs_is_there(buses: dict[str, Bus]) -> None:
    bus = buses["demo"]
    found = {
        json.loads(stored.value)["kind"]
        for partition in bus.partitions("audit")
        for stored in read_all(bus, "audit", partition)
    }
    known = {form.__struct_config__.tag for form in get_args(decisions.AuditRecord)}
    assert found == known - UNSEEN


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_rows_have_the_measures_that_are_computed(row: type[exposures.Output]) -> None:
    kind, *measures = row.__struct_fields__
    measures = [name for name in measures if name not in ("state", "missing", "mend")]
    limited = {*FORECASTS, DRAWDOWN, *(PNL if kind == "account" else ())}
    assert measures == [name for name in MEASURES[kind] if name not in limited]


def test_scopes_and_command_kinds_are_those_of_the_playbook() -> None:
    assert set(exposures.FirmRow.__struct_fields__) == set(MEASURES["firm"]) - FORECASTS - {DRAWDOWN, UNEXPLAINED}
    assert set(get_args(decisions.ScopeKind)) == set(MEASURES)
    assert set(get_args(decisions.CommandKind)) == set(COMMANDS)


def test_a_schema_refuses_a_record_without_a_field_and_allows_one_that_is_new(buses: dict[str, Bus]) -> None:
    bus = buses["demo"]
    schema = json.loads((generate.FOLDER / "breaches.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    breach = json.loads(bus.read("breaches", bus.partitions("breaches")[0], 0, 1)[0].value)
    validator.validate({**breach, "new": 1})
    for name in breach:
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({key: value for key, value in breach.items() if key != name})
