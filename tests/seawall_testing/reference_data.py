"""Reference data and published test vectors: read where they are present, the test skipped where they are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from seawall_testing.paths import SHARED

# Where the optional reference data lies, and a skip that names what is absent.


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not here")
    return path


# Published test vectors: read where they are at hand, skipped where they are not.


def read_vectors(name: str) -> Any:
    """Return a vector file's content; skip the test when it is not on this machine."""
    path = SHARED / "vectors" / name
    if not path.exists():
        pytest.skip(f"no {name} on this machine")
    return json.loads(path.read_text())


def vector_names(folder: str) -> list[str]:
    """Return the files of a folder of vectors, possibly none."""
    return sorted(path.name for path in (SHARED / "vectors" / folder).glob("*.json"))
