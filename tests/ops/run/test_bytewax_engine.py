"""What a run does to the interpreter that it runs in."""

import gc
import sys
from collections.abc import Iterator

import pytest

from seawall.ops.run._parts import SWITCH_S, tune_interpreter


@pytest.fixture
def restored() -> Iterator[None]:
    before = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(before[0])
    gc.set_threshold(*before[1])
    gc.unfreeze()


@pytest.mark.usefixtures("restored")
def test_only_with_live_inputs_threads_hand_the_interpreter_over_sooner() -> None:
    before = sys.getswitchinterval()
    tune_interpreter(live=False)
    assert sys.getswitchinterval() == before
    assert gc.get_threshold()[0] > 10_000
    tune_interpreter(live=True)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    assert before > SWITCH_S
