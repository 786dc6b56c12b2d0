"""A live run at 20,000 fills and 20,000 marks a second loses, repeats and hoards nothing, on whatever machine.

Where the machine is too slow for the rate, what is not journaled yet waits on the cluster and not in memory; that lag
is flat is then shown at half the rate, or at a quarter. No figure of time is asserted. `SEAWALL_SOAK_S` sets how long
it runs, 120 seconds by default.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from seawall_testing.clusters.kafka_broker import require_broker
from seawall_testing.paths import OPS

pytestmark = [pytest.mark.kafka, pytest.mark.soak, pytest.mark.timeout(2400)]
SCRIPT = OPS / "bench" / "latency_soak.py"
SECONDS = int(os.environ.get("SEAWALL_SOAK_S", "120"))
RATE = 20_000
WARM_S = 20  # in which the rate rises, and the broker's machine compiles
MEMORY_MIB_MAX = 1200
LAG_S_MAX = 2
LEVEL_MIB = 250  # what memory may still grow by in the second half: remembered fills fill up in the first


def soak(rate: int) -> dict[str, Any]:
    """Return what one soak found."""
    options = ["--seconds", str(SECONDS), "--warm-s", str(WARM_S), "--rate", str(rate), "--json"]
    done = subprocess.run([sys.executable, str(SCRIPT), "soak", *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stderr, done.stdout)
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """What a soak at the whole rate found."""
    require_broker()
    return soak(RATE)


def test_a_soak_loses_nothing_repeats_nothing_and_ends_well(figures: dict[str, Any]) -> None:
    assert figures["fills"] > 0
    assert (figures["lost"], figures["repeated"], figures["exit"]) == (0, 0, [0])
    if not figures["not_journaled_yet"]:
        assert figures["commands_missing"] == 0


def test_memory_is_bounded_whether_or_not_the_machine_keeps_up(figures: dict[str, Any]) -> None:
    memory = figures["mib"]
    assert max(memory) < MEMORY_MIB_MAX
    assert memory[-1] - memory[len(memory) // 2] < LEVEL_MIB


def test_lag_is_flat_at_the_rate_that_the_machine_keeps_up_with(figures: dict[str, Any]) -> None:
    found = {RATE: figures}
    for rate in (RATE, RATE // 2, RATE // 4):
        found[rate] = found.get(rate) or soak(rate)
        if is_flat(found[rate]):
            return
    lags = {rate: one["lag"] for rate, one in found.items()}
    pytest.fail(f"behind at every rate; how many records were not journaled yet: {lags}")


def is_flat(found: dict[str, Any]) -> bool:
    """Tell whether what was not journaled yet was never more than what is sent in two seconds."""
    return max(found["lag"]) < LAG_S_MAX * int(found["records_sent_per_s"])
