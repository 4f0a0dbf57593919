from manifests.shard_numbers import ShardNumbers


def test_numbers_are_ascending_and_those_that_are_missing_as_well() -> None:
    numbers = ShardNumbers(6, [4, 1, 4])
    assert [*numbers] == [1, 4]
    assert len(numbers) == 2
    assert [*numbers.missing()] == [0, 2, 3, 5]
    numbers.discard(4)
    assert [*numbers] == [1]
    assert not ShardNumbers(6)


def test_what_is_no_shard_of_the_set_is_not_among_the_numbers() -> None:
    numbers = ShardNumbers(3, [0, 1, 2])
    assert 2 in numbers
    for other in (-1, 3, "2", None):
        assert other not in numbers
