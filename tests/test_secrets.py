"""What could run code or give secrets away: pickle stands in one place, and no log or error says a secret."""

import ast
import os
import pickle
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.connectors.keys import new_key
from seawall.ops.run._engine_change import read_plain
from seawall.schemas.configuration import load_configuration
from seawall.schemas.configuration._configuration import TOML_BYTES_MAX
from seawall.schemas.errors import UsageError
from seawall_testing.command_line import seawall
from seawall_testing.desk import account, instrument, lines
from seawall_testing.paths import ROOT
from seawall_testing.pipeline import write_configuration

ROOMS = ("schemas", "operators", "connectors", "dataflows", "ops")
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_pickle_is_used_in_one_place_and_loaded_there_by_the_reader_of_plain_values_only() -> None:
    found = {path for path, tree in modules() if RUNS_WHAT_IT_READS & set(imported(tree))}
    assert found == {"ops/run/_engine_change.py"}
    text = (ROOT / "ops/run/_engine_change.py").read_text()
    assert re.findall(r"pickle\.loads?\(", text) == []
    assert text.count("pickle.Unpickler") == 1


def test_nothing_evaluates_text_or_asks_a_shell() -> None:
    for path, tree in modules():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        assert not names & {"eval", "exec"}, path
        for call in calls:
            shell = [word.value for word in call.keywords if word.arg == "shell"]
            assert all(isinstance(value, ast.Constant) and value.value is False for value in shell), path


def test_plain_values_are_read_and_nothing_that_runs(tmp_path: Path) -> None:
    for value in (b"SWS1", (3, "ab"), 7, "text", None, [1, 2]):
        assert read_plain(pickle.dumps(value)) == value

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    with pytest.raises(UsageError, match="which nothing of Seawall writes: do not use it"):
        read_plain(pickle.dumps(Runs()))
    with pytest.raises(UsageError, match="cannot be read"):
        read_plain(b"\x80")
    assert not (tmp_path / "ran").exists()


def test_a_configuration_beyond_its_bound_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_bytes(b"#" * (TOML_BYTES_MAX + 1))
    with pytest.raises(UsageError, match="has more than 1048576 bytes"):
        load_configuration(tmp_path / "desk.toml")


def said(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout + done.stderr


def test_no_secret_is_in_what_a_run_prints_or_writes_whether_it_holds_or_fails(tmp_path: Path) -> None:
    path = write_configuration(tmp_path / "run", {"in.jsonl": lines(instrument(), account("a"))}, shards=1)
    folder, password = path.parent, "hunter2-of-the-broker"
    new_key(folder / "keys/dev.pem", "public.jwks.json")
    secret = "".join((folder / "keys/dev.pem").read_text().splitlines()[1:-1])
    held = seawall("run", path)
    assert held.returncode == 0, held.stderr
    (folder / "kafka.toml").write_text(
        'bus = "kafka://127.0.0.1:1/desk"\n' + path.read_text() + '[kafka]\nsasl = "SCRAM-SHA-512"\n'
        'username = "desk"\npassword = "env:SEAWALL_TEST_PASSWORD"\nca = "keys/dev.pem"\n'
    )
    failed = seawall("run", folder / "kafka.toml", env={"SEAWALL_TEST_PASSWORD": password})
    assert failed.returncode == 2 and len(failed.stderr.splitlines()) == 1
    assert "the settings of [kafka] cannot be used" in failed.stderr
    assert "correct ca, certificate and key in [kafka]" in failed.stderr
    text = said(held) + said(failed) + said(seawall("doctor", path)) + said(seawall("keys", "export", folder))
    assert password not in text and secret not in text and "PRIVATE" not in text
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix != ".pem":
            content = file.read_bytes()
            assert secret.encode() not in content and password.encode() not in content, file
