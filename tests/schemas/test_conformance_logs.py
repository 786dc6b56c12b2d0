"""The conformance cases of logs: three verifiers that share no code say of each what it expects."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.ops.verify import check_log, read_log_keys
from seawall.schemas.errors import SeawallError
from seawall_testing.paths import CONFORMANCE, FOREIGN

FOLDER = CONFORMANCE / "logs"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/expect.json"))


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("older/*"))


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The Go verifier, compiled once."""
    if shutil.which("go") is None:
        pytest.skip("no go on this machine")
    program = tmp_path_factory.mktemp("go") / "verifylog"
    built = subprocess.run(
        ["go", "build", "-o", str(program), "."], cwd=FOREIGN / "go_tlog", capture_output=True, text=True, check=False
    )
    if "dial tcp" in built.stderr or "no required module" in built.stderr:
        pytest.skip("golang.org/x/mod cannot be fetched here")
    assert built.returncode == 0, built.stderr
    return [str(program)]


@pytest.fixture(scope="module")
def node() -> list[str]:
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    return ["node", str(FOREIGN / "node_tlog" / "verify.mjs")]


def test_every_case_is_named_by_what_it_expects() -> None:
    assert len(NAMES) > 25
    for name in NAMES:
        outcome = json.loads((FOLDER / name / "expect.json").read_text())["outcome"]
        assert name.endswith("_fail") == (outcome == "refused")


@pytest.mark.parametrize("name", NAMES)
def test_our_check_of_a_log_has_the_outcome_that_the_case_expects(name: str) -> None:
    folder = FOLDER / name
    try:
        _, findings = check_log(folder / "log", read_log_keys((folder / "log.vkey").read_text()), kept(folder))
        good = not findings
    except SeawallError:
        good = False
    assert good == (not name.endswith("_fail"))


@pytest.mark.parametrize("tool", ["go", "node"])
def test_other_peoples_log_code_has_the_outcomes_that_the_cases_expect(
    tool: str, request: pytest.FixtureRequest
) -> None:
    program, wrong = request.getfixturevalue(tool), []
    for folder in (FOLDER / name for name in NAMES):
        words = [*program, (folder / "log.vkey").read_text().strip(), folder / "log", *kept(folder)]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
        if (done.returncode == 0) != (not folder.name.endswith("_fail")):
            wrong.append((folder.name, done.stdout + done.stderr))
    assert wrong == []


def test_the_generator_writes_exactly_the_committed_logs(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("conformance_generate_logs", CONFORMANCE / "generate_logs.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = generate
    spec.loader.exec_module(generate)
    generate.main(tmp_path)
    assert files(tmp_path) == files(FOLDER)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
