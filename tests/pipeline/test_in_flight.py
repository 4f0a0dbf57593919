"""What a process was making when it was killed is known to the next one, and to no other."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.in_flight import in_flight
from pipeline.retrying import WorkQueue
from tests.running import environment

SET = ("s3://bucket/set", "0" * 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "synth" / "in-flight"


def die_in(*shards: int) -> None:
    """Let a process be killed while it makes some shards."""
    code = (
        "import os, signal, sys\nfrom pipeline.in_flight import in_flight\n"
        f"with in_flight(*{SET}) as flight:\n"
        f"    flight.note([1, 2]); flight.note({[*shards]})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment() | dict(os.environ), timeout=60)


def test_the_end_of_a_process_leaves_nothing(cache: Path) -> None:
    with in_flight(*SET) as flight:
        flight.note([3, 4])
    with suppress(KeyboardInterrupt), in_flight(*SET) as flight:
        flight.note([5])
        raise KeyboardInterrupt
    with in_flight(*SET) as flight:
        assert flight.left == set()
    assert [*cache.glob("*/*.jsonl")] == []


def test_shards_of_a_killed_process_are_left_until_their_end_is_known(cache: Path) -> None:
    """Also where the next process makes other shards, or is stopped before it comes to them."""
    die_in(3, 7)
    with in_flight(*SET) as flight:
        assert flight.left == {3, 7}
        flight.note([4])
    with in_flight(*SET) as flight:
        assert flight.left == {3, 7}
        flight.left.discard(3)
    with in_flight(*SET) as flight:
        assert flight.left == {7}
        with in_flight(*SET) as beside:  # it is another process's to make
            assert beside.left == set()
        flight.left.discard(7)
    assert [*cache.glob("*/*.jsonl")] == []


def test_a_cache_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with in_flight(*SET) as flight:
        flight.note([1])
    assert flight.left == set()


def test_a_suspect_is_made_alone_each_time_and_fails_as_any_other() -> None:
    queue = WorkQueue([1, 2], suspects={2})
    first = queue.take()
    assert first is not None
    assert (first.shard, first.is_alone, queue.take()) == (1, False, None)
    for number in (2, 3):
        attempt = queue.take_alone()
        assert attempt is not None
        assert (attempt.shard, attempt.number, attempt.is_alone) == (2, number, True)
        failure = queue.failed(attempt, "again")
    assert failure is not None
    assert len(failure.errors) == 3


def test_another_set_of_the_recipe_has_notes_of_its_own() -> None:
    die_in(3)
    with in_flight("s3://bucket/another", SET[1]) as flight:
        assert flight.left == set()
    with in_flight(*SET) as flight:
        assert flight.left == {3}
