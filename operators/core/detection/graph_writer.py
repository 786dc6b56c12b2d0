"""How ``graphs`` writes: one node of JSON per object, its numbers and bytes put aside in order."""

import copyreg
import functools
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from river.anomaly import HalfSpaceTrees
from river.tree.padded import PaddedBranch

from seawall.schemas.errors import SnapshotError

EXACT_MAX = 2**53  # integers up to here are doubles without loss

_SEQUENCES = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}


class Writer:
    """Walks a graph once; an object that was met before is written as a reference to its number."""

    def __init__(self, functions: dict[str, Any]) -> None:
        self.numbers: list[float] = []
        self.blobs: list[bytes] = []
        self._functions = functions
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # reduction makes temporaries, and the id of a freed one would be given again

    def node(self, item: Any) -> Any:
        """Return the node of one object."""
        kind = type(item)
        if item is None or kind is bool or kind is str:
            return item
        if kind is float:
            self.numbers.append(item)
            return ["f"]
        if kind is int:
            return ["i", str(item)]
        if kind is bytes:
            self.blobs.append(item)
            return ["bytes", len(item)]
        if isinstance(item, type):
            return ["class", item.__module__, item.__qualname__]
        if id(item) in self._seen:
            return ["ref", self._seen[id(item)]]
        self._seen[id(item)] = len(self._seen)
        self._alive.append(item)
        return self._composed(item, kind)

    def _composed(self, item: Any, kind: type) -> Any:
        if kind in _SEQUENCES:
            return self._sequence(_SEQUENCES[kind], item)
        if kind is deque:
            return ["deque", item.maxlen, self._sequence("list", item)]
        if kind in (dict, OrderedDict, Counter):
            return [kind.__name__, *self._pairs(item)]
        if kind is defaultdict:
            return ["defaultdict", self.node(item.default_factory), *self._pairs(item)]
        if isinstance(item, (np.ndarray, np.generic)):
            return self._array(item)
        if kind is functools.partial:
            return ["partial", *(self.node(part) for part in (item.func, item.args, item.keywords))]
        if kind is types.MethodType:
            return ["method", self.node(item.__self__), item.__name__]
        if isinstance(item, (types.FunctionType, types.BuiltinFunctionType, np.ufunc)):
            if _name(item) not in self._functions:
                raise SnapshotError(f"an estimator holds the function {_name(item)}, which its blank does not")
            return ["function", _name(item)]
        if kind is HalfSpaceTrees and item.trees:
            return self._trees(item)
        return self._object(item, kind)

    def _sequence(self, name: str, items: Iterable[Any]) -> Any:
        items = list(items)
        if items and all(type(item) is float for item in items):
            self.numbers += items
            return [name, "f", len(items)]
        if items and all(type(item) is int and -EXACT_MAX <= item <= EXACT_MAX for item in items):
            self.numbers += map(float, items)
            return [name, "i", len(items)]
        return [name, "", [self.node(item) for item in items]]

    def _pairs(self, items: dict[Any, Any]) -> list[Any]:
        return [self._sequence("list", items.keys()), self._sequence("list", items.values())]

    def _array(self, item: Any) -> Any:
        if item.dtype.hasobject:
            raise SnapshotError("an estimator holds an array of objects, which has no flat form")
        data = np.ascontiguousarray(item).tobytes()
        self.blobs.append(data)
        scalar = isinstance(item, np.generic)
        return ["array", item.dtype.str, None if scalar else list(item.shape), len(data)]

    def _trees(self, item: Any) -> Any:
        state = {name: value for name, value in item.__dict__.items() if name not in ("trees", "_tree_nodes")}
        nodes = [node for tree in item.trees for node in _preorder(tree)]
        splits = [(node.feature, node.threshold) if isinstance(node, PaddedBranch) else None for node in nodes]
        names = sorted({split[0] for split in splits if split}, key=repr)
        index = {name: at for at, name in enumerate(names)}
        columns = (
            np.array([index[split[0]] if split else 0 for split in splits], "<u2"),
            np.array([split[1] if split else 0.0 for split in splits], "<f8"),
            np.array([(node.l_mass, node.r_mass) for node in nodes], "<u4"),
        )
        told = [self._pairs(state), self._sequence("list", names)]
        return ["trees", *told, *map(self._array, columns)]

    def _object(self, item: Any, kind: type) -> Any:
        try:
            reduced = item.__reduce_ex__(4)
        except TypeError as error:
            raise SnapshotError(f"an estimator holds a {kind.__name__}, which has no flat form") from error
        if isinstance(reduced, str):
            raise SnapshotError(f"an estimator holds a {kind.__module__}.{kind.__name__}, which has no flat form")
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if make is copyreg.__newobj__ and arguments[0] is kind:  # type: ignore[attr-defined]
            how, arguments = "new", arguments[1:]
        elif make is kind:
            how = "call"
        else:
            raise SnapshotError(f"an estimator holds a {kind.__module__}.{kind.__name__}, which has no flat form")
        self._alive.append(reduced)
        told = [self._sequence("tuple", arguments), self.node(state)]
        held = (
            self._sequence("list", [] if items is None else items),
            *self._pairs(dict(() if pairs is None else pairs)),
        )
        return [how, kind.__module__, kind.__qualname__, *told, *held]


def parts_of(root: Any) -> Iterator[Any]:
    """Walk everything reachable from a blank estimator, each object once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, (str, bytes, int, float, type(None), type)):
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, (list, tuple, set, frozenset, deque)):
            waiting += part
        else:
            waiting += [*getattr(part, "__dict__", {}).values()]


def functions_of(template: Any) -> dict[str, Any]:
    """Return the functions that a blank estimator holds, by name; raises SnapshotError when two share one."""
    found: dict[str, Any] = {}
    for part in parts_of(template):
        if isinstance(part, (types.FunctionType, types.BuiltinFunctionType, np.ufunc)):
            name = _name(part)
            if found.setdefault(name, part) is not part:
                raise SnapshotError(f"two functions of an estimator share the name {name}: give each its own")
    return found


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', function.__name__)}"


def _preorder(node: Any) -> Iterator[Any]:
    yield node
    for child in getattr(node, "children", ()):
        yield from _preorder(child)
