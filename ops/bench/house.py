"""Measure the house: modules, names, classes, words, depth of imports, length of functions, calls of a trip.

    python ops/bench/house.py [--json] [--unreached] [--trace] [ROOT]

One table for a checkout, read from its sources; ``--trace`` also counts calls over the start of the demo and needs that
checkout installed in the Python that runs this. ``tests/test_house_budget.py`` holds the figures to a budget, and
``ops/docs/house.md`` tells them before and after the move of November 2026.

What is counted
---------------
- Modules are Python files outside ``tests``. Programs that measure (``ops/bench``, ``ops/benchmarks``) are part of
  nothing but two counts of their own. Statements are those of the syntax tree without docstrings.
- A name is public when it is defined at the top level of a module and no part of its path begins with an underscore, or
  when an ``__init__`` exports it. It is imported by another package when code in another folder imports it, or takes it
  from a module that it imports; re-exports are followed to where the name is defined.
- An import counts wherever it stands: in a function and under ``TYPE_CHECKING`` too. A circle is a strongly connected
  component of more than one module. Floors are the longest chain of imports once circles are condensed.
- A module is reached from the doors: the console entry point, the modules of ``dataflows`` and ``operators``, the
  public faces of ``connectors``, what scripts and guides start, and programs whose docstring says how they are run.
  Through a face only what is taken is reached.
- A docstring begins with a clause when its first word is "what", "who", "where", "whether", "which", "how", "when" or
  "why", in a module's also behind its name and a colon. Names in dialect are names that code defines (functions,
  classes, parameters, variables, attributes) with a word of `DIALECT` in them, once per module.
- A slice with fills has no marks and ends no second; an empty second has neither fills nor marks.
"""

import argparse
import ast
import io
import json
import re
import statistics
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOMS = ("schemas", "operators", "connectors", "dataflows", "ops")
PROGRAMS = ("ops/bench/", "ops/benchmarks/")
LINKS = "ops/package/"  # of what lies there only the package's own file is a module
DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
NAMED = re.compile(r"seawall(?:\.\w+)+")
STARTED = re.compile(r"-m (seawall(?:\.\w+)+)|python\S* ((?:schemas|operators|connectors|dataflows|ops)/[\w/]+)\.py")
CLAUSE = re.compile(r"(?:What|Who|Whom|Whose|Where|Whether|Which|How|When|Why)\b")
CLAUSE_BEHIND_NAME = re.compile(r"[^.:]+: (?:what|who|whom|whose|where|whether|which|how|when|why)\b")
# Words of our own that the field has words for (ops/docs/glossary.md): report, notify, receive, request, stored, in
# force, isolated, visit, view, sensitivity, take, successor, partition. Some are the start of others.
DIALECT = {
    *("told", "tell", "tells", "heard", "hear", "hears", "hearing", "asked", "stands", "stood", "standing", "lone"),
    *("coat", "leaning", "leanings", "seat", "seats", "knock", "knocks", "rings", "foreseen", "foresees", "foresight"),
    *("adopt", "adopting", "adoption", "following", "keeping", "joins", "joined", "door", "doors", "surroundings"),
}
WORD = re.compile(r"[A-Z]?[a-z]+")

Graph = dict[str, set[str]]


class Module(NamedTuple):
    """One file: its dotted name, the package that it lies in, its text, its syntax tree and all nodes of that."""

    name: str
    package: str
    text: str
    tree: ast.Module
    nodes: list[ast.AST]

    @property
    def is_face(self) -> bool:
        """Return whether it is the ``__init__`` of its package."""
        return self.name == self.package


class Use(NamedTuple):
    """One thing imported: from which module, under which name there (empty: the module itself), bound to what."""

    module: str
    name: str
    bound: str


def read(root: Path) -> tuple[dict[str, Module], list[Module]]:
    """Return the modules of a checkout by name, and apart from them the programs that measure."""
    modules, programs = {}, []
    for path in (path for room in ROOMS for path in sorted((root / room).rglob("*.py"))):
        where = path.relative_to(root).as_posix()
        package = ".".join(("seawall", *path.relative_to(root).parts[:-1]))
        if where.startswith(LINKS):
            package = "seawall"
        name = package if path.name == "__init__.py" else f"{package}.{path.stem}"
        text = path.read_text("utf-8")
        tree = ast.parse(text)
        module = Module(name, package, text, tree, list(ast.walk(tree)))
        if where.startswith(PROGRAMS):
            programs.append(module)
        else:
            modules[name] = module
    return modules, programs


# --- imports ----------------------------------------------------------------------------------------------------------


