"""One suite of properties that every core state must have, whatever it computes.

A *subject* is a state with the items it is given (`seawall_testing.core_states`). The checks know nothing of exposures
or limits: a new operator is covered by adding its subject.
"""

from collections.abc import Callable
from typing import Any

import pytest

from seawall.operators.stateful import StepLogic
from seawall.schemas.errors import SnapshotError
from seawall_testing.core_states import StateCase, fingerprint


def check_resume_equals_uninterrupted(subject: StateCase) -> None:
    """A state restored from its snapshot before every item gives the same outputs and the same snapshots."""
    whole, wanted = None, []
    resumed, found = None, []
    for item in subject.items:
        whole, output = subject.run([item], whole)
        wanted += output
        resumed, output = subject.run([item], None if resumed is None else subject.restore(resumed.snapshot()))
        found += output
        assert resumed.snapshot() == whole.snapshot()
    assert found == wanted


def check_resume_anywhere_and_run_on(subject: StateCase) -> None:
    """A state restored at any one place and then left alone ends as the uninterrupted one does."""
    end, wanted = subject.run(subject.items)
    before, last = None, 0
    head: list[Any] = []
    for at in range(1, len(subject.items), max(1, len(subject.items) // 6)):
        before, found = subject.run(subject.items[last:at], before)
        head, last = head + found, at
        after, tail = subject.run(subject.items[at:], subject.restore(before.snapshot()))
        assert head + tail == wanted
        assert after.snapshot() == end.snapshot()


def check_two_runs_are_equal(subject: StateCase) -> None:
    """The same items give the same outputs and the same state."""
    one, first = subject.run(subject.items)
    two, second = subject.run(subject.items)
    assert first == second
    assert one.snapshot() == two.snapshot()


def check_a_snapshot_changes_nothing(subject: StateCase) -> None:
    """Taking snapshots has no effect, and what was taken does not change afterwards."""
    state, wanted = subject.run(subject.items)
    other, found, taken = None, [], []
    for item in subject.items:
        other, output = subject.run([item], other)
        found += output
        snapshot = other.snapshot()
        taken.append((snapshot, bytes(bytearray(snapshot))))
    assert found == wanted
    assert all(snapshot == copy for snapshot, copy in taken)
    assert other.snapshot() == state.snapshot()


def check_batch_split_has_no_effect(subject: StateCase) -> None:
    """How items are batched changes neither outputs nor state."""

    def step(state: Any, item: Any) -> list[Any]:
        return [subject.step(state, item)]

    ends = []
    for size in (1, 3, 10, len(subject.items)):
        logic = StepLogic(None, subject.make, subject.restore, step)
        found: list[Any] = []
        for at in range(0, len(subject.items), size):
            outputs, discard = logic.on_batch(subject.items[at : at + size])
            assert discard is False
            found += fingerprint(outputs)
        ends.append((found, logic.snapshot()))
    assert all(end == ends[0] for end in ends)


def check_items_are_not_changed(subject: StateCase) -> None:
    """What goes in is not changed, by its step or by any later one."""
    before = fingerprint(subject.items)
    subject.run(subject.items)
    assert fingerprint(subject.items) == before


def check_outputs_are_not_changed_later(subject: StateCase) -> None:
    """What came out stays as it was, whatever the state does next."""
    state, outputs = None, []
    for item in subject.items:
        state = subject.make(item) if state is None else state
        output = subject.step(state, item)
        outputs.append((output, fingerprint(output)))
    for output, at_once in outputs:
        assert fingerprint(output) == at_once


def check_a_damaged_snapshot_is_refused(subject: StateCase) -> None:
    """Bytes that were cut or flipped, or that another state wrote, raise SnapshotError and nothing else."""
    state, _ = subject.run(subject.items)
    good = state.snapshot()
    bad = [b"", good[:5], good[:-1], good + b"\0", b"XXXX" + good[4:]]
    bad += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), max(1, len(good) // 40))]
    for data in bad:
        with pytest.raises(SnapshotError):
            subject.restore(data)


CHECKS: list[Callable[[StateCase], None]] = [
    check_resume_equals_uninterrupted,
    check_resume_anywhere_and_run_on,
    check_two_runs_are_equal,
    check_a_snapshot_changes_nothing,
    check_batch_split_has_no_effect,
    check_items_are_not_changed,
    check_outputs_are_not_changed_later,
    check_a_damaged_snapshot_is_refused,
]
