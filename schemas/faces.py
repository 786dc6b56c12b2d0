"""Lazy faces: packages whose names are loaded when they are asked for.

Not everyone who imports a package needs, or has, all of its libraries: ``seawall --help`` needs no engine, a reader of
SQLite no librdkafka. Type checkers and editors see the names through imports under ``TYPE_CHECKING``; the face is
hidden from them, so that a name that it does not have is an error there too.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_face(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names live in the modules that `homes` gives.

    Examples
    --------
    >>> face = lazy_face("seawall.example", {"parse_decimal": "seawall.schemas.decimals"})
    >>> face("parse_decimal")("1.5")
    1.5
    >>> face("nothing")
    Traceback (most recent call last):
    ...
    AttributeError: module 'seawall.example' has no attribute 'nothing'

    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return load
