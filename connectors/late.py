"""A call that is made later, unless somebody makes it before: what holds work back bounds by it for how long."""

import contextlib
import threading
import time
from collections.abc import Callable


class Late:
    """Calls something at a time, in a thread of its own, unless that is called off.

    What it raises is passed over: whoever calls it next is to meet that again.

    Parameters
    ----------
    call
        What to call.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call, self._due, self._ended = call, 0.0, False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def call_at(self, due: float) -> None:
        """Call it at a time of the monotonic clock, or at the one that was asked for before."""
        with self._changed:
            if self._due:
                return
            self._due = due
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="late", daemon=True)
                self._thread.start()
            self._changed.notify()

    def call_off(self) -> None:
        """Do not call it, unless it is being called now."""
        with self._changed:
            self._due = 0.0

    def end(self) -> None:
        """Never call it again; wait where it is being called."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._is_due():
            with contextlib.suppress(Exception):
                self._call()

    def _is_due(self) -> bool:
        """Wait for the time; False at the end."""
        with self._changed:
            while not self._ended:
                left = self._due - time.monotonic()
                if self._due and left <= 0:
                    self._due = 0.0
                    return True
                self._changed.wait(left if self._due else None)
        return False
