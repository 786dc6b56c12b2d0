"""The whole Hyperliquid export with a margin limit on every account: who crossed 0.8, 0.95 and 1, and when."""

import os
from pathlib import Path

import pytest

from seawall_testing.bench import benchmark
from seawall_testing.paths import ROOT, SHARED

DATA = SHARED / "data" / "hyperliquid_accounts_2023"
PAGE = ROOT / "ops" / "docs" / "benchmarks" / "margin-crossings-2023.md"


@pytest.mark.soak
@pytest.mark.skipif("SEAWALL_ACCOUNTS" not in os.environ, reason="SEAWALL_ACCOUNTS does not ask for the whole export")
@pytest.mark.skipif(not DATA.is_dir(), reason="the account export of 2023 is not here")
def test_crossings_come_in_order_of_levels_and_are_those_of_the_published_table(tmp_path: Path) -> None:
    module = benchmark("limits")
    found = module.crossings_of(tmp_path, DATA)
    for crossing in found:
        reached = [at for at in crossing.times if at is not None]
        assert reached == sorted(reached)
        assert crossing.times[: len(reached)] == tuple(reached)
    published = PAGE.read_text()
    assert len(found) == published.count("| 0x")
    assert all(f"| {c.account} | {module.bench.utc(c.times[0])} |" in published for c in found)
