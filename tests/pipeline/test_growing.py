"""A grown set is the set that would have been made at once, and renders only what is new."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import ContractError, CorruptError, IdentityError
from manifests.foundation.errors import ConfigError
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from manifests.validation import validate_shard_set
from pipeline.generating import finish, rejoin, run
from pipeline.overview import overview
from pipeline.share import Share
from pipeline.views import RenderedView
from prompts.errors import ConflictingLabelError
from tests.grown_sets import (
    CAPTIONS,
    INLINE,
    MORE,
    STRIPES,
    captions_file,
    generate,
    grow,
    killed_after,
    prompts,
)
from tests.renderers import Stripes
from tests.running import pixel_files
from tests.sets import refused, tree


@pytest.fixture
def old(tmp_path: Path) -> Path:
    generate(tmp_path / "old", tmp_path)
    return tmp_path / "old"


@pytest.fixture
def more(tmp_path: Path) -> dict[str, str]:
    """Three captions, of which one is in the old set already."""
    return prompts(captions_file(tmp_path / "more.csv", MORE))


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the views that are rendered from now on."""
    keys: list[str] = []
    paint = Stripes.render

    def render(self: Stripes, requests: Sequence[Any]) -> list[RenderedView]:
        keys.extend(request.key for request in requests)
        return paint(self, requests)

    monkeypatch.setattr(Stripes, "render", render)
    return keys


@pytest.mark.parametrize(
    ("growth", "captions", "keys"),
    [
        ({"views_per_subject": 6}, CAPTIONS, {"views__per_subject": 6}),
        ({"prompts": "more"}, (*CAPTIONS, *MORE), {}),
        (
            {"views_per_subject": 8, "prompts": "more", "subjects_per_shard": 3},
            (*CAPTIONS, *MORE),
            {"views__per_subject": 8, "shards__subjects": 3},
        ),
    ],
    ids=["views", "subjects", "both"],
)
def test_a_grown_set_is_the_set_made_at_once_to_the_byte(
    tmp_path: Path,
    old: Path,
    more: dict[str, str],
    rendered: list[str],
    growth: dict[str, Any],
    captions: Sequence[str],
    keys: dict[str, Any],
) -> None:
    before = tree(old)
    if "prompts" in growth:
        growth = growth | {"prompts": more}
    new = tmp_path / "new"
    grow(old, new, **growth)
    # Nothing of the old set but one view, which is compared with the one that is there.
    old_keys = [f"{group:09d}_{view:03d}" for group in range(5) for view in range(4)]
    assert [key for key in rendered if key in old_keys] == ["000000000_000"]
    shards = ShardSet.open(str(new))
    assert len(rendered) == shards.recipe.identity.num_views - 20 + 1
    assert list(validate_shard_set(shards)) == []
    assert tree(old) == before
    generate(tmp_path / "at once", tmp_path, captions, **keys)
    assert pixel_files(new) == pixel_files(tmp_path / "at once")
    seals = [ShardSet.open(str(url)).seal() for url in (new, tmp_path / "at once", old)]
    assert seals[0] is not None and seals[1] is not None and seals[2] is not None  # noqa: PT018
    assert seals[0].root_sha256 == seals[1].root_sha256
    assert shards.recipe.origin is not None
    assert shards.recipe.origin.verb == "grow"
    assert [one.root_sha256 for one in shards.recipe.origin.sets] == [seals[2].root_sha256]
    assert f"| grown from | `{seals[2].root_sha256}` |" in (new / "README.md").read_text()


def test_a_paired_set_grows_by_whole_draws(tmp_path: Path) -> None:
    generate(tmp_path / "old", tmp_path, views__paired=True)
    grow(tmp_path / "old", tmp_path / "new", views_per_subject=6)
    generate(tmp_path / "at once", tmp_path, views__paired=True, views__per_subject=6)
    assert pixel_files(tmp_path / "new") == pixel_files(tmp_path / "at once")
    with refused(ContractError, "2 variations do not divide 7 views"):
        grow(tmp_path / "old", tmp_path / "odd", views_per_subject=7)


