"""What sources and sinks raised inside the engine: with several workers it loses exceptions.

See architecture.md, "Bytewax".
"""

import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from seawall.schemas.errors import SeawallError

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


def own_error(error: BaseException, raised: Iterable[BaseException] = ()) -> SeawallError | None:
    """Return the error of ours behind one that the engine raised, from its chain or from what was noted."""
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, SeawallError):
            return chain
        chain = chain.__cause__ or chain.__context__
    return next((failure for failure in (*failures, *raised) if isinstance(failure, SeawallError)), None)
