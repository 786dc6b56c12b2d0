"""An object graph of River as text and numbers: no pickle, nothing in it that can run.

A River estimator is a graph of small objects; pickle would store it as a program. Here it becomes

* a **text** (JSON) that says how the graph is shaped: containers, classes by name, what is shared with what;
* an **array of doubles** with every number that learning changes, in the order in which the text mentions them;
* **bytes** that River's own compiled parts and numpy arrays give.

Reading makes objects of classes in River and in the modules of the estimators in a blank template, and of no others;
functions are never read but taken from the template. HalfSpaceTrees are stored as arrays over their nodes, because
12,775 small objects are slow to name one by one.

References
----------
Python documentation, ``object.__reduce_ex__``: what an object is made of.
"""

import json
import zlib
from typing import Any

from seawall.operators.core.detection.flat import from_bytes, from_parts, to_bytes, to_parts
from seawall.operators.core.detection.graph_reader import Reader, known_modules
from seawall.operators.core.detection.graph_writer import Writer, functions_of
from seawall.schemas.errors import SnapshotError

_TAG = "graph_01"
_FLOATS = "floats01"


def encode_graph(root: Any, template: Any) -> bytes:
    """Encode ``root``, which grew from something built like ``template``.

    Raises
    ------
    SnapshotError
        The graph holds something that has no flat form, named in the message.
    """
    writer = Writer(functions_of(template))
    shape = writer.node(root)
    text = json.dumps(shape, separators=(",", ":"), allow_nan=False).encode()
    blob = b"".join(writer.blobs)
    check = float(zlib.crc32(blob, zlib.crc32(text)))
    return to_parts(_TAG, [check], [text, to_bytes(_FLOATS, writer.numbers), blob])


def decode_graph(data: bytes, template: Any) -> Any:
    """Build what ``encode_graph`` was given; ``template`` is a blank of the same making.

    Raises
    ------
    SnapshotError
        The bytes are damaged, or name a class that neither River nor the template knows.
    """
    (check,), (text, numbers, blob) = from_parts(_TAG, data, 1, 3)
    if zlib.crc32(blob, zlib.crc32(text)) != int(check):
        raise SnapshotError("a snapshot of a River estimator is damaged: its checksum does not match")
    floats = from_bytes(_FLOATS, numbers)
    try:
        return Reader(floats, blob, functions_of(template), known_modules(template)).node(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, StopIteration) as error:
        raise SnapshotError(f"a snapshot of a River estimator cannot be read: {error}") from error
