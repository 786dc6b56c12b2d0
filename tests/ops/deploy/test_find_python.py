"""``ops/find-python`` prints an interpreter that was seen to run and to fit, or says what to install.

The interpreters are scripts in a temporary PATH: each answers the probe as a real one of that kind would.
"""

import os
import subprocess
from pathlib import Path

import pytest

from seawall_testing.paths import ROOT

FITS = 'echo "$0"'
TOO_NEW = 'echo ""'
BROKEN_SHIM = 'echo "pyenv: python3.12: command not found" >&2; exit 127'
WITHOUT_ENSUREPIP = "echo \"ModuleNotFoundError: No module named 'ensurepip'\" >&2; exit 1"


class Host:
    """A machine with nothing on it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: list[str] = []

    def put(self, name: str, body: str) -> str:
        """Put an executable script at ``name`` below the machine's root; return its path."""
        script = self.folder / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
        return str(script)

    def bin(self, folder: str, **programs: str) -> None:
        """Add a folder with programs to the end of PATH; ``python3_12`` stands for ``python3.12``."""
        for name, body in programs.items():
            self.put(f"{folder}/{name.replace('_', '.')}", body)
        self.path.append(str(self.folder / folder))

    def find(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the finder with this machine's PATH and no other variable than those given."""
        home = str(self.folder / "home")
        variables = {"PATH": ":".join(self.path), "HOME": home, "HOMEBREW_PREFIX": "/nowhere"} | environment
        command = ["/bin/sh", str(ROOT / "ops/find-python")]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "a machine")


def found(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.strip().rpartition("a machine/")[2]


def test_python_3_12_is_taken_before_3_11_and_both_before_the_default(host: Host) -> None:
    host.bin("bin", python3=FITS, python3_11=FITS, python3_12=FITS)
    assert found(host.find()) == "bin/python3.12"


def test_a_shim_that_only_prints_an_error_is_passed_over_for_the_next_folder_of_path(host: Host) -> None:
    host.bin("shims", python3_12=BROKEN_SHIM)
    host.bin("bin", python3_12=FITS)
    assert found(host.find()) == "bin/python3.12"


def test_a_default_python_that_is_too_new_is_passed_over(host: Host) -> None:
    host.bin("bin", python3=TOO_NEW, python3_11=FITS)
    assert found(host.find()) == "bin/python3.11"


def test_a_python_without_ensurepip_is_passed_over(host: Host) -> None:
    host.bin("bin", python3_12=WITHOUT_ENSUREPIP, python=FITS)
    assert found(host.find()) == "bin/python"


def test_a_folder_or_a_plain_file_of_that_name_is_not_run(host: Host) -> None:
    (host.folder / "odd/python3.12").mkdir(parents=True)
    (host.folder / "odd/python3.11").write_text(FITS)
    host.bin("odd")
    host.bin("bin", python3=FITS)
    assert found(host.find()) == "bin/python3"


def test_the_environment_variable_comes_before_path(host: Host) -> None:
    host.bin("bin", python3_12=FITS)
    mine = host.put("mine/python", FITS)
    assert found(host.find(SEAWALL_PYTHON=mine)) == "mine/python"


def test_an_environment_variable_that_does_not_fit_is_an_error_and_not_ignored(host: Host) -> None:
    host.bin("bin", python3_12=FITS)
    result = host.find(SEAWALL_PYTHON=host.put("mine/python", TOO_NEW))
    assert result.returncode == 2
    assert "SEAWALL_PYTHON is" in result.stderr
    assert result.stdout == ""


def test_a_version_that_pyenv_holds_is_found_although_it_is_not_on_path(host: Host) -> None:
    host.bin("bin", python3=TOO_NEW)
    host.put("home/.pyenv/versions/3.11.9/bin/python", FITS)
    assert found(host.find()) == "home/.pyenv/versions/3.11.9/bin/python"
    host.put("home/.pyenv/versions/3.12.1/bin/python", FITS)
    assert found(host.find()) == "home/.pyenv/versions/3.12.1/bin/python"


def test_a_version_that_homebrew_holds_is_found(host: Host) -> None:
    host = Host(host.folder.with_name("brew"))  # a prefix has no spaces: Homebrew refuses them
    host.put("opt/python@3.12/bin/python3.12", FITS)
    result = host.find(HOMEBREW_PREFIX=str(host.folder))
    assert result.stdout.strip() == f"{host.folder}/opt/python@3.12/bin/python3.12"


def test_a_version_that_only_uv_knows_is_found_and_probed(host: Host) -> None:
    broken, whole = host.put("uv/3.12/python", BROKEN_SHIM), host.put("uv/3.11/python", FITS)
    host.bin("bin", uv=f'case "$*" in *3.12) echo "{broken}" ;; *) echo "{whole}" ;; esac')
    assert found(host.find()) == "uv/3.11/python"


def test_with_nothing_that_fits_it_exits_2_and_says_what_to_install(host: Host) -> None:
    host.bin("bin", python3=TOO_NEW, python3_12=BROKEN_SHIM, python3_11=WITHOUT_ENSUREPIP)
    result = host.find()
    assert result.returncode == 2
    assert result.stdout == ""
    for clue in ("3.11 or 3.12", "apt install", "brew install", "uv python install", "SEAWALL_PYTHON="):
        assert clue in result.stderr


def test_on_this_machine_it_prints_a_python_that_can_make_an_environment() -> None:
    result = subprocess.run([ROOT / "ops/find-python"], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    probe = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    version = subprocess.run([result.stdout.strip(), "-c", probe], capture_output=True, text=True, check=True)
    assert version.stdout.split() in (["3", "11"], ["3", "12"])
    assert os.access(result.stdout.strip(), os.X_OK)