def uses(module: Module, modules: dict[str, Module]) -> Iterator[Use]:
    """Yield what a module imports of the package, wherever it does."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    yield Use(alias.name, "", alias.asname or "")
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(module.package.split(".")[: 1 - node.level or None]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                bound = alias.asname or alias.name
                if f"{source}.{alias.name}" in modules:
                    yield Use(f"{source}.{alias.name}", "", bound)
                elif source in modules:
                    yield Use(source, alias.name, bound)


class Imports:
    """Imports between modules, and the names that they take."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self.modules = modules
        self.uses = {name: list(uses(module, modules)) for name, module in modules.items()}
        self.graph = {name: {use.module for use in found} - {name} for name, found in self.uses.items()}
        self._bound = {name: {use.bound: use for use in found} for name, found in self.uses.items()}

    def home(self, module: str, name: str) -> tuple[str, str]:
        """Return the module that defines a name and what it is called there; it may come through several faces."""
        seen = set()
        while name and (use := self._bound[module].get(name)) and (module, name) not in seen:
            seen.add((module, name))
            module, name = use.module, use.name
        return module, name

    def taken(self, module: str) -> Iterator[tuple[str, str]]:
        """Yield module and name, where they are defined, of all that a module takes from others."""
        held = {use.bound: use.module for use in self.uses[module] if not use.name and use.bound}
        for use in self.uses[module]:
            yield self.home(use.module, use.name)
        for node in self.modules[module].nodes:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in held:
                yield self.home(held[node.value.id], node.attr)

    def packages(self) -> Graph:
        """Return which package imports which."""
        graph: Graph = {module.package: set() for module in self.modules.values()}
        for name, imported in self.graph.items():
            package = self.modules[name].package
            graph[package] |= {self.modules[other].package for other in imported} - {package}
        return graph

    def unreached(self, root: Path) -> list[str]:
        """Return the modules that nothing leads to but tests and benchmarks."""
        waiting, reached = list(self._doors(root)), set()
        doors = set(waiting)
        while waiting:
            name = waiting.pop()
            if name in reached or name not in self.modules:
                continue
            reached.add(name)
            module = self.modules[name]
            waiting += [name.rpartition(".")[0], *self._started(module)]
            if module.is_face and name not in doors:
                own = {node.id for node in module.nodes if isinstance(node, ast.Name)}
                waiting += [self.home(use.module, use.name)[0] for use in self.uses[name] if use.bound in own]
            else:
                waiting += [home for home, _ in self.taken(name)]
        return sorted(set(self.modules) - reached)

    def _started(self, module: Module) -> Iterator[str]:
        """Yield the modules that a module names in a text of code, such as those it starts as processes."""
        for node in module.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
                yield node.value
                yield f"{node.value}.__main__"

    def _doors(self, root: Path) -> Iterator[str]:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
        yield from (value.partition(":")[0] for value in project["scripts"].values())
        for name, module in self.modules.items():
            room, *below = name.removeprefix("seawall.").split(".")
            public = not any(part.startswith("_") for part in below)
            if room == "dataflows" or (room == "operators" and len(below) < 2 and public):
                yield name
            if room == "connectors" and public and (module.is_face or len(below) < 2):
                yield name
            if name in _named(ast.get_docstring(module.tree) or ""):  # a program that says how it is run
                yield name
        for path in [root / ".ci" / "run", root / "README.md", *sorted((root / "ops").rglob("*"))]:
            if path.is_file() and path.suffix in ("", ".md") and path.name != "CHANGELOG.md":
                yield from _named(path.read_text("utf-8", "replace"))


def _named(text: str) -> set[str]:
    """Return the modules that a text starts by name or by path."""
    found = {name or f"seawall.{path.replace('/', '.')}" for name, path in STARTED.findall(text)}
    return found | {f"{name}.__main__" for name in found}


def circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components (Tarjan 1972), each after all that it leads to."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 10 * len(graph) + 1000))
    for node in sorted(graph):
        if node not in number:
            visit(node)
    sys.setrecursionlimit(limit)
    return found


def floors(graph: Graph) -> int:
    """Return the length of the longest chain of imports, a circle being one link."""
    height: dict[str, int] = {}
    for members in circles(graph):
        below = [height[other] for node in members for other in graph[node] if other not in members]
        height |= dict.fromkeys(members, 1 + max(below, default=0))
    return max(height.values(), default=0)


# --- names, functions, comments ---------------------------------------------------------------------------------------


def defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield the names of functions, classes and constants at the top level."""
    for node in body:
        if isinstance(node, DEFINES):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (name for target in targets for name in ast.walk(target))
            yield from (name.id for name in names if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store))
        elif isinstance(node, ast.If | ast.Try):
            yield from defined([*node.body, *node.orelse])


def exported(module: Module, imports: Imports) -> Iterator[str]:
    """Yield what an ``__init__`` offers: its ``__all__``, or what it imports where it has none."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            parts = (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
            yield from (part for part in parts if isinstance(part, str))
            return
    yield from (use.bound for use in imports.uses[module.name] if use.name)


def is_private(path: str) -> bool:
    """Return whether a part of a dotted path begins with an underscore."""
    return any(part.startswith("_") for part in path.split("."))


def public_names(imports: Imports) -> set[tuple[str, str]]:
    """Return module and name, where they are defined, of all that is public."""
    found = set()
    for name, module in imports.modules.items():
        if is_private(name):
            continue
        found |= {(name, one) for one in defined(module.tree.body) if not is_private(one)}
        if module.is_face:
            found |= {imports.home(name, one) for one in exported(module, imports) if not is_private(one)}
    return {(module, name) for module, name in found if name}


