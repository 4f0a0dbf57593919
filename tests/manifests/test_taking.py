"""What a new set takes from a sealed one is that set's, to the byte, or is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from manifests import taking
from manifests.errors import ContractError, CorruptError, IdentityError, VersionError
from manifests.ids import split_place
from manifests.plan import requests_of
from manifests.recipe import Identity
from manifests.seal_writer import seal_set
from manifests.taking import SealedSet, Taking, runs_of
from tests.sets import CAPTIONS, begin, commit, identity_of, make_set, refused, subject_rows

REORDERED = ("an owl", "two pears", "a red fox", "a blue door")
PLACES = [None, 2, 0, 1]
"""Of each caption above its place in the old set."""


def open_taking(url: Path) -> Taking:
    return Taking([SealedSet.open(str(url))], lambda group: PLACES[group])


@pytest.fixture
def new() -> Identity:
    return identity_of(subject_rows(*REORDERED), views_per_subject=4)


def test_views_of_equal_requests_are_taken_with_their_new_keys(
    tmp_path: Path, new: Identity
) -> None:
    old = make_set(tmp_path)
    views = open_taking(tmp_path).views(new, requests_of(new, subject_rows(*REORDERED)))
    rows = {row.key: row for shard in (0, 1) for row in old.manifest(shard).rows}
    sources = {
        "000000001_000": "000000002_000",
        "000000001_001": "000000002_001",
        "000000002_000": "000000000_000",
        "000000002_001": "000000000_001",
        "000000003_000": "000000001_000",
        "000000003_001": "000000001_001",
    }
    assert sorted(views) == sorted(sources)
    for key, old_key in sources.items():
        row = rows[old_key]
        assert views[key].row == replace(row, key=key, offset=-1, length=0)
        image = old.image(int(old_key[:9]) // 2, row) if row.is_ok else None
        assert views[key].image == image
    assert views["000000003_001"].row.reason == "blank"


def test_shards_that_a_set_was_sealed_without_are_not_taken(tmp_path: Path, new: Identity) -> None:
    shards = begin(tmp_path)
    commit(shards, 1)
    seal_set(shards, incomplete=True)
    views = open_taking(tmp_path).views(new, requests_of(new, subject_rows(*REORDERED)))
    assert sorted(views) == ["000000001_000", "000000001_001"]


def test_a_shard_is_held_if_all_its_views_are(tmp_path: Path) -> None:
    make_set(tmp_path)
    sealed = SealedSet.open(str(tmp_path))
    held = Taking([sealed], lambda group: group if group < 3 else None)
    more = identity_of(subject_rows(*CAPTIONS, "an owl", "a lemon"))
    assert [held.holds(more, shard) for shard in range(3)] == [True, False, False]
    assert not held.holds(replace(more, views_per_subject=4), 0)
    twice = Taking([sealed, sealed], lambda group: 5 - group)
    same = identity_of(subject_rows("a", "b", "c", "d", "e", "f"))
    assert [twice.holds(same, shard) for shard in range(3)] == [True, True, True]


def test_a_set_that_is_not_sealed_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    with refused(ContractError, str(tmp_path), "not sealed", "synth generate"):
        SealedSet.open(str(tmp_path))


def test_another_set_at_the_place_of_the_old_one_is_refused(tmp_path: Path) -> None:
    make_set(tmp_path)
    with refused(IdentityError, "another set lies there now"):
        SealedSet.open(str(tmp_path), root_sha256="0" * 64)


def test_a_set_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    recipe = replace(make_set(tmp_path).recipe, unknown={"weather": "rain"})
    (tmp_path / "recipe.json").write_bytes(recipe.to_bytes())
    with refused(VersionError, "weather", "newer synth-rep"):
        SealedSet.open(str(tmp_path))


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path, new: Identity) -> None:
    shards = make_set(tmp_path)
    manifest = shards.manifest(0)
    rows = [replace(row, label="other") for row in manifest.rows]
    (tmp_path / "manifests/000000.parquet").write_bytes(replace(manifest, rows=rows).to_bytes())
    with refused(CorruptError, "manifests/000000.parquet", "not what the seal says"):
        open_taking(tmp_path).views(new, requests_of(new, subject_rows(*REORDERED)))
    (tmp_path / "manifests/000000.parquet").unlink()
    with refused(CorruptError, "manifests/000000.parquet", "is gone"):
        open_taking(tmp_path).views(new, requests_of(new, subject_rows(*REORDERED)))


def test_an_image_that_was_changed_is_refused(tmp_path: Path, new: Identity) -> None:
    shards = make_set(tmp_path)
    row = shards.manifest(0).rows[1]
    tar = tmp_path / "data/000000.tar"
    data = bytearray(tar.read_bytes())
    data[row.offset + 20] ^= 1
    tar.write_bytes(data)
    with refused(CorruptError, "000000000_001", "not the image that was committed"):
        open_taking(tmp_path).views(new, requests_of(new, subject_rows(*REORDERED)))
    tar.unlink()
    with refused(CorruptError, "data/000000.tar", "is gone"):
        open_taking(tmp_path).views(new, requests_of(new, subject_rows(*REORDERED)))


def test_a_view_of_which_the_new_plan_says_something_else_is_refused(
    tmp_path: Path, new: Identity
) -> None:
    make_set(tmp_path)
    other = replace(new, constants={"steps": 5})
    with refused(CorruptError, "steps is 4", "says 5"):
        open_taking(tmp_path).views(other, requests_of(other, subject_rows(*REORDERED)))


def test_images_that_lie_together_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in make_set(tmp_path).manifest(0).rows if row.is_ok]
    assert [(row.offset, row.length) for row in rows] == [(512, 116), (3584, 117), (6656, 116)]
    assert [len(run) for run in runs_of(rows)] == [3]
    assert [len(run) for run in runs_of([rows[0], rows[2]])] == [2]
    monkeypatch.setattr(taking, "MAX_GAP_BYTES", 3072)
    assert [len(run) for run in runs_of(rows)] == [3]
    assert [len(run) for run in runs_of([rows[0], rows[2]])] == [1, 1]
    monkeypatch.setattr(taking, "MAX_READ_BYTES", 4000)
    assert [len(run) for run in runs_of(rows)] == [2, 1]
    assert list(runs_of([])) == []


def test_places_of_a_split_are_frozen() -> None:
    """Another place would move a group into another part, and test images into training."""
    assert split_place(0, 8945900202904087436) == 0.9038543218960032
    assert split_place(7, 8945900202904087436) == 0.29899184648845545
    places = [split_place(0, group) for group in range(10_000)]
    assert min(places) >= 0
    assert max(places) < 1
    assert 850 < sum(place >= 0.9 for place in places) < 1150
