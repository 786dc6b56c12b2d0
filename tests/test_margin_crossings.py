"""The whole Hyperliquid export with a margin limit on every account: who crossed 0.8, 0.95 and 1, and when."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "hyperliquid_accounts_2023"
SCRIPT = ROOT / "ops" / "benchmarks" / "margin_crossings_2023.py"


@pytest.mark.soak
@pytest.mark.skipif("SEAWALL_ACCOUNTS" not in os.environ, reason="SEAWALL_ACCOUNTS does not ask for the whole export")
@pytest.mark.skipif(not DATA.is_dir(), reason="the account export of 2023 is not here")
def test_crossings_come_in_order_of_levels_and_are_those_of_the_published_table(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("margin_crossings_2023", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = module.run(tmp_path, DATA)
    for crossing in found:
        reached = [at for at in crossing.times if at is not None]
        assert reached == sorted(reached)
        assert crossing.times[: len(reached)] == tuple(reached)
    published = SCRIPT.with_suffix(".md").read_text()
    assert len(found) == published.count("| 0x")
    assert all(f"| {c.account} | {module.text(c.times[0])} |" in published for c in found)