def test_a_set_can_grow_again_and_needs_nothing_of_the_old_one(tmp_path: Path, old: Path) -> None:
    grow(old, tmp_path / "new", views_per_subject=6)
    old.rename(tmp_path / "gone")
    assert list(validate_shard_set(ShardSet.open(str(tmp_path / "new")))) == []
    grow(tmp_path / "new", tmp_path / "newer", views_per_subject=8)
    generate(tmp_path / "at once", tmp_path, views__per_subject=8)
    assert pixel_files(tmp_path / "newer") == pixel_files(tmp_path / "at once")


def test_failed_views_stay_as_they_are(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.mkdir()
    (trouble / "blank").write_text("a lemon\n")
    keys = {"renderer__name": "tests.renderers:Faulty", "renderer__trouble": str(trouble)}
    generate(tmp_path / "old", tmp_path, **keys)
    (trouble / "blank").unlink()
    grow(tmp_path / "old", tmp_path / "new", trust="tests.renderers:Faulty", views_per_subject=6)
    rows = ShardSet.open(str(tmp_path / "new")).manifest(2).rows
    assert [row.reason for row in rows] == ["blank"] * 4 + [""] * 2


def test_a_set_sealed_without_shards_is_completed(tmp_path: Path, old: Path) -> None:
    whole = pixel_files(old)
    for path in ("dataset.json", "manifests/000001.parquet", "data/000001.tar"):
        (old / path).unlink()
    seal_set(ShardSet.open(str(old)), incomplete=True)
    grow(old, tmp_path / "new")
    assert pixel_files(tmp_path / "new") == whole


def test_shares_make_the_same_set(tmp_path: Path, old: Path) -> None:
    generate(tmp_path / "at once", tmp_path, views__per_subject=6)
    for number in (2, 1):
        assert not (tmp_path / "new/dataset.json").exists()
        grow(old, tmp_path / "new", views_per_subject=6, share=Share(number, 2))
    assert pixel_files(tmp_path / "new") == pixel_files(tmp_path / "at once")
    assert (tmp_path / "new/dataset.json").exists()


@pytest.mark.parametrize("count", range(0, 18, 3))
def test_a_killed_growth_goes_on(
    tmp_path: Path, old: Path, more: dict[str, str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(old, tmp_path / "undisturbed", views_per_subject=6, prompts=more)
    store = killed_after(count)
    with monkeypatch.context() as killed:
        killed.setattr("pipeline.growing.open_store", store)
        killed.setattr("manifests.shard_set.open_store", store)
        with pytest.raises(StoreError, match="killed"):
            grow(old, tmp_path / "new", views_per_subject=6, prompts=more)
    grow(old, tmp_path / "new", views_per_subject=6, prompts=more)
    assert pixel_files(tmp_path / "new") == pixel_files(tmp_path / "undisturbed")
    assert list(validate_shard_set(ShardSet.open(str(tmp_path / "new")))) == []


def test_a_growth_can_be_finished_without_the_old_set(
    tmp_path: Path, old: Path, rendered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it gives are views that can be rendered as well."""
    grow(old, tmp_path / "undisturbed", views_per_subject=6)
    with monkeypatch.context() as killed:
        killed.setattr("pipeline.growing.open_store", store := killed_after(2))
        killed.setattr("manifests.shard_set.open_store", store)
        with pytest.raises(StoreError, match="killed"):
            grow(old, tmp_path / "new", views_per_subject=6)
    old.rename(tmp_path / "gone")
    rendered.clear()
    generation = rejoin(INLINE, str(tmp_path / "new"), trusted=[STRIPES])
    for _ in run(generation):
        pass
    finish(generation, seal_incomplete=False)
    assert len(rendered) == 30
    assert pixel_files(tmp_path / "new") == pixel_files(tmp_path / "undisturbed")


def test_another_renderer_is_refused_and_the_keys_are_named(
    tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stripes, "identity", lambda self: {"version": 2})
    with refused(IdentityError, str(old), "these differ: renderer_identity.version"):
        grow(old, tmp_path / "new", views_per_subject=6)
    assert not (tmp_path / "new").exists()


def test_other_pixels_under_the_same_identity_are_refused_unless_accepted(
    tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint = Stripes.paint
    monkeypatch.setattr(Stripes, "paint", lambda self, request: paint(self, request) ^ 1)
    with refused(IdentityError, "000000000_000", "other bytes", "--accept-drift"):
        grow(old, tmp_path / "new", views_per_subject=6)
    assert not (tmp_path / "new").exists()
    grow(old, tmp_path / "new", views_per_subject=6, accept_drift=True)
    new, before = ShardSet.open(str(tmp_path / "new")), ShardSet.open(str(old))
    rows = {row.key: row.sha256 for row in new.manifest(0).rows}
    assert all(rows[row.key] == row.sha256 for row in before.manifest(0).rows)


def test_versions_that_made_only_some_views_are_not_recorded(
    tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ShardSet.open(str(old)).recipe.environment["versions"]
    now = {**before, "pillow": "99.1"}
    monkeypatch.setattr("pipeline.generating.versions_here", lambda: now)
    grow(old, tmp_path / "new", views_per_subject=6)
    versions = ShardSet.open(str(tmp_path / "new")).recipe.environment["versions"]
    assert versions == {name: text for name, text in before.items() if name != "pillow"}


def test_what_is_no_growth_is_refused(tmp_path: Path, old: Path, more: dict[str, str]) -> None:
    new = tmp_path / "new"
    with refused(ConfigError, "nothing to render"):
        grow(old, new)
    with refused(ConfigError, "nothing to render"):
        grow(old, new, prompts=prompts(captions_file(tmp_path / "same.csv", CAPTIONS[:2])))
    with refused(ConfigError, "has 4 views", "does not shrink"):
        grow(old, new, views_per_subject=2)
    with refused(ContractError, "apart"):
        grow(old, old / "new", views_per_subject=6)
    (old / "dataset.json").unlink()
    with refused(ContractError, "not sealed"):
        grow(old, new, views_per_subject=6)
    assert not new.exists()


def test_another_label_for_a_subject_is_refused(tmp_path: Path, old: Path) -> None:
    (tmp_path / "labels.csv").write_text("caption,label\na red fox,animal\n")
    with refused(ConflictingLabelError, "subject 0", "a red fox", "animal"):
        grow(old, tmp_path / "new", prompts=prompts(tmp_path / "labels.csv"))


def test_a_growth_is_resumed_from_its_own_set_alone(tmp_path: Path, old: Path) -> None:
    grow(old, tmp_path / "middle", views_per_subject=6)
    grow(old, tmp_path / "new", views_per_subject=8)
    with refused(IdentityError, str(tmp_path / "new"), "other sets than these"):
        grow(tmp_path / "middle", tmp_path / "new", views_per_subject=8)


def test_rates_are_those_of_views_that_were_rendered(
    tmp_path: Path, old: Path, more: dict[str, str]
) -> None:
    """Three of four shards of this set are taken whole or in part, in no time of rendering."""
    grow(old, tmp_path / "new", prompts=more)
    new = ShardSet.open(str(tmp_path / "new"))
    stats = [json.loads(new.store.read(new.layout.stats(shard))) for shard in range(4)]
    assert [line["num_taken"] for line in stats] == [8, 8, 4, 0]
    summary = overview(new)
    (rate,) = summary.hosts.values()
    seconds = sum(line["render_s"] for line in stats)
    assert rate == pytest.approx((28 - 20) / max(seconds, 1e-9))
    grow(old, tmp_path / "more views", views_per_subject=6)
    assert overview(ShardSet.open(str(tmp_path / "more views"))).num_views == 30


def test_a_damaged_old_set_ends_the_growth(tmp_path: Path, old: Path) -> None:
    tar = old / "data/000001.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with refused(CorruptError, "data/000001.tar", "000000002_000"):
        grow(old, tmp_path / "new", views_per_subject=6)
    assert not (tmp_path / "new/dataset.json").exists()
