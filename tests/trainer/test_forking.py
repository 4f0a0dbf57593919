"""What each process opens for itself, also when many of its threads ask at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from trainer.data.forking import PerProcess


def open_slowly() -> int:
    """The number of the process stands for its client."""
    time.sleep(0.02)
    return os.getpid()


def test_it_is_opened_once_in_a_process() -> None:
    opened: list[int] = []
    client = PerProcess(lambda: opened.append(1) or object())
    assert client.get() is client.get()
    assert opened == [1]


def test_no_thread_of_a_fork_gets_what_its_parent_has_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = PerProcess(open_slowly)
    parent = opened.get()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)  # as after a fork
    with ThreadPoolExecutor(16) as pool:
        assert {*pool.map(lambda _: opened.get(), range(64))} == {parent + 1}
