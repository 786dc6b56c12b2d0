"""One suite of cases on every engine: the plain loop, Bytewax and Flink must give the same bytes.

A case is a `StateCase` (`seawall_testing.core_states`): how a state is made from its first item, restored from its
snapshot and stepped, and the items of one key. A *provider*, ``package.module:function``, returns a list of them;
every engine's process calls it anew, so the items too must come out the same everywhere.

1. The plain loop gives every item to its state in turn: what the engines are held against.
2. Bytewax runs all cases as keys of one step, is broken off at three places and goes on from its recovery store.
3. Flink runs them as keys of one job, with one subtask up to a savepoint, then with two.

An output's bytes are what ``fingerprint`` says of it, written out. Outputs must therefore be plain values, arrays,
tuples, or records whose ``repr`` says all that they hold; sets have no order and do not qualify.

Examples
--------
A user's own operator, with everything that an engine asks of it, is ``seawall_testing.conformance.example``::

    PYTHONPATH=tests python -m seawall_testing.conformance seawall_testing.conformance.example:subjects
"""

import argparse
import os
import pickle
import subprocess
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from seawall.operators.core.base import pack, unpack
from seawall_testing.core_states import StateCase, fingerprint
from seawall_testing.paths import TESTS

# What passes between a conformance job on Flink and who compares: items and outputs as lines of text files.


def write_items(path: Path, items: list[tuple[int, Any]]) -> None:
    """Write ``(place of the subject, item)`` as lines, at once: who watches the folder sees all or nothing."""
    lines = [b64encode(place.to_bytes(2, "big") + pickle.dumps(item)) + b"\n" for place, item in items]
    partial = path.with_name(f".{path.name}")  # Flink leaves out names that begin with a dot
    partial.write_bytes(b"".join(lines))
    partial.rename(path)


def decode_item(value: bytes) -> tuple[int, Any]:
    """Return the place of the subject, and the item, of a decoded line. Only what this process's parent wrote."""
    return int.from_bytes(value[:2], "big"), pickle.loads(value[2:])


class OutputFile:
    """The outputs of one case, one line each: name, number, bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[tuple[str, int, bytes]]:
        """Return what stands."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        fields = [line.split("\t") for line in lines]
        return [(name, int(number), b64decode(data)) for name, number, data in fields]

    def append(self, name: str, number: int, data: bytes) -> None:
        """Write one more."""
        with self._path.open("a") as file:
            file.write(f"{name}\t{number}\t{b64encode(data).decode()}\n")


def output_path(folder: Path, place: int) -> Path:
    """Return the file of a case."""
    return folder / "outputs" / f"{place:05}"


def count_outputs(folder: Path) -> int:
    """Return how many outputs of all cases stand."""
    return sum(len(path.read_bytes().splitlines()) for path in (folder / "outputs").iterdir())


def read_outputs(folder: Path) -> dict[str, list[bytes]]:
    """Return the outputs of every case by its name."""
    found: dict[str, list[bytes]] = {}
    for path in sorted((folder / "outputs").iterdir()):
        for name, number, data in OutputFile(path).read():
            outputs = found.setdefault(name, [])
            assert number == len(outputs), f"{name}: output {number} stands at {len(outputs)}"
            outputs.append(data)
    return found


SCHEMA = "conformance/1"
ENGINES = ("bytewax", "flink")
ABORTS = 3
FLINK_S = 600
Outputs = dict[str, list[bytes]]


class Numbered:
    """A subject's state, its name, and how many items it has taken: what an engine keeps of a key."""

    def __init__(self, subject: StateCase, state: Any = None, taken: int = 0) -> None:
        self._subject, self._state, self._taken = subject, state, taken

    def step(self, item: Any) -> tuple[str, int, bytes]:
        """Take the next item; return the subject's name, the item's number, and the bytes of the output."""
        if self._state is None:
            self._state = self._subject.make(item)
        output = repr(fingerprint(self._subject.step(self._state, item))).encode()
        self._taken += 1
        return self._subject.name, self._taken - 1, output

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        state = None if self._state is None else self._state.snapshot()
        return pack(SCHEMA, {"name": self._subject.name, "taken": self._taken, "state": state})

    @classmethod
    def restore(cls, data: bytes, subjects: dict[str, StateCase]) -> "Numbered":
        """Return the state of a snapshot."""
        kept = unpack(SCHEMA, data)
        subject = subjects[kept["name"]]
        return cls(subject, None if kept["state"] is None else subject.restore(kept["state"]), kept["taken"])


class Taken:
    """Outputs as an engine gave them; what comes again after a restart must be the same."""

    def __init__(self, found: Outputs) -> None:
        self.found = found

    def add(self, name: str, number: int, data: bytes) -> bool:
        """Take one output; tell whether it is new.

        Raises
        ------
        AssertionError
            An output is missing before this one, or it came before and was another.
        """
        have = self.found.setdefault(name, [])
        assert number <= len(have), f"{name}: outputs {len(have)} to {number - 1} are missing"
        if number == len(have):
            have.append(data)
            return True
        assert have[number] == data, f"{name}: output {number} came out differently after a restart"
        return False


