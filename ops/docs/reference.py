"""``python -m seawall.ops.docs.reference DIR``: the API reference as HTML, one page per module, from the docstrings.

Every module is named, because pdoc follows ``__all__``, which leaves out modules; and names of lazy faces,
which are imported when they are first asked for, are asked for before.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import seawall.connectors
import seawall.operators
import seawall.schemas

ROOMS = (seawall.operators, seawall.connectors, seawall.schemas)


def modules() -> list[str]:
    """Return the names of all public modules of what travels, what decides and what touches the world."""
    found = [room.__name__ for room in ROOMS]
    for room in ROOMS:
        found += [module.name for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    return [name for name in found if not name.rpartition(".")[2].startswith("_")]


def write_reference(folder: Path) -> None:
    """Write the pages and their index."""
    import pdoc  # noqa: PLC0415 - for developers only

    for module in map(importlib.import_module, modules()):  # pdoc asks no lazy face for its names
        for name in getattr(module, "__all__", ()):
            setattr(module, name, getattr(module, name))
    pdoc.render.configure(docformat="numpy")
    pdoc.pdoc(*modules(), output_directory=folder)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
