"""JSON Schemas of what travels, generated from the structs: ``python -m seawall.schemas.generate``.

``OUTPUTS`` names the types of every output topic (contract.md, "Output records"). Nothing is encoded through them:
``operators/core`` writes the records, and a test holds every record of a run against these types. A subscriber should
accept fields that it does not know, since later versions may add some; the generated schemas allow them.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from seawall.schemas.configuration import ConfigurationFile, PlaybookFile, PortfolioMargin
from seawall.schemas.decimals import PATTERN
from seawall.schemas.decisions import Alert, AuditRecord, Breach, Command, Reject
from seawall.schemas.events import Event
from seawall.schemas.evidence import STATE, Heartbeat, State, state_type
from seawall.schemas.exposures import Exposures, Forecasts, WideExposures
from seawall.schemas.measures import LimitsFile
from seawall.schemas.records import Redrive, Slice

# Output records as types: documentation, and the source of the JSON Schemas for subscribers.
#
# See contract.md, "Output records".

OUTPUTS: dict[str, tuple[object, ...]] = {
    "exposures": (Exposures, WideExposures),
    "alerts": (Alert,),
    "breaches": (Breach,),
    "commands": (Command,),
    "audit": (AuditRecord,),
    "rejects": (Reject,),
    "forecasts": (Forecasts,),
    "state": (State, Heartbeat),
}
"""The types of each topic: ``exposures`` has two forms, told apart by ``shard``, ``state`` by its ``targets``."""


def decode_output(topic: str, value: bytes) -> object:
    """Return the typed record of an output topic.

    Raises
    ------
    msgspec.DecodeError
        The value is none of the topic's types, or has a field that they do not have.

    Examples
    --------
    >>> value = b'{"shard":0,"seq":7,"as_of_us":1,"accounts":[],"netting_sets":[],"counterparties":[]}'
    >>> decode_output("exposures", value).seq
    7
    """
    types = OUTPUTS[topic]
    second = state_type(value) != STATE if topic == "state" else value.startswith(b'{"shard":"all"')
    try:
        return msgspec.json.decode(value, type=types[-1] if second else types[0])
    except (UnicodeDecodeError, RecursionError) as error:  # which the decoder lets through
        raise msgspec.DecodeError(str(error)) from None


# JSON Schemas of what travels, generated from the structs: ``python -m seawall.schemas.generate``.
#
# ``json/input.json`` describes input records, ``json/redrive.json`` rejected ones that are sent in again,
# ``json/slice.json`` a journal record, and one file each the records of the output topics, for subscribers in any
# language. ``FILES`` are for editors, which complete and check a TOML file whose first line is ``#:schema PATH``. A
# test compares them all with what stands beside this module.

FOLDER = Path(__file__).resolve().parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DECIMAL = f"^{PATTERN}$"
FILES: dict[str, type] = {
    "configuration": ConfigurationFile,
    "limits": LimitsFile,
    "playbook": PlaybookFile,
    "grid": PortfolioMargin,
}
"""The TOML files that people write. Rules that join several keys are not in a schema; reading a file checks them."""


def documents() -> dict[str, str]:
    """Return the text of each schema by file name."""
    outputs = {f"{topic}.json": _open(topic, types) for topic, types in OUTPUTS.items()}
    inputs = {
        "input.json": _document(Event, "Input record"),
        "redrive.json": _document(Redrive, "Record of the topic redrive"),
        "slice.json": _document(Slice, "Slice"),
    }
    files = {f"{name}.json": _file(kind, f"A {name} file") for name, kind in FILES.items()}
    return {**inputs, **outputs, **files}


def _file(kind: type, title: str) -> str:
    """Return the schema of a TOML file, a table's description being the first sentence of its docstring."""
    schema = msgspec.json.schema(kind)
    for table in schema["$defs"].values():
        if "description" in table:
            table["description"] = table["description"].split("\n\n")[0]
    return json.dumps({"$schema": DIALECT, "title": title, **schema}, indent=1) + "\n"


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
