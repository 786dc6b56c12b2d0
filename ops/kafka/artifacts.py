"""The broker's jars: fetched once per user with Maven, then found in the cache.

Decides where they are kept (``XDG_CACHE_HOME/seawall/kafka-VERSION``) and that a fetch is whole or not there at all: it
goes to a folder of its own, which is then renamed.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from seawall.schemas.errors import UsageError

VERSION = "4.1.1"
JAVA_MIN = 17
FETCH_S = 600
POM = Path(__file__).with_name("pom.xml")


def missing() -> str:
    """Return what this machine lacks to run a broker, empty where it lacks nothing."""
    lacking = [] if shutil.which("java") else [f"java ({JAVA_MIN} or later)"]
    if not cached().is_dir() and not shutil.which("mvn"):
        lacking.append("mvn, to fetch the broker once")
    return ", ".join(lacking)


def cached() -> Path:
    """Return the folder of the jars, which may not be there yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "seawall" / f"kafka-{VERSION}"


def jars() -> Path:
    """Return the folder of the broker's jars; fetch them first where they are not there.

    Raises
    ------
    UsageError
        Java or Maven is missing, or Maven could not fetch; its last line says why.
    """
    target = cached()
    if lacking := missing():
        raise UsageError(f"a broker cannot run here: install {lacking}, or set SEAWALL_TEST_KAFKA=host:port")
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        _fetch(Path(partial))
        try:
            (Path(partial) / "libs").rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target


def _fetch(folder: Path) -> None:
    shutil.copy(POM, folder / "pom.xml")
    command = ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder / 'libs'}"],
            capture_output=True,
            text=True,
            timeout=FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"Maven fetched no broker within {FETCH_S} s; check the network") from None
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise UsageError(f"Maven could not fetch the broker: {errors[0] if errors else done.stderr.strip()}")