def docstrings(module: Module) -> Iterator[ast.stmt]:
    """Yield the docstrings of a module and of all that it defines."""
    for node in module.nodes:
        if isinstance(node, (ast.Module, *DEFINES)) and ast.get_docstring(node, clean=False) is not None:
            yield node.body[0]


def clauses(module: Module) -> int:
    """Return how many docstrings begin with a clause."""
    found = 0
    for node in module.nodes:
        if isinstance(node, (ast.Module, *DEFINES)):
            text = ast.get_docstring(node) or ""
            behind = isinstance(node, ast.Module) and CLAUSE_BEHIND_NAME.match(text.partition("\n")[0])
            found += bool(CLAUSE.match(text) or behind)
    return found


def dialect(module: Module) -> set[str]:
    """Return the names that a module defines with a word of our own in them."""
    names: set[str] = set()
    for node in module.nodes:
        if isinstance(node, DEFINES):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if DIALECT.intersection(word.lower() for word in WORD.findall(name))}


def statements(module: Module) -> int:
    """Return the number of statements without docstrings."""
    return sum(isinstance(node, ast.stmt) for node in module.nodes) - sum(1 for _ in docstrings(module))


def lengths(modules: Iterable[Module]) -> list[int]:
    """Return the lines of every function, with its docstring and without its decorators."""
    found = (node for module in modules for node in module.nodes if isinstance(node, FUNCTIONS))
    return [(node.end_lineno or node.lineno) - node.lineno + 1 for node in found]


def comments(modules: Iterable[Module]) -> tuple[int, int]:
    """Return how many comments there are, and how many lines of code."""
    total, lines = 0, 0
    for module in modules:
        told = {line for node in docstrings(module) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        code: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
            total += token.type == tokenize.COMMENT
            if token.type not in NO_CODE:
                code.update(range(token.start[0], token.end[0] + 1))
        lines += len(code - told)
    return total, lines


def share(values: Iterable[float], part: float) -> float:
    """Return the smallest value that at least this part of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)] if ordered else 0


# --- the table --------------------------------------------------------------------------------------------------------


def measure(root: Path) -> dict[str, float]:
    """Return the figures of a checkout by name."""
    modules, programs = read(root)
    imports = Imports(modules)
    package_graph = imports.packages()
    rings = [len(ring) for ring in circles(imports.graph) if len(ring) > 1]
    long = lengths(modules.values())
    fan_out = [len(imported) for imported in imports.graph.values()]
    folders: dict[str, int] = defaultdict(int)
    for module in modules.values():
        folders[module.package] += 1
    public = public_names(imports)
    crossing = {
        (home, name)
        for taker, module in modules.items()
        for home, name in imports.taken(taker)
        if name and modules[home].package != module.package
    }
    size = sum(map(statements, modules.values()))
    classes = sum(isinstance(node, ast.ClassDef) for module in modules.values() for node in module.nodes)
    noted, code = comments(modules.values())
    return {
        "modules": len(modules),
        "modules of benchmarks": len(programs),
        "statements": size,
        "statements of benchmarks": sum(map(statements, programs)),
        "lines of code": code,
        "functions": len(long),
        "lines of a function, median": statistics.median(long),
        "lines of a function, p90": share(long, 0.9),
        "lines of a function, longest": max(long),
        "public names": len(public),
        "public names per 1,000 statements": round(1000 * len(public) / size, 1),
        "names that another package imports": len(crossing),
        "classes": classes,
        "classes per 1,000 statements": round(1000 * classes / size, 1),
        "packages": len(package_graph),
        "floors of packages": floors(package_graph),
        "floors of modules": floors(imports.graph),
        "circles of packages": sum(len(ring) > 1 for ring in circles(package_graph)),
        "circles of modules": len(rings),
        "modules in the largest circle": max(rings, default=0),
        "modules in a folder, most": max(folders.values()),
        "imports of a module, p90": share(fan_out, 0.9),
        "imports of a module, most": max(fan_out),
        "unreached modules": len(imports.unreached(root)),
        "comments per 100 lines of code": round(100 * noted / code, 1),
        "docstrings that begin with a clause": sum(map(clauses, modules.values())),
        "names in dialect": sum(len(dialect(module)) for module in modules.values()),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--trace", action="store_true", help="also count calls; needs that checkout installed")
    parser.add_argument("--unreached", action="store_true", help="name the modules that nothing leads to, and circles")
    options = parser.parse_args()
    root = options.root.resolve()
    if options.unreached:
        imports = Imports(read(root)[0])
        print(*imports.unreached(root), sep="\n")
        print(*(f"circle: {' '.join(sorted(ring))}" for ring in circles(imports.graph) if len(ring) > 1), sep="\n")
        return
    figures = measure(root)
    if options.trace:
        sys.path.insert(0, str(root / "tests"))
        import _house_trips as house_trips  # noqa: PLC0415 - needs that checkout installed

        figures |= house_trips.trace()
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    print("| what | figure |\n|---|---|")
    for what, figure in figures.items():
        print(f"| {what} | {figure:,g} |" if figure < 1e6 else f"| {what} | {figure:,.0f} |")


if __name__ == "__main__":
    main()
