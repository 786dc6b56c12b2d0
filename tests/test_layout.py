"""The layout: few folders, one import package that links to them, imports that go one way, a pure core.

See architecture.md, "Rooms".
"""

import ast
import importlib.metadata
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import setuptools

import seawall
from seawall_testing.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP_LEVEL = {"schemas", "operators", "connectors", "dataflows", "ops", "tests", "pyproject.toml", "README.md"}
HIDDEN = {".ci", ".gitignore", ".git"}
MADE_BY_TOOLS = {"build", "dist", "bytewax_seawall.egg-info", "seawall-demo", "demo", "uv.lock"}  # `demo`: by README.md
ROOMS = ("schemas", "operators", "connectors", "dataflows", "ops")
PROGRAMS = ("ops/bench", "ops/deploy")  # run from a checkout and no part of the package
LINKS = ROOT / "ops" / "package" / "seawall"


def packages() -> dict[str, str]:
    """Return the folder of every package by its name: that with the links, and each folder with an ``__init__.py``."""
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("__init__.py")) if path.parent != LINKS]
    folders = [path.parent.relative_to(ROOT).as_posix() for path in files]
    return {"seawall": "ops/package/seawall"} | {f"seawall.{name.replace('/', '.')}": name for name in folders}


PACKAGES = packages()
# Who may import whom, besides itself.
MAY_IMPORT = {
    "schemas": set(),
    "operators.core": {"schemas"},
    "operators": {"schemas", "operators.core"},
    "connectors": {"schemas"},
    "dataflows": {"schemas", "operators.core", "operators", "connectors"},
    "ops": {"schemas", "operators.core", "operators", "connectors", "dataflows"},
}
# Of the core, what runs in `market` or by itself: it learns, and what it said is journaled.
BEFORE_THE_JOURNAL = ("seawall.operators.core.detection", "seawall.operators.core.market")
UNLIKE = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "pow", "float_power", "cbrt", "hypot", "tanh",
    "sin", "cos", "erf", "sum", "nansum", "fsum", "mean", "nanmean", "average", "std", "var", "median", "quantile",
    "percentile", "dot", "vdot", "inner", "matmul", "einsum", "tensordot", "linalg", "cov", "corrcoef", "random",
}  # fmt: skip
# What the pure core must not see: engines, input and output, clocks, chance.
IMPURE = {
    "bytewax", "confluent_kafka", "prometheus_client", "rich", "typer",
    "asyncio", "io", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil", "signal", "socket",
    "sqlite3", "subprocess", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip


# Except, with the reason: trees drawn from a seed.
PURE_ALL_THE_SAME = {
    ("operators/core/detection/_shared_forest.py", "random"),
}


def top_level_names() -> set[str]:
    """Return the names at the top level, without what tools leave there."""
    return {path.name for path in ROOT.iterdir()} - MADE_BY_TOOLS


def room_of(module: str) -> str:
    """Return the room of ``seawall.x.y``: the longest of ``MAY_IMPORT`` that it lies in; empty for seawall itself."""
    name = module.removeprefix("seawall").removeprefix(".")
    return max((room for room in MAY_IMPORT if f"{name}.".startswith(f"{room}.")), key=len, default="")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield the name and path of every module of the package."""
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).glob("*.py")):
            yield (package if path.stem == "__init__" else f"{package}.{path.stem}"), path


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and full name of everything that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write seawall. in full"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def test_the_top_level_holds_the_rooms_and_nothing_else() -> None:
    visible = {name for name in top_level_names() if not name.startswith(".") and not name.startswith("__")}
    assert visible - TOP_LEVEL == set()
    assert {path.name for path in ROOT.iterdir() if path.is_dir()} >= {name for name in TOP_LEVEL if "." not in name}


def test_git_knows_no_other_name_at_the_top_level() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout with files")
    assert {name.partition("/")[0] for name in listed.stdout.split("\0") if name} <= TOP_LEVEL | HIDDEN


def test_the_package_links_to_every_room() -> None:
    assert {path.name: str(path.readlink()) for path in LINKS.iterdir() if path.is_symlink()} == {
        room: f"../../../{room}" for room in ROOMS
    }
    assert not (LINKS.parent / "__init__.py").exists()  # where a way through seawall.ops.package.seawall.ops… ends


def test_an_install_finds_exactly_the_folders_that_hold_modules() -> None:
    (where,) = PROJECT["tool"]["setuptools"]["packages"]["find"]["where"]
    assert set(setuptools.find_packages(str(ROOT / where))) == set(PACKAGES)
    holding = {path.parent.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert {folder for folder in holding - set(PACKAGES.values()) if not folder.startswith(PROGRAMS)} == set()
    assert len(PACKAGES) > len(ROOMS) + 1


def test_a_walk_over_the_package_ends_and_finds_every_package() -> None:
    found = {module.name for module in pkgutil.walk_packages(seawall.__path__, "seawall.") if module.ispkg}
    assert found == set(PACKAGES) - {"seawall"}


def test_imports_go_one_way() -> None:
    wrong, seen = [], 0
    for module, path in modules():
        here = room_of(module)
        for line, name in imported(path):
            if name.split(".")[0] != "seawall" or not here:
                continue
            seen += 1
            there = room_of(name)
            if there and there != here and there not in MAY_IMPORT[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {name}")
    assert wrong == []
    assert seen > 20


def test_the_core_sees_no_engine_no_input_or_output_no_clock_and_no_chance() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for module, path in modules()
        if room_of(module) == "operators.core"
        for line, name in imported(path)
        if name.split(".")[0] in IMPURE or name.startswith("numpy.random")
        if (path.relative_to(ROOT).as_posix(), name) not in PURE_ALL_THE_SAME
    ]
    assert wrong == []


def test_the_core_opens_nothing_and_asks_nobody_for_the_time() -> None:
    wrong = []
    for module, path in modules():
        if room_of(module) != "operators.core":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in ("now", "utcnow", "today", "open", "print", "input", "exec", "eval"):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}()")
    assert wrong == []


def test_arithmetic_behind_the_journal_is_what_every_host_does_alike() -> None:
    """No function whose bits depend on processor, library or version, and no power but of whole numbers.

    See architecture.md, "Same bits".
    """
    wrong, seen = [], 0
    for module, path in modules():
        if room_of(module) != "operators.core" or module.startswith(BEFORE_THE_JOURNAL):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            seen += 1
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("np", "math"):
                wrong += [f"{place}: {node.value.id}.{node.attr}"] if node.attr in UNLIKE else []
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                wrong.append(f"{place}: @")
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
                whole = isinstance(node.right, ast.Constant) and isinstance(node.right.value, int)
                wrong += [] if whole else [f"{place}: **"]
    assert wrong == []
    assert seen > 10_000


def test_schemas_connectors_and_the_core_load_without_bytewax_and_river() -> None:
    names = [name for name, _ in modules() if room_of(name) in ("schemas", "operators.core")]
    names += ["seawall.operators", "seawall.connectors", "seawall.connectors.bus"]
    code = "import sys, importlib\nsys.modules['bytewax'] = sys.modules['river'] = None\n"
    code += f"for name in {names!r}:\n    importlib.import_module(name)\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_lazy_face_says_three_times_the_same() -> None:
    faces = 0
    for package, folder in PACKAGES.items():
        tree = ast.parse((ROOT / folder / "__init__.py").read_text())
        given = {node.targets[0].id: node.value for node in tree.body
                 if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}  # fmt: skip
        if "_HOMES" not in given:
            continue
        faces += 1
        homes, shown = (ast.literal_eval(given[name]) for name in ("_HOMES", "__all__"))
        checked = [node for branch in tree.body if isinstance(branch, ast.If) for node in branch.body]
        typed = {
            alias.name: node.module for node in checked if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        assert homes == typed, f"{package}: _HOMES and the imports under TYPE_CHECKING"
        assert sorted(homes) == sorted(shown), f"{package}: _HOMES and __all__"
    assert faces > 10


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = ("bytewax", "river", "numpy", "scipy", "matplotlib", "starlette", "confluent_kafka", "prometheus_client")
    code = f"""
import sys
from seawall.ops.cli import main
sys.argv = ["seawall", "demo", "--help"]
try:
    main()
finally:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr == "[]\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, because a build leaves files behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in TOP_LEVEL - {"tests"}:
        if (ROOT / name).is_dir():
            left_out = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=left_out)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel and return the names in it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    if _setuptools_fits():
        command.insert(4, "--no-build-isolation")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("bytewax_seawall-*.whl")
    return zipfile.ZipFile(path).namelist()


