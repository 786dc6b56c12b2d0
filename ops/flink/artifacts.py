"""Flink's own Python environment and the connector's jar: made once per user, then found in the cache.

River's numpy and the one that PyFlink's Beam pins exclude each other, so Flink lives in an environment of its own
(``requirements.lock``), and `seawall` is linked into it. Made in a folder of its own and then renamed, so that it is
whole or not there. ``SEAWALL_FLINK`` names an environment made otherwise, as in an image.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import seawall
from seawall.schemas.errors import UsageError

LOCK = Path(__file__).with_name("requirements.lock")
POM = Path(__file__).with_name("pom.xml")
INSTALL_S = 1200
ATTEMPTS = 3  # a package or a jar of hundreds of megabytes may break off on its way


class Home(NamedTuple):
    """Flink's folder on this machine."""

    folder: Path

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """The environment's site-packages."""
        (found,) = (self.folder / "lib").glob("python3.*/site-packages")
        return found

    @property
    def flink(self) -> Path:
        """Home of Flink, as its own distribution calls it."""
        return self.packages / "pyflink"

    @property
    def jars(self) -> Path:
        """The folder of the connector."""
        return self.folder / "jars"

    def seawall(self) -> Path:
        """Return a folder that holds `seawall` and nothing else: what goes onto Flink's Python path."""
        folder, package = self.folder / "seawall", Path(seawall.__path__[0])
        if (self.packages / "seawall").is_dir():
            return self.packages
        link = folder / hashlib.sha256(str(package).encode()).hexdigest()[:12] / "seawall"
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(package)
        return link.parent


def missing() -> str:
    """Return what this machine lacks to run Flink, empty where it lacks nothing."""
    lacking = [] if shutil.which("java") else ["java (17 or later)"]
    if not cached().is_dir():
        lacking += [] if shutil.which("mvn") else ["mvn, to fetch the connector once"]
        lacking += [] if sys.version_info[:2] == (3, 11) else ["Python 3.11, which the lock file is for"]
    return ", ".join(lacking)


def cached() -> Path:
    """Return the folder of the environment, which may not be there yet; its name follows from the lock file."""
    if given := os.environ.get("SEAWALL_FLINK"):
        return Path(given)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(LOCK.read_bytes() + POM.read_bytes()).hexdigest()[:12]
    return home / "seawall" / f"flink-{name}"


def environment() -> Home:
    """Return Flink's environment; make it first where it is not there.

    Raises
    ------
    UsageError
        Java, Maven or the Python is missing, or a download failed three times; the last line says why.
    """
    target = cached()
    if lacking := missing():
        raise UsageError(
            f"Flink cannot run here: install {lacking}, or set SEAWALL_FLINK to an environment that has it"
        )
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as partial:
            _make(Path(partial) / "home")
            try:
                (Path(partial) / "home").rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
    home = Home(target)
    if not any(home.jars.glob("flink-sql-connector-kafka-*.jar")):
        raise UsageError(f"{home.jars} holds no Kafka connector; remove {target}, and it is made again")
    return home


def _make(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--no-deps", "--retries", "5", "-r", str(LOCK)])
    shutil.copy(POM, folder / "pom.xml")
    jars = f"-DoutputDirectory={folder / 'jars'}"
    _run(["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies", jars])


def _run(command: list[str]) -> None:
    """Run a step, again where it fails; raise UsageError with its last line."""
    for attempt in range(ATTEMPTS):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            raise UsageError(f"{command[0]} did not end within {INSTALL_S} s; check the network") from None
        if not done.returncode:
            return
        if attempt == ATTEMPTS - 1:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise UsageError(f"Flink's environment could not be made: {' '.join(command[:4])}: {lines[-1]}")
