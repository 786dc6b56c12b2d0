"""How ``graphs`` reads: each node becomes the object it says, of known classes only."""

import functools
import importlib
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from river.anomaly import HalfSpaceTrees
from river.base import Base
from river.tree.padded import PaddedBranch, PaddedLeaf

from seawall.operators.core.detection.graph_writer import parts_of
from seawall.schemas.errors import SnapshotError

_PLAIN = {"float": float, "int": int, "list": list, "dict": dict, "set": set, "tuple": tuple, "str": str, "bool": bool}
_OTHERS: dict[tuple[str, str], Any] = {("random", "Random"): random.Random}
_CALLED = ("river._river_rust", "random")  # compiled parts, which begin in their constructors


def known_modules(template: Any) -> set[str]:
    """Return the modules of the estimators in a blank: their classes may be made beside River's own."""
    return {type(part).__module__ for part in parts_of(template) if isinstance(part, Base)}


class Reader:
    """Reads nodes in the order in which they were written."""

    def __init__(self, numbers: list[float], blob: bytes, functions: dict[str, Any], modules: set[str]) -> None:
        self._numbers = iter(numbers)
        self._blob, self._at = blob, 0
        self._functions, self._modules = functions, modules
        self._seen: list[Any] = []

    def node(self, told: Any) -> Any:
        """Return the object of one node."""
        if told is None or isinstance(told, (bool, str)):
            return told
        match told:
            case ["f"]:
                return next(self._numbers)
            case ["i", digits]:
                return int(digits)
            case ["bytes", length]:
                return self._take(length)
            case ["class", module, name]:
                return self._class(module, name)
            case ["ref", index]:
                return self._seen[index]
        slot = len(self._seen)
        self._seen.append(None)
        found = self._seen[slot] = self._composed(told, slot)
        return found

    def _composed(self, told: Any, slot: int) -> Any:
        match told:
            case ["deque", most, items]:
                return self._filled(slot, deque(maxlen=most), lambda made: made.extend(self._sequence(items)))
            case ["dict" | "OrderedDict" | "Counter" as name, keys, values]:
                made = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}[name]()
                return self._filled(slot, made, lambda made: _pair(made, self._sequence(keys), self._sequence(values)))
            case ["defaultdict", default, keys, values]:
                made = defaultdict(self.node(default))
                return self._filled(slot, made, lambda made: _pair(made, self._sequence(keys), self._sequence(values)))
            case ["array", *rest]:
                return self._array(*rest)
            case ["partial", function, arguments, keywords]:
                return functools.partial(self.node(function), *self.node(arguments), **self.node(keywords))
            case ["method", owner, name]:
                return self._method(self.node(owner), name)
            case ["function", name]:
                return self._functions[name]
            case ["trees", *rest]:
                return self._trees(slot, *rest)
            case ["new" | "call" as how, module, name, arguments, state, *held]:
                made = self._object(slot, how, self._class(module, name), self._sequence(arguments), state)
                return self._held(made, *held)
            case ["list", _, _]:
                return self._filled(slot, [], lambda made: made.extend(self._sequence(told)))
            case ["set", _, _]:
                return self._filled(slot, set(), lambda made: made.update(self._sequence(told)))
            case ["tuple" | "frozenset", _, _]:
                return self._sequence(told)
        raise ValueError(f"{str(told)[:40]} is no node")

    def _filled(self, slot: int, made: Any, fill: Callable[[Any], None]) -> Any:
        self._seen[slot] = made  # before what it holds is read: that may refer back to it
        fill(made)
        return made

    def _sequence(self, told: Any) -> Any:
        name, kind, items = told
        if kind == "f":
            found = [next(self._numbers) for _ in range(items)]
        elif kind == "i":
            found = [int(next(self._numbers)) for _ in range(items)]
        else:
            found = [self.node(item) for item in items]
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[name](found)

    def _take(self, length: int) -> bytes:
        self._at += length
        if length < 0 or self._at > len(self._blob):
            raise ValueError("there are fewer bytes than it says")
        return self._blob[self._at - length : self._at]

    def _array(self, kind: str, shape: list[int] | None, length: int) -> Any:
        found = np.frombuffer(self._take(length), np.dtype(kind)).copy()
        return found[0] if shape is None else found.reshape(shape)

    def _class(self, module: str, name: str) -> Any:
        if module == "builtins" and name in _PLAIN:
            return _PLAIN[name]
        if (module, name) in _OTHERS:
            return _OTHERS[module, name]
        if not module.startswith("river.") and module not in self._modules:
            raise SnapshotError(f"a snapshot of a detector may not hold {module}.{name}")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not isinstance(found, type):
            raise SnapshotError(f"a snapshot of a detector may not hold {module}.{name}")
        return found

    def _method(self, owner: Any, name: str) -> Any:
        if name.startswith("__") or not isinstance(owner, Base):
            raise ValueError(f"{name} is no method of {type(owner).__name__}")
        return getattr(owner, name)

    def _object(self, slot: int, how: str, kind: Any, arguments: Any, state: Any) -> Any:
        if how == "call" and not (kind.__module__.startswith(_CALLED) or issubclass(kind, deque)):
            raise SnapshotError(f"a snapshot of a detector may not call {kind.__module__}.{kind.__name__}")
        made = self._seen[slot] = kind.__new__(kind, *arguments) if how == "new" else kind(*arguments)
        found = self.node(state)
        if hasattr(made, "__setstate__"):
            if found is not None:
                made.__setstate__(found)
            return made
        if found is None:
            return made
        plain, slots = found if isinstance(found, tuple) else (found, None)
        if plain:
            made.__dict__.update(plain)
        for name, value in (slots or {}).items():
            setattr(made, name, value)
        return made

    def _held(self, made: Any, items: Any, keys: Any, values: Any) -> Any:
        for item in self._sequence(items):
            made.append(item)
        _pair(made, self._sequence(keys), self._sequence(values))
        return made

    def _trees(self, slot: int, state: Any, names: Any, features: Any, thresholds: Any, masses: Any) -> Any:
        made = self._seen[slot] = HalfSpaceTrees.__new__(HalfSpaceTrees)
        keys, values = self._sequence(state[0]), self._sequence(state[1])
        made.__dict__.update(zip(keys, values, strict=True))
        known = self._sequence(names)
        columns = [self._array(*told[1:]).tolist() for told in (features, thresholds, masses)]
        rows = iter(zip(*columns, strict=True))
        made.trees = [_grow(rows, made.height, known) for _ in range(made.n_trees)]
        made._tree_nodes = [list(tree.iter_dfs()) for tree in made.trees]  # type: ignore[no-untyped-call]
        return made


def _pair(made: Any, keys: list[Any], values: list[Any]) -> None:
    for key, value in zip(keys, values, strict=True):
        made[key] = value


def _grow(rows: Iterator[Any], height: int, names: list[Any]) -> Any:
    feature, threshold, (l_mass, r_mass) = next(rows)
    if height == 0:
        return PaddedLeaf(l_mass=l_mass, r_mass=r_mass)  # type: ignore[no-untyped-call]
    left, right = (_grow(rows, height - 1, names) for _ in range(2))
    return PaddedBranch(left, right, names[feature], threshold, l_mass, r_mass)  # type: ignore[no-untyped-call]