def provided(provider: str) -> dict[str, StateCase]:
    """Return the subjects of a provider by name."""
    module, _, function = provider.partition(":")
    found = getattr(import_module(module), function)()
    assert len({subject.name for subject in found}) == len(found), f"{provider}: two subjects have one name"
    return {subject.name: subject for subject in found}


def interleaved(subjects: Iterable[StateCase]) -> list[tuple[str, Any]]:
    """Return all items with the name of their subject, in turns."""
    queues = [(subject.name, subject.items) for subject in subjects]
    longest = max(len(items) for _, items in queues)
    return [(name, items[at]) for at in range(longest) for name, items in queues if at < len(items)]


def on_loop(subjects: dict[str, StateCase]) -> Outputs:
    """Return what the plain loop gives."""
    states, taken = {name: Numbered(subject) for name, subject in subjects.items()}, Taken({})
    for name, item in interleaved(subjects.values()):
        taken.add(*states[name].step(item))
    return taken.found


def on_bytewax(subjects: dict[str, StateCase], folder: Path, aborts: int = ABORTS) -> Outputs:
    """Return what Bytewax gives, broken off at ``aborts`` places; ``folder`` is for its recovery store."""
    from datetime import timedelta

    from bytewax.recovery import RecoveryConfig, init_db_dir
    from bytewax.testing import TestingSource, cluster_main

    folder.mkdir()
    init_db_dir(folder, 1)
    items: list[Any] = [(name, (name, item)) for name, item in interleaved(subjects.values())]
    found: list[Any] = []
    for place in range(1, aborts + 2):
        given, end = list(items), len(items) * place // (aborts + 1)
        if end < len(items):
            given.insert(end, TestingSource.ABORT())  # one per run: a source that passes one twice loses count
        flow = bytewax_flow(subjects, TestingSource(given, batch_size=3), found)
        cluster_main(flow, [], 0, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(folder))
    taken = Taken({})
    for output in found:
        taken.add(*output)
    return taken.found


def bytewax_flow(subjects: dict[str, StateCase], source: Any, found: list[Any]) -> Any:
    """Return the dataflow of all cases, as keys of one step."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSink

    from seawall.operators.stateful import keep_state, single_output

    def make(value: tuple[str, Any]) -> Numbered:
        return Numbered(subjects[value[0]])

    def step(state: Numbered, value: tuple[str, Any]) -> tuple[str, int, bytes]:
        return state.step(value[1])

    flow = Dataflow("conformance")
    stream = op.input("items", flow, source)
    outputs = keep_state("step", stream, make, lambda data: Numbered.restore(data, subjects), single_output(step))
    op.output("outputs", op.map("values", outputs, lambda pair: pair[1]), TestingSink(found))
    return flow


def on_flink(provider: str, folder: Path) -> Outputs:
    """Return what Flink gives; a process of Flink's environment runs it, and leaves its outputs in ``folder``.

    Raises
    ------
    UsageError
        Flink cannot run here.
    AssertionError
        The job failed; its last lines say why.
    """
    from seawall.ops.flink.artifacts import environment

    pass

    home = environment()
    paths = [str(home.seawall()), str(TESTS), os.environ.get("PYTHONPATH", "")]
    variables = os.environ | {
        "PYTHONPATH": ":".join(path for path in paths if path),
        "PATH": f"{home.folder / 'bin'}:{os.environ.get('PATH', '')}",
    }
    command = [str(home.python), "-m", "seawall_testing.conformance.flink", provider, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=FLINK_S, check=False)
    assert done.returncode == 0, "Flink: " + "\n".join((done.stdout + done.stderr).splitlines()[-15:])
    return read_outputs(folder)


def differences(wanted: Outputs, found: Outputs, engine: str) -> list[str]:
    """Return where an engine's outputs are not those of the plain loop, one line per case."""
    lines = []
    for name in sorted(wanted.keys() | found.keys()):
        have, ours = found.get(name, []), wanted.get(name, [])
        at = next((n for n, pair in enumerate(zip(ours, have, strict=False)) if pair[0] != pair[1]), None)
        if at is not None:
            lines.append(f"{name}: output {at} on {engine} is not that of the plain loop")
        elif len(have) != len(ours):
            lines.append(f"{name}: {engine} gave {len(have)} outputs, the plain loop {len(ours)}")
    return lines


def main() -> int:
    """Run the cases of a provider on the engines; print what differs; return 1 where anything does."""
    parser = argparse.ArgumentParser(prog="python -m seawall_testing.conformance", description=__doc__.splitlines()[0])
    parser.add_argument("provider", help="package.module:function, which returns a list of subjects")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="this one only; may be given twice")
    given = parser.parse_args()
    subjects, wrong = provided(given.provider), []
    wanted = on_loop(subjects)
    with tempfile.TemporaryDirectory() as folder:
        for engine in given.engine or ENGINES:
            place = Path(folder) / engine
            found = on_bytewax(subjects, place) if engine == "bytewax" else on_flink(given.provider, place)
            wrong += differences(wanted, found, engine)
            print(f"{engine}: {len(found)} cases, {sum(map(len, found.values()))} outputs")
    print("\n".join(wrong or ["the same bytes everywhere"]))
    return 1 if wrong else 0
