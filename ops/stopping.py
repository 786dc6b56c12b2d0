"""When the parts of a run stop: on a signal, or because one of them failed.

After a signal ``sequence`` ends first and ``risk`` decides on what it wrote, so that a run which was stopped verifies;
not for ever, because orchestrators wait and then kill. After a failure everything ends where it stands.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from seawall.connectors.failures import own_error
from seawall.connectors.kafka import outage

DRAIN_S = 20.0  # Kubernetes kills after 30 s, and sealing and the engine's last snapshot come after this
ANSWER_S = 5.0  # more, and a cluster that does not answer is no longer waited for: a killed run loses as little


class Stop:
    """Set once, by a signal or a failure: every part of the run looks at it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: BaseException | None = None
        self._at_s = math.inf

    @contextmanager
    def on_signal(self) -> Iterator[None]:
        """Stop cleanly on SIGTERM and SIGINT while the block runs; then they are whose they were."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, lambda *_: self._hear())
        try:
            yield
        finally:
            outage.wait_again()
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def ask(self) -> None:
        """Stop because somebody asks for it."""
        self._at_s = min(self._at_s, time.monotonic())
        self.event.set()

    def _hear(self) -> None:
        self.ask()
        outage.hurry(DRAIN_S + ANSWER_S)

    def overdue(self) -> bool:
        """Tell whether to stop with work left: something failed, or what is left has taken too long."""
        return self.error is not None or time.monotonic() - self._at_s > DRAIN_S

    def fail(self, error: BaseException) -> None:
        """Stop because of an error, of ours where the engine raised one; the first one counts."""
        self.error = self.error or own_error(error) or error
        self.event.set()
