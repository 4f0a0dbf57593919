"""What a seal says of the subjects and views of its set."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from manifests.about import MAX_LICENCES, AboutCounter, ShardFacts, facts_of
from manifests.manifest import Manifest
from tests.sets import make_set


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_set(tmp_path).manifest(0)


def relabelled(manifest: Manifest, *labels: str) -> Manifest:
    """With another label for each of its two groups of two views."""
    rows = [
        replace(row, label=labels[index // 2], licence=labels[index // 2])
        for index, row in enumerate(manifest.rows)
    ]
    return replace(manifest, rows=rows)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("", ""), "none"),
        (("0", "11"), "numbers"),
        (("0", ""), "texts"),
        (("0", "fox"), "texts"),
        (("0", "-1"), "texts"),
        (("0", "\u0663"), "texts"),
    ],
)
def test_labels_are_numbers_only_if_every_subject_has_one(
    manifest: Manifest, labels: tuple[str, str], kind: str
) -> None:
    counter = AboutCounter()
    counter.add(facts_of(relabelled(manifest, *labels)))
    assert counter.result().labels == kind


def test_subjects_are_counted_and_not_views(manifest: Manifest) -> None:
    counter = AboutCounter()
    counter.add(facts_of(relabelled(manifest, "MIT", "CC0-1.0")))
    counter.add(facts_of(relabelled(manifest, "MIT", "MIT")))
    about = counter.result()
    assert about.kinds == {"caption": 4}
    assert about.licences == [("MIT", 3), ("CC0-1.0", 1)]


def test_examples_are_the_good_views_of_the_first_group_that_has_one(manifest: Manifest) -> None:
    failed = [replace(row, status="failed", reason="blank") for row in manifest.rows[:2]]
    rows = [*failed, *manifest.rows[2:]]  # of the second group one view failed anyway
    counter = AboutCounter()
    counter.add(facts_of(replace(manifest, rows=rows)))
    counter.add(facts_of(manifest))
    assert [example.key for example in counter.result().examples] == ["000000001_000"]


def test_a_licence_of_its_own_for_each_subject_takes_bounded_memory() -> None:
    counter = AboutCounter()
    for number in range(MAX_LICENCES + 5):
        licences = Counter({f"L{number}": 1, "L0": 1})
        counter.add(ShardFacts(kinds=Counter(), licences=licences, labels=set(), examples=[]))
    about = counter.result()
    assert len(about.licences) == MAX_LICENCES
    assert about.num_other_licences == 5
    assert about.licences[0] == ("L0", MAX_LICENCES + 5)
