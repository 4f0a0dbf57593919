from pipeline.retrying import ShardFailure, WorkQueue


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
