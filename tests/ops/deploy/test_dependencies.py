"""The audit of dependencies: a known vulnerability fails, a service that says nothing does not; both are printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seawall_testing.paths import ROOT

BAD = {"name": "left-pad", "version": "1.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.1"]}]}
GOOD = {"name": "numpy", "version": "2.1", "vulns": []}
UNKNOWN = {"name": "river", "skip_reason": "Dependency not found on PyPI and could not be audited: river (0.26)"}
OWN = {"name": "bytewax-seawall", "skip_reason": "Dependency not found on PyPI"}


def tool(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)


def environment(folder: Path) -> Path:
    """Make what looks like a virtual environment with one package."""
    (folder / "lib/python3.11/site-packages").mkdir(parents=True)
    tool(folder / "bin/python", 'print(\'[{"name": "Left_Pad", "version": "1.0"}]\')')
    return folder


def audited(folder: Path, script: str, components: tuple[str, ...] = ("left-pad",)) -> tuple[int, str]:
    bill = json.dumps({"specVersion": "1.6", "components": [{"name": name} for name in components]})
    tool(folder / "tools/pip-audit", script)
    tool(folder / "tools/cyclonedx-py", f"import sys\nopen(sys.argv[-1], 'w').write({bill!r})")
    words = [
        sys.executable,
        ROOT / "ops/deploy/dependencies.py",
        folder / "tools",
        environment(folder / "env"),
        folder / "b.json",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    return done.returncode, done.stdout + done.stderr


def saying(*packages: dict[str, object]) -> str:
    return f"print({json.dumps({'dependencies': packages})!r})"


def test_a_known_vulnerability_fails_and_is_named_with_the_version_that_mends_it(tmp_path: Path) -> None:
    code, said = audited(tmp_path, saying(GOOD, BAD, UNKNOWN, OWN))
    assert code == 1
    assert "vulnerable: left-pad 1.0: PYSEC-2026-1, mended in 1.1" in said
    assert "not audited: 1 packages (river)" in said
    assert "2 packages audited, 1 known vulnerabilities" in said


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (saying(UNKNOWN), "not audited: 1 packages (river); of the first the service says: Dependency not found"),
        ("import sys\nsys.exit('ConnectionError: no route to host')", "not audited: ConnectionError: no route to host"),
        ("print('{}')", "not audited: pip-audit said nothing"),
    ],
)
def test_a_service_that_says_nothing_fails_nothing_and_is_named(script: str, says: str, tmp_path: Path) -> None:
    code, said = audited(tmp_path, script)
    assert code == 0, said
    assert says in said


def test_a_bill_of_materials_that_lacks_what_is_installed_fails(tmp_path: Path) -> None:
    code, said = audited(tmp_path, saying(GOOD), components=("numpy",))
    assert code == 1
    assert "not in the bill of materials: left-pad" in said
