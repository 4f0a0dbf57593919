"""Sets of one recipe become one set, in which nothing is rendered and no group is twice."""

from pathlib import Path
from typing import Any

import pytest

from manifests.errors import IdentityError
from manifests.foundation.errors import ConfigError
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.validation import validate_shard_set
from pipeline.joining import begin_merge
from prompts.errors import ConflictingLabelError
from tests.grown_sets import CAPTIONS, MORE, generate, killed_after
from tests.running import pixel_files
from tests.sets import refused, tree


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    """Five captions and three, of which one is the same; shards of two and of one."""
    generate(tmp_path / "a", tmp_path)
    generate(tmp_path / "b", tmp_path, MORE, shards__subjects=1)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def merge(sets: list[str], url: Path) -> int:
    merged = begin_merge(sets, str(url))
    for _ in merged.assembly.run(2):
        pass
    seal_set(merged.assembly.shards)
    return merged.num_equal


def test_a_merged_set_is_the_set_made_at_once_to_the_byte(tmp_path: Path, sets: list[str]) -> None:
    before = [tree(url) for url in sets]
    assert merge(sets, tmp_path / "new") == 1
    generate(tmp_path / "at once", tmp_path, (*CAPTIONS, *MORE))
    assert pixel_files(tmp_path / "new") == pixel_files(tmp_path / "at once")
    shards = ShardSet.open(str(tmp_path / "new"))
    assert list(validate_shard_set(shards)) == []
    assert [tree(url) for url in sets] == before
    origin = shards.recipe.origin
    assert origin is not None
    seals = [ShardSet.open(url).seal() for url in sets]
    assert origin.verb == "merge"
    assert [one.root_sha256 for one in origin.sets] == [seal and seal.root_sha256 for seal in seals]
    assert "| merged from | `" in (tmp_path / "new/README.md").read_text()


@pytest.mark.parametrize("count", range(0, 16, 3))
def test_a_killed_merge_goes_on(
    tmp_path: Path, sets: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(sets, tmp_path / "undisturbed")
    with monkeypatch.context() as killed:
        killed.setattr("pipeline.joining.open_store", killed_after(count))
        with pytest.raises(StoreError, match="killed"):
            merge(sets, tmp_path / "new")
    merge(sets, tmp_path / "new")
    assert pixel_files(tmp_path / "new") == pixel_files(tmp_path / "undisturbed")
    before = tree(tmp_path / "new")
    merge(sets, tmp_path / "new")
    assert tree(tmp_path / "new") == before


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"views__seed": 1}, "dataset_seed"),
        ({"renderer__angles": (0.0, 45.0)}, "variations"),
        ({"image__format": "jpg"}, "format"),
        ({"audits__use": ("non-finite",)}, "audits"),
    ],
)
def test_sets_that_were_made_in_other_ways_are_refused(
    tmp_path: Path, sets: list[str], keys: dict[str, Any], named: str
) -> None:
    generate(tmp_path / "c", tmp_path, MORE, **keys)
    with refused(IdentityError, f"{tmp_path / 'c'}: was made in another way", named, "mix:FILE"):
        merge([*sets, str(tmp_path / "c")], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_sets_that_only_differ_in_views_are_sent_to_grow(tmp_path: Path, sets: list[str]) -> None:
    generate(tmp_path / "c", tmp_path, MORE, views__per_subject=6)
    with refused(IdentityError, "views_per_subject", "`synth grow` makes views equal"):
        merge([*sets, str(tmp_path / "c")], tmp_path / "new")


def test_two_labels_for_one_subject_are_refused(tmp_path: Path, sets: list[str]) -> None:
    (tmp_path / "labels.csv").write_text("caption,label\na red fox,animal\n")
    generate(tmp_path / "c", tmp_path, prompts__file=str(tmp_path / "labels.csv"))
    with refused(ConflictingLabelError, "a red fox", "animal"):
        merge([*sets, str(tmp_path / "c")], tmp_path / "new")


def test_a_set_that_lacks_shards_is_refused(tmp_path: Path, sets: list[str]) -> None:
    for path in ("dataset.json", "manifests/000001.parquet", "data/000001.tar"):
        (tmp_path / "b" / path).unlink()
    seal_set(ShardSet.open(sets[1]), incomplete=True)
    with refused(ConfigError, sets[1], "without 1 of its shards", "synth grow"):
        merge(sets, tmp_path / "new")


def test_one_set_alone_is_refused(tmp_path: Path, sets: list[str]) -> None:
    with refused(ConfigError, "two or more"):
        merge(sets[:1], tmp_path / "new")
