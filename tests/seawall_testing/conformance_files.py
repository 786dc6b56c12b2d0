"""What passes between a conformance job on Flink and who compares: items and outputs as lines of text files."""

import pickle
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any


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
