"""What sources and sinks raised inside the engine: with several workers it loses exceptions (DESIGN §8)."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
failures: list[BaseException] = []
"""Of this process, oldest first; whoever runs the engine takes them."""


def noted(call: Callable[P, T]) -> Callable[P, T]:
    """Return a callback of the engine that notes what it raises, but for the end of its input."""

    @functools.wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration:
            raise
        except BaseException as error:
            failures.append(error)
            raise

    return wrapped
