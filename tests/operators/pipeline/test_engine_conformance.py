"""Every operator gives the same bytes on the plain loop, on Bytewax that was broken off, and on Flink.

The suite is `seawall_testing.conformance`; users run it on their own operators.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seawall import operators as sw
from seawall.operators.core.base import pack, unpack
from seawall_testing import conformance
from seawall_testing.clusters.flink_cluster import flink_home
from seawall_testing.conformance import differences, on_bytewax, on_flink, on_loop, provided
from seawall_testing.core_states import StateCase
from seawall_testing.paths import TESTS

OWN = "seawall_testing.conformance.cases:own"
EXAMPLE = "seawall_testing.conformance.example:subjects"
# The case that stands for each public operator; signing has no state, and is inside the keyed steps of risk.
CASES = {
    "aggregate_exposure": "exposure-0", "detect": "detect", "enforce_limits": "limits-all",
    "forecast_breaches": "foresight-0", "forecast_systemic": "systemic", "plan_mitigation": "mitigation-0",
    "publish_state": "desired", "record_audit": "audit-1", "seal_log": "seal-2", "sign_commands": "risk-shard-0",
    "slice_time": "slice_time", "watch_counterparties": "conduct-1", "watch_market": "market",
}  # fmt: skip


@pytest.fixture(scope="module")
def own() -> dict[str, StateCase]:
    return provided(OWN)


@pytest.fixture(scope="module")
def loop_outputs(own: dict[str, StateCase]) -> conformance.Outputs:
    return on_loop(own)


def test_every_operator_is_among_the_cases_and_has_something_to_say(loop_outputs: conformance.Outputs) -> None:
    assert set(CASES) == set(sw.__all__)
    assert set(CASES.values()) <= loop_outputs.keys()
    assert all(len(set(outputs)) > 1 for outputs in loop_outputs.values())


def test_bytewax_broken_off_at_three_places_gives_the_bytes_of_the_plain_loop(
    own: dict[str, StateCase], loop_outputs: conformance.Outputs, tmp_path: Path
) -> None:
    assert differences(loop_outputs, on_bytewax(own, tmp_path / "recovery"), "bytewax") == []


@pytest.mark.flink
def test_flink_stopped_at_a_savepoint_and_gone_on_with_two_subtasks_gives_the_bytes_of_the_plain_loop(
    loop_outputs: conformance.Outputs, tmp_path: Path
) -> None:
    flink_home()
    assert differences(loop_outputs, on_flink(OWN, tmp_path / "flink"), "flink") == []


class Forgetful:
    """A counter whose snapshot leaves something out."""

    def __init__(self) -> None:
        self.total, self.steps = 0, 0

    def step(self, item: int) -> Any:
        self.total, self.steps = self.total + item, self.steps + 1
        return self.total, self.steps

    def snapshot(self) -> bytes:
        return pack("forgetful/1", {"total": self.total})

    @classmethod
    def restore(cls, data: bytes) -> "Forgetful":
        self = cls()
        self.total = unpack("forgetful/1", data)["total"]
        return self


def test_an_operator_whose_snapshot_leaves_something_out_is_named_with_the_first_wrong_output(tmp_path: Path) -> None:
    subject = StateCase("forgetful", lambda _: Forgetful(), Forgetful.restore, Forgetful.step, list(range(40)))
    subjects = {subject.name: subject}
    found = differences(on_loop(subjects), on_bytewax(subjects, tmp_path / "recovery", aborts=1), "bytewax")
    assert found == ["forgetful: output 20 on bytewax is not that of the plain loop"]


def test_outputs_that_are_missing_are_counted() -> None:
    found = differences({"a": [b"1", b"2"], "b": [b"1"]}, {"a": [b"1"], "b": [b"1"]}, "flink")
    assert found == ["a: flink gave 1 outputs, the plain loop 2"]


def test_a_users_operators_are_held_against_the_engines_by_one_command() -> None:
    command = [sys.executable, "-m", "seawall_testing.conformance", EXAMPLE, "--engine", "bytewax"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=TESTS)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["bytewax: 2 cases, 111 outputs", "the same bytes everywhere"],
    ), done.stderr
