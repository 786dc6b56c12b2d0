"""``run`` called in one's own process leaves the process as it was."""

import signal
from pathlib import Path

from seawall.ops.run import run
from seawall.schemas.configuration import load_configuration
from seawall_testing import crisis


def test_signals_are_whose_they_were_after_a_run(tmp_path: Path) -> None:
    def mine(*_: object) -> None:
        """Some handler of the caller."""

    before, interrupt = signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGINT)
    try:
        run(load_configuration(crisis.write_crisis(tmp_path, 1, per_second=5)))
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