def _setuptools_fits() -> bool:
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


def test_an_install_puts_only_seawall_into_site_packages(wheel: list[str]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in wheel} == {"seawall", "bytewax_seawall"}


def test_the_wheel_holds_every_module_and_every_file_that_they_read(wheel: list[str]) -> None:
    expected = {f"{package.replace('.', '/')}/{path.name}" for package, folder in PACKAGES.items()
                for path in (ROOT / folder).glob("*.py")}  # fmt: skip
    packaged = {name for name in wheel if name.startswith("seawall/")}
    assert expected - packaged == set()
    extra = packaged - expected
    assert {name for name in extra if name.endswith(".py")} == set()
    read = [path for room in ROOMS for folder in ("json", "static", "playbooks", "scenarios")
            for path in (ROOT / room).rglob(f"{folder}/*") if path.is_file()]  # fmt: skip
    assert len(read) > 30
    assert {"seawall/py.typed", *(f"seawall/{path.relative_to(ROOT).as_posix()}" for path in read)} <= extra


def test_the_source_distribution_holds_all_that_the_wheel_is_made_of(source: Path, wheel: list[str]) -> None:
    code = "import sys, setuptools.build_meta as backend; print(backend.build_sdist(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(source / "dist")]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (path,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {member.name.partition("/ops/package/")[2]: member for member in archive}
    packaged = {name for name in wheel if name.startswith("seawall/")}
    assert packaged - set(members) == set()
    assert {name for name in packaged if not members[name].isfile()} == set()


def test_every_part_of_continuous_integration_has_its_minutes_and_they_are_55_at_most() -> None:
    lines = (ROOT / ".ci" / "minutes").read_text().splitlines()
    shares = {name: int(share) for name, share, *_ in (line.split() for line in lines if line and line[0] != "#")}
    parts = re.findall(r"^ *part (\w+) ", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert sorted(shares) == sorted(parts)
    assert sum(shares.values()) <= 55
