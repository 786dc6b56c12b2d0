"""Every guide is followed step by step, in an empty folder."""

from pathlib import Path

import pytest

from seawall_testing.live import free_port
from seawall_testing.pages import ROOT, follow

GUIDES = ROOT / "ops" / "guides"
HEAVY = ("deploy-and-run", "subscribe", "govern")  # each starts a run or the demo, and ten commands


@pytest.mark.parametrize("name", ["compose", *(pytest.param(name, marks=pytest.mark.soak) for name in HEAVY)])
def test_a_guide_is_followed_to_its_end(name: str, tmp_path: Path) -> None:
    follow([GUIDES / f"{name}.md"], tmp_path / "here", {"ADDRESS": f"127.0.0.1:{free_port()}"})


def test_every_guide_has_a_test() -> None:
    assert {path.stem for path in GUIDES.glob("[a-z]*.md")} == {"compose", *HEAVY}
