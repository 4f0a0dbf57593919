from pipeline.retrying import Attempt, ShardFailure, WorkQueue, slow_attempts


def test_failed_shard_goes_to_the_end_and_its_last_try_is_alone() -> None:
    queue = WorkQueue([0, 1])
    first = queue.take()
    assert first is not None
    assert queue.failed(first, "one") is None
    other, second = queue.take(), queue.take()
    assert other is not None
    assert second is not None
    assert (other.shard, second.shard, second.number) == (1, 0, 2)
    assert queue.failed(second, "two") is None
    assert queue.take() is None
    last = queue.take_alone()
    assert last is not None
    assert last.is_last
    given_up = queue.failed(last, "three")
    assert given_up == ShardFailure(shard=0, errors=("one", "two", "three"))
    assert len(queue) == 0


def test_slow_attempts_are_those_beyond_the_others() -> None:
    attempts = [Attempt(shard=shard) for shard in range(4)]
    last = Attempt(shard=4, errors=("one", "two"))
    running = [(attempts[0], 50.0), (attempts[1], 90.0), (attempts[2], 61.0), (last, 900.0)]
    assert slow_attempts(running, []) == []
    assert slow_attempts(running, [30.0, 30.0, 30.0]) == [attempts[1], attempts[2]]
    assert slow_attempts(running, [1.0]) == [attempts[1], attempts[2], attempts[0]]
    assert slow_attempts([(attempts[0], 29.0)], [0.1]) == []
    # Twice is enough.
    assert slow_attempts([(attempts[0], 90.0), (attempts[0], 40.0)], [1.0]) == []
