"""Distances of views: by hand-computed pictures of one colour."""

import numpy as np
import pytest

from pipeline.diversity import between_groups, distance, thumbnail, within_groups


def flat(level: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return thumbnail(np.full((40, 20, 3), level, dtype=np.uint8))


def test_distance_is_a_share_of_the_range_of_a_channel() -> None:
    assert distance(flat(0), flat(255)) == 100
    assert distance(flat(51), flat(102)) == pytest.approx(20)
    assert distance(flat(7), flat(7)) == 0


def test_only_views_of_one_group_and_one_variation_are_compared_within_groups() -> None:
    views = [(1, 0, flat(0)), (1, 0, flat(51)), (1, 1, flat(255)), (2, 0, flat(0)), (2, 0, flat(0))]
    within = within_groups(views)
    assert list(within) == [0]
    assert (within[0].mean, within[0].num_groups) == (pytest.approx(10), 2)
    # Means of groups 20 and 0: their standard deviation is 14.14, that of their mean 10.
    assert within[0].error == pytest.approx(19.6)


def test_neighbouring_groups_are_compared_between_groups() -> None:
    views = [(1, 0, flat(0)), (1, 0, flat(255)), (2, 0, flat(51)), (3, 0, flat(51))]
    assert between_groups(views)[0].mean == pytest.approx(10)
    assert between_groups(views[:2]) == {}
