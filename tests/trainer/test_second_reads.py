"""Slow reads are asked for twice; events stand for the time that they take."""

import threading

import pytest

from trainer.data import second_reads
from trainer.data.second_reads import FEWEST, SecondReads


class Storage:
    """Answers at once, but for the calls whose numbers are slow: these wait for `end`."""

    def __init__(self, *slow: int) -> None:
        self.slow = slow
        self.end = threading.Event()
        self.calls = 0

    def read(self) -> bytes:
        self.calls += 1
        number = self.calls
        if number in self.slow:
            self.end.wait(60)
        return b"%d" % number


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # Long enough for a thread to start on a busy machine: a quick read is not to be asked twice.
    monkeypatch.setattr(second_reads, "MIN_WAIT_S", 3.0)


def test_read_that_hangs_is_answered_by_a_second_one() -> None:
    storage, reads = Storage(FEWEST + 1), SecondReads()
    answers = [reads.read(storage.read) for _ in range(FEWEST + 2)]
    assert answers[FEWEST] == b"%d" % (FEWEST + 2)
    assert (storage.calls, reads.num_second) == (FEWEST + 3, 1)
    storage.end.set()


def test_nothing_is_slow_before_the_usual_is_known() -> None:
    storage, reads = Storage(1), SecondReads()
    threading.Timer(0.2, storage.end.set).start()
    assert reads.read(storage.read) == b"1"
    assert reads.num_second == 0


def test_errors_are_raised_and_a_second_read_may_still_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = SecondReads()

    def broken() -> bytes:
        raise ConnectionError("broken")

    with pytest.raises(ConnectionError, match="broken"):
        reads.read(broken)
    monkeypatch.setattr(reads, "_patience_s", lambda: 0.05)
    second = threading.Event()
    asked: list[int] = []

    def fails_late() -> bytes:
        asked.append(1)
        if len(asked) == 1:
            second.wait(60)
            raise ConnectionError("late")
        second.set()
        return b"answer"

    assert reads.read(fails_late) == b"answer"
