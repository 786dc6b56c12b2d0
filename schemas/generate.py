"""JSON Schemas of what travels, generated from the structs: ``python -m seawall.schemas.generate``.

``json/input.json`` describes input records, ``json/redrive.json`` rejected ones that are sent in again,
``json/slice.json`` a journal record, and one file each the records of the output topics, for subscribers in any
language. A test compares them with what stands beside this module.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from seawall.schemas.decimals import PATTERN
from seawall.schemas.events import Event
from seawall.schemas.outputs import OUTPUTS
from seawall.schemas.redrives import Redrive
from seawall.schemas.slices import Slice

FOLDER = Path(__file__).resolve().parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DECIMAL = f"^{PATTERN}$"


def documents() -> dict[str, str]:
    """Return the text of each schema by file name."""
    outputs = {f"{topic}.json": _open(topic, types) for topic, types in OUTPUTS.items()}
    inputs = {
        "input.json": _document(Event, "Input record"),
        "redrive.json": _document(Redrive, "Record of the topic redrive"),
        "slice.json": _document(Slice, "Slice"),
    }
    return {**inputs, **outputs}


def _document(kind: Any, title: str) -> str:
    schema = _tidied(msgspec.json.schema(kind))
    return json.dumps({"$schema": DIALECT, "title": title, **schema}, indent=1) + "\n"


def _open(topic: str, types: tuple[object, ...]) -> str:
    """Return the schema of an output topic, in which later versions may add fields."""
    forms, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    schema = {"anyOf": list(forms)} if len(forms) > 1 else dict(forms[0])
    body = {"$schema": DIALECT, "title": f"Record of the topic {topic}", **schema, "$defs": components}
    return json.dumps(_extensible(body), indent=1) + "\n"


def _extensible(node: Any) -> Any:
    if isinstance(node, list):
        return [_extensible(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = ("additionalProperties", False)
    return {key: _extensible(value) for key, value in node.items() if (key, value) != closed}


def _tidied(node: Any) -> Any:
    """Leave out what stands for absence inside the structs; let decimals be numbers too."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidied = {key: _tidied(value) for key, value in node.items() if not (key == "default" and value in ("", -1))}
    if isinstance(tidied.get("enum"), list):
        tidied["enum"] = [value for value in tidied["enum"] if value != ""]
    if tidied.get("pattern") == _DECIMAL:
        tidied["type"] = ["string", "number"]
    return tidied


def main() -> None:
    """Write the schemas."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
