"""How worker processes hand over their numbers: a file each, replaced whole every second, beside no run's data."""

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

from seawall.schemas.telemetry import Telemetry, watch

EVERY_S = 1.0


class Workers:
    """The numbers of worker processes, for the process that answers for them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="seawall-metrics-", ignore_cleanup_errors=True)
        self.folder = self._folder.name

    def numbers(self) -> list[dict[str, Any]]:
        """Return what each worker said last."""
        return [json.loads(path.read_bytes()) for path in sorted(Path(self.folder).glob("*.json"))]

    def close(self) -> None:
        """Remove the files."""
        self._folder.cleanup()


class Handing(threading.Thread):
    """Hands the numbers of this worker process over, until the process ends."""

    def __init__(self, folder: str, number: int, live: bool) -> None:
        super().__init__(name="telemetry", daemon=True)
        self._path, self._ended = Path(folder) / f"{number}.json", threading.Event()
        self._telemetry = Telemetry(live)
        watch(self._telemetry)

    def run(self) -> None:
        """Write now and then."""
        while not self._ended.wait(EVERY_S) and self._path.parent.is_dir():
            self.hand()

    def hand(self) -> None:
        """Write once."""
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(self._telemetry.numbers()))
        partial.replace(self._path)
