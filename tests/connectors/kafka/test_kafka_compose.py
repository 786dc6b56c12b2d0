"""The broker for those who have Docker is the one that tests start: same version, same properties."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.ops.kafka.cluster import LISTENERS, server_properties
from seawall_testing.paths import OPS

KAFKA = OPS / "kafka"
PLACE = re.compile(r".*listener.*|controller\.quorum\.voters|log\.dirs")
SECURITY = re.compile(r"(ssl|sasl|listener\.name)\..*|authorizer\.class\.name|super\.users|allow\.everyone.*")


@pytest.fixture(scope="module")
def broker() -> dict[str, Any]:
    """The service of the compose file."""
    compose = yaml.safe_load((KAFKA / "compose.yaml").read_text())
    assert set(compose["services"]) == {"broker"}
    return dict(compose["services"]["broker"])


def properties_of(environment: dict[str, str]) -> dict[str, str]:
    """Return the properties that the image makes of its environment."""
    named = {
        name: value for name, value in environment.items() if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): str(value) for name, value in named.items()}


def test_the_broker_of_the_compose_file_has_the_properties_of_the_one_that_tests_start(broker: dict[str, Any]) -> None:
    text = server_properties(Path("/x"), 1, [dict.fromkeys(LISTENERS, 1)], {})
    ours = dict(line.split("=", 1) for line in text.splitlines())
    theirs = properties_of(broker["environment"])
    elsewhere = {name for name in {*ours, *theirs} if PLACE.fullmatch(name) or SECURITY.fullmatch(name)}
    assert len(elsewhere & theirs.keys()) == 7
    assert {n: v for n, v in theirs.items() if n not in elsewhere} == {
        n: v for n, v in ours.items() if n not in elsewhere
    }


def test_the_broker_of_the_compose_file_is_of_the_version_that_maven_fetches_and_listens_on_this_machine_only(
    broker: dict[str, Any],
) -> None:
    found = re.search(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([^<]+)<", (KAFKA / "pom.xml").read_text())
    assert found is not None and broker["image"] == f"apache/kafka:{found[1]}"
    assert [port.split(":")[0] for port in broker["ports"]] == ["127.0.0.1"]
