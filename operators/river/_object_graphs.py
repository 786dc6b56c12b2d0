"""Object graphs of River as text and numbers: state without pickle, and nothing in it that can run."""

import copyreg
import functools
import importlib
import json
import random
import types
import zlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from river.anomaly import HalfSpaceTrees
from river.base import Base
from river.tree.padded import PaddedBranch, PaddedLeaf

from seawall.operators.core.base import pack_numbers, pack_parts, unpack_numbers, unpack_parts
from seawall.schemas.errors import SnapshotError

# Writer: one node of JSON per object, its numbers and bytes put aside in order.

EXACT_MAX = 2**53  # integers up to here are doubles without loss

_SEQUENCES = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}


class GraphWriter:
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

    def _composed(self, item: Any, kind: type) -> Any:  # noqa: PLR0911 - one return per form
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


def reachable_parts(root: Any) -> Iterator[Any]:
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


def template_functions(template: Any) -> dict[str, Any]:
    """Return the functions that a blank estimator holds, by name; raises SnapshotError when two share one."""
    found: dict[str, Any] = {}
    for part in reachable_parts(template):
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


# Reader: each node becomes the object it says, of known classes only.

_PLAIN = {"float": float, "int": int, "list": list, "dict": dict, "set": set, "tuple": tuple, "str": str, "bool": bool}
_OTHERS: dict[tuple[str, str], Any] = {("random", "Random"): random.Random}
_CALLED = ("river._river_rust", "random")  # compiled parts, which begin in their constructors


def known_modules(template: Any) -> set[str]:
    """Return the modules of the estimators in a blank: their classes may be made beside River's own."""
    return {type(part).__module__ for part in reachable_parts(template) if isinstance(part, Base)}


class GraphReader:
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

    def _composed(self, told: Any, slot: int) -> Any:  # noqa: C901, PLR0911 - one case per form
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


# An object graph of River as text and numbers: no pickle, nothing in it that can run.
#
# A River estimator is a graph of small objects; pickle would store it as a program. Here it becomes
#
# * a **text** (JSON) that says how the graph is shaped: containers, classes by name, what is shared with what;
# * an **array of doubles** with every number that learning changes, in the order in which the text mentions them;
# * **bytes** that River's own compiled parts and numpy arrays give.
#
# Reading makes objects of classes in River and in the modules of the estimators in a blank template, and of no others;
# functions are never read but taken from the template. HalfSpaceTrees are stored as arrays over their nodes, because
# 12,775 small objects are slow to name one by one.
#
# References
# ----------
# Python documentation, ``object.__reduce_ex__``: what an object is made of.

_TAG = "graph_01"
_FLOATS = "floats01"


def encode_graph(root: Any, template: Any) -> bytes:
    """Encode ``root``, which grew from something built like ``template``.

    Raises
    ------
    SnapshotError
        The graph holds something that has no flat form, named in the message.
    """
    writer = GraphWriter(template_functions(template))
    shape = writer.node(root)
    text = json.dumps(shape, separators=(",", ":"), allow_nan=False).encode()
    blob = b"".join(writer.blobs)
    check = float(zlib.crc32(blob, zlib.crc32(text)))
    return pack_parts(_TAG, [check], [text, pack_numbers(_FLOATS, writer.numbers), blob])


def decode_graph(data: bytes, template: Any) -> Any:
    """Build what ``encode_graph`` was given; ``template`` is a blank of the same making.

    Raises
    ------
    SnapshotError
        The bytes are damaged, or name a class that neither River nor the template knows.
    """
    (check,), (text, numbers, blob) = unpack_parts(_TAG, data, 1, 3)
    if zlib.crc32(blob, zlib.crc32(text)) != int(check):
        raise SnapshotError("a snapshot of a River estimator is damaged: its checksum does not match")
    floats = unpack_numbers(_FLOATS, numbers)
    try:
        return GraphReader(floats, blob, template_functions(template), known_modules(template)).node(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, StopIteration) as error:
        raise SnapshotError(f"a snapshot of a River estimator cannot be read: {error}") from error
