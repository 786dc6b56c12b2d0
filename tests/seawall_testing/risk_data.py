"""Where the optional reference data lies, and a skip that names what is absent."""

import json
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not here")
    return path


def vectors(name: str) -> Any:
    return json.loads(shared("vectors", name).read_text())
