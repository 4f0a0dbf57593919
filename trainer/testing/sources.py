"""The laws of sources (`trainer.data.sources`) as tests: each subclass tests one source."""

import pickle
from typing import Any

import numpy as np

from trainer.data.sources import NO_LABEL, Demand, Group, Source

NUM_STEPS = 5


class SourceLaws:
    """Implement `make_source` in a subclass whose name begins with `Test`."""

    demand = Demand(seed=3, num_groups=4, views_per_group=1)
    """What is asked of the source. Up to 4 ranks share the groups: give a multiple of 4."""

    def make_source(self) -> Source:
        """The same source at each call. It needs at least `demand.num_groups` groups."""
        raise NotImplementedError

    def test_groups_are_a_function_of_the_step(self) -> None:
        forwards = self.make_source().stream(self.demand)
        backwards = self.make_source().stream(self.demand)
        steps = range(NUM_STEPS)
        expected = [_content(forwards.groups(step, rank=0, world=1)) for step in steps]
        answers = [_content(backwards.groups(step, rank=0, world=1)) for step in reversed(steps)]
        assert answers[::-1] == expected

    def test_parts_of_the_ranks_are_the_groups_of_one_rank(self) -> None:
        stream = self.make_source().stream(self.demand)
        for step in range(NUM_STEPS):
            whole = _content(stream.groups(step, rank=0, world=1))
            for world in (2, 4):
                parts = [stream.groups(step, rank=rank, world=world) for rank in range(world)]
                assert {len(part) for part in parts} == {self.demand.num_groups // world}
                assert [row for part in parts for row in _content(part)] == whole

    def test_every_group_has_its_views_each_once(self) -> None:
        stream = self.make_source().stream(self.demand)
        for step in range(NUM_STEPS):
            for group in stream.groups(step, rank=0, world=1):
                indices = [view.index for view in group.views]
                assert len(indices) == len(set(indices)) == self.demand.views_per_group
                for view in group.views:
                    assert view.pixels.dtype == np.uint8
                    assert view.pixels.ndim == 3
                    assert view.pixels.shape[2] == 3

    def test_a_turn_of_a_group_comes_once(self) -> None:
        stream = self.make_source().stream(self.demand)
        turns = [
            (group.id, group.turn, tuple(view.index for view in group.views))
            for step in range(NUM_STEPS)
            for group in stream.groups(step, rank=0, world=1)
        ]
        assert len(set(turns)) == len(turns)

    def test_labels_are_indices_into_the_classes(self) -> None:
        stream = self.make_source().stream(self.demand)
        reads_labels = "labels" in self.demand.reads
        assert bool(stream.classes) == reads_labels
        assert list(stream.classes) == sorted(set(stream.classes))
        for group in stream.groups(0, rank=0, world=1):
            known = range(len(stream.classes)) if reads_labels else (NO_LABEL,)
            assert group.label in known

    def test_root_is_a_function_of_the_source(self) -> None:
        source = self.make_source()
        assert source.root == self.make_source().root
        assert source.root

    def test_stream_goes_to_loader_workers(self) -> None:
        stream = self.make_source().stream(self.demand)
        other = pickle.loads(pickle.dumps(stream))
        expected = _content(stream.groups(1, rank=0, world=1))
        assert _content(other.groups(1, rank=0, world=1)) == expected


def _content(groups: list[Group]) -> list[tuple[Any, ...]]:
    """All that groups hold, in a form that can be compared."""
    return [
        (
            *(group.id, group.turn, group.caption, group.label),
            *((view.index, view.pixels.shape, view.pixels.tobytes()) for view in group.views),
        )
        for group in groups
    ]
