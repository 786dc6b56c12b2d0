"""Programs of ``ops/bench``, which are run from a checkout, as modules."""

import importlib.util
import sys
from types import ModuleType

from seawall_testing.paths import OPS

BENCH = OPS / "bench"


def benchmark(name: str) -> ModuleType:
    """Load a program by its name, with the harness that it finds beside itself."""
    if str(BENCH) not in sys.path:
        sys.path.append(str(BENCH))
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
