"""Labels come from the set: their classes, what is left out, and what cannot be trained."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from manifests.seal_writer import seal_set
from tests.picture_sets import make_picture_set, picture
from tests.sets import begin, commit, refused, scales, views_of
from trainer.data.groups import Entries, GroupTable, class_indices
from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Demand
from trainer.errors import DataError

DEMAND = Demand(seed=0, num_groups=4, views_per_group=1, reads=frozenset({"labels"}))


def labelled_set(folder: Path, labels: list[str]) -> ShardSetSource:
    """A set of one view a group, whose rows have these labels."""
    shards = begin(
        folder,
        [f"thing {index}" for index in range(len(labels))],
        views_per_subject=1,
        variations=scales(1.0),
        width_px=16,
        height_px=16,
    )
    for shard in range(shards.layout.num_shards):
        views = [
            dataclasses.replace(
                view,
                row=dataclasses.replace(view.row, label=labels[int(view.row.key.split("_")[0])]),
            )
            for view in views_of(shards, shard, picture)
        ]
        commit(shards, shard, views=views)
    seal_set(shards)
    return ShardSetSource(str(folder))


def test_labels_become_indices_in_alphabetical_order() -> None:
    classes, indices = class_indices(pa.chunked_array([["pear", "", "apple", "pear"]]))
    assert classes == ("apple", "pear")
    assert indices.tolist() == [1, -1, 0, 1]


def test_groups_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    labels = ["pear", "apple", "", "fig", "apple", "", "pear", "fig"]
    stream = labelled_set(tmp_path / "set", labels).stream(DEMAND)
    assert (stream.num_groups, stream.num_left_out) == (6, 2)
    assert stream.classes == ("apple", "fig", "pear")
    groups = [g for step in range(3) for g in stream.groups(step, rank=0, world=1)]
    assert {group.label for group in groups} == {0, 1, 2}


@pytest.mark.parametrize("splits_groups", [False, True])
def test_set_without_labels_is_refused(tmp_path: Path, splits_groups: bool) -> None:
    source = labelled_set(tmp_path / "set", ["", "", "", ""])
    demand = Demand(
        seed=0, num_groups=2, views_per_group=1, reads=DEMAND.reads, splits_groups=splits_groups
    )
    with refused(DataError, "has no labels", "label column"):
        source.stream(demand)


def test_each_group_can_be_a_class_of_its_own(tmp_path: Path) -> None:
    source = labelled_set(tmp_path / "set", ["pear", "", "fig"])
    demand = Demand(seed=0, num_groups=3, views_per_group=1, reads=frozenset({"group_labels"}))
    stream = source.stream(demand)
    assert (stream.num_groups, stream.num_left_out, len(stream.classes)) == (3, 0, 3)
    groups = stream.groups(0, rank=0, world=1)
    assert [stream.classes[group.label] for group in groups] == [str(group.id) for group in groups]


def test_a_group_that_is_left_out_is_no_class(tmp_path: Path) -> None:
    """View 1 of prompt 1 failed, so that its group has three views where others have four."""
    make_picture_set(tmp_path / "set", num_subjects=4)
    demand = Demand(seed=0, num_groups=3, views_per_group=4, reads=frozenset({"group_labels"}))
    stream = ShardSetSource(str(tmp_path / "set")).stream(demand)
    assert (stream.num_groups, stream.num_left_out, len(stream.classes)) == (3, 1, 3)


def test_groups_of_one_id_are_one_class() -> None:
    """A subject that comes twice, as in a joined set, is never two classes."""
    zeros = np.zeros(3, dtype=np.int32)
    table = GroupTable(
        url="set",
        classes=(),
        ids=np.array([9, 5, 9]),
        num_views=zeros + 1,
        has_caption=zeros > 0,
        labels=zeros - 1,
    )
    entries = Entries(
        table,
        Demand(seed=0, num_groups=1, views_per_group=1, reads=frozenset({"group_labels"})),
    )
    assert entries.classes == ("5", "9")
    assert [entries.label(entry) for entry in range(3)] == [1, 0, 1]
