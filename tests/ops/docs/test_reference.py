"""The API reference: every public name has a docstring, and one command makes pages of them all."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall_testing.paths import ROOT

ROOMS = ("operators", "connectors", "schemas")
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """Yield a module or class and what is public in it, with their names."""
    yield name, node
    for part in node.body:
        if isinstance(part, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not part.name.startswith("_"):
            if isinstance(part, ast.ClassDef):
                yield from public(part, f"{name}.{part.name}")
            else:
                yield f"{name}.{part.name}", part


def test_every_public_name_has_a_docstring() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    names = [found for path in files for found in public(ast.parse(path.read_text()), str(path.relative_to(ROOT)))]
    assert len(names) > 1000
    assert [name for name, node in names if not ast.get_docstring(node)] == []


@pytest.mark.soak
def test_the_reference_is_built_from_the_docstrings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seawall.ops.docs.reference", str(tmp_path)]  # what ops/reference runs
    assert "-m seawall.ops.docs.reference" in (ROOT / "ops" / "reference").read_text()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            if not path.name.startswith("_"):
                assert f"seawall/{path.relative_to(ROOT).with_suffix('.html')}" in pages
    assert "does not resolve" not in done.stderr
    assert "enforce_limits" in (tmp_path / "seawall/operators.html").read_text()
