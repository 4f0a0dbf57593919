from collections.abc import Iterator
from threading import Event

import pytest

from manifests.foundation.threads import AHEAD_PER_THREAD, in_threads


def counted(taken: list[int], count: int = 1000) -> Iterator[int]:
    """Numbers, and in `taken` those that were asked for."""
    for number in range(count):
        taken.append(number)
        yield number


def test_results_come_in_the_order_of_the_items() -> None:
    first = Event()

    def double(number: int) -> int:
        if number:
            first.set()
        else:
            assert first.wait(60)  # the first item ends after the second
        return 2 * number

    results = in_threads(double, range(100), num_threads=2, name="test")
    assert [*results] == [2 * number for number in range(100)]


def test_few_items_are_begun_before_their_results_are_asked_for() -> None:
    taken: list[int] = []
    results = in_threads(str, counted(taken), num_threads=2, name="test")
    for number in range(100):
        assert next(results) == str(number)
        assert len(taken) == number + 2 * AHEAD_PER_THREAD
    results.close()
    assert len(taken) == 99 + 2 * AHEAD_PER_THREAD


def test_after_an_error_no_item_is_begun() -> None:
    taken: list[int] = []
    results = in_threads(lambda number: 1 // (number - 5), counted(taken), num_threads=2, name="t")
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert len(taken) <= 6 + 2 * AHEAD_PER_THREAD
