import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from manifests.commit import commit_shard
from manifests.errors import CorruptError
from manifests.garbage import find_garbage, remove_garbage
from manifests.manifest import Manifest
from manifests.shard_set import ShardSet
from manifests.storage.local import LocalStore
from manifests.tars import View
from tests.sets import begin, commit, expected_of, png, refused, tree, views_of, write_tar_of

OTHER = png(8, 8, bytes(range(192)))


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return begin(tmp_path / "set")


@pytest.fixture
def right(tmp_path: Path) -> dict[str, bytes]:
    """Every file of a set whose shard 0 was committed without any disturbance."""
    commit(begin(tmp_path / "right"), 0)
    return tree(tmp_path / "right")


def other_views(shards: ShardSet) -> list[View]:
    """Views of shard 0 that differ, as a renderer makes them that is not deterministic."""
    views = views_of(shards, 0)
    row = replace(views[0].row, sha256=sha256(OTHER).hexdigest())
    return [View(row=row, image=OTHER), *views[1:]]


def put(shards: ShardSet, path: str, content: bytes) -> None:
    assert shards.store.create(path, content)


def test_a_shard_is_its_tar_and_its_manifest(shards: ShardSet, right: dict[str, bytes]) -> None:
    manifest = commit(shards, 0)
    assert tree(shards.store.url) == right
    assert [*shards.committed()] == [0]
    assert shards.manifest(0) == manifest
    tar = right["data/000000.tar"]
    assert (manifest.tar_sha256, manifest.tar_bytes) == (sha256(tar).hexdigest(), len(tar))


def test_commit_again_changes_nothing(shards: ShardSet, right: dict[str, bytes]) -> None:
    assert commit(shards, 0) == commit(shards, 0)
    assert tree(shards.store.url) == right


def test_a_lost_response_to_a_create_is_no_failure(
    shards: ShardSet, right: dict[str, bytes]
) -> None:
    class Deaf(LocalStore):
        """Stores the file, and answers that another writer was first."""

        def create(self, path: str, content: bytes | Path) -> bool:
            super().create(path, content)
            return False

    manifest = commit(shards, 0, store=Deaf(shards.store.url))
    assert manifest == shards.manifest(0)
    assert tree(shards.store.url) == right


def test_two_writers_at_once_make_one_shard(tmp_path: Path, right: dict[str, bytes]) -> None:
    for attempt in range(20):
        shards = begin(tmp_path / f"set{attempt}")
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(commit, [shards, shards], [0, 0]))
        assert made == [shards.manifest(0)] * 2
        assert tree(shards.store.url) == right


def test_a_right_tar_without_a_manifest_is_adopted(shards: ShardSet, tmp_path: Path) -> None:
    """It is hashed and walked, and the manifest describes that tar and not our own."""
    theirs = write_tar_of(shards, 0, tmp_path / "theirs.tar", views=other_views(shards))
    put(shards, "data/000000.tar", theirs.read_bytes())
    manifest = commit(shards, 0)
    assert manifest.tar_sha256 == sha256(theirs.read_bytes()).hexdigest()
    assert shards.image(0, manifest.rows[0]) == OTHER


def test_adopted_tar_is_on_disk_before_its_manifest_is(
    shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer may have died before the folder was synced. A power cut must not leave the
    manifest without its tar."""
    tar = write_tar_of(shards, 0, tmp_path / "theirs.tar")
    put(shards, "data/000000.tar", tar.read_bytes())
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noted_link(source: Path, target: Path) -> None:
        done.append(f"link {Path(target).name}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    commit(shards, 0)
    assert "sync data" in done[: done.index("link 000000.parquet")]


@pytest.mark.parametrize(
    "content",
    [b"", b"not a tar", bytes(10240), "cut", "cut in the padding", "other recipe", "other keys"],
)
def test_a_wrong_tar_that_no_manifest_names_is_refused_and_left_as_it_is(
    shards: ShardSet, right: dict[str, bytes], tmp_path: Path, content: bytes | str
) -> None:
    """Writing a set never deletes, because somebody may need the file. `synth gc` removes it."""
    tar, scratch = right["data/000000.tar"], tmp_path / "scratch.tar"
    if content == "cut":
        content = tar[: len(tar) // 2]
    elif content == "cut in the padding":
        content = tar[:-512]
    elif content == "other recipe":
        content = write_tar_of(shards, 0, scratch, recipe_sha256="0" * 64).read_bytes()
    elif content == "other keys":
        views = views_of(shards, 0)[:-1]
        content = write_tar_of(shards, 0, scratch, views=views).read_bytes()
    assert isinstance(content, bytes)
    put(shards, "data/000000.tar", content)
    before = tree(shards.store.url)
    with refused(CorruptError, "data/000000.tar", f"`synth gc {shards.store.url} --yes` removes"):
        commit(shards, 0)
    assert tree(shards.store.url) == before
    remove_garbage(shards, find_garbage(shards))
    commit(shards, 0)
    assert tree(shards.store.url) == right


def test_a_wrong_tar_that_a_manifest_names_is_left_as_it_is(shards: ShardSet) -> None:
    commit(shards, 0)
    path = Path(shards.store.url) / "data/000000.tar"
    path.write_bytes(b"not a tar")
    with refused(CorruptError, str(path), "not a readable tar"):
        commit(shards, 0)
    assert path.read_bytes() == b"not a tar"


def test_a_manifest_that_commits_another_tar_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    commit(shards, 0, views=other_views(shards))
    before = tree(shards.store.url)
    tar = Path(shards.store.url) / "data/000000.tar"
    tar.unlink()
    with refused(CorruptError, "000000.parquet: commits another tar", "run `synth verify`"):
        commit(shards, 0)
    assert tree(shards.store.url)["manifests/000000.parquet"] == before["manifests/000000.parquet"]


def test_a_committed_shard_wins_over_a_renderer_that_is_not_deterministic(
    shards: ShardSet, right: dict[str, bytes]
) -> None:
    first = commit(shards, 0)
    assert commit(shards, 0, views=other_views(shards)) == first
    assert tree(shards.store.url) == right


def test_a_lost_tar_of_a_committed_shard_is_made_again(
    shards: ShardSet, right: dict[str, bytes]
) -> None:
    commit(shards, 0)
    shards.store.delete("data/000000.tar")
    commit(shards, 0)
    assert tree(shards.store.url) == right


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"recipe_sha256": "0" * 64}, "another recipe or shard"),
        ({"shard": 1}, "another recipe or shard"),
        ({"keys": ["000000000_000"]}, "its keys are not those of the plan"),
    ],
)
def test_a_tar_that_is_not_what_the_plan_asks_for_is_not_stored(
    shards: ShardSet, tmp_path: Path, change: dict[str, Any], part: str
) -> None:
    tar = write_tar_of(shards, 0, tmp_path / "mine.tar")
    expected = replace(expected_of(shards, 0), **change)
    with refused(CorruptError, str(tar), part, "render the shard again"):
        commit_shard(shards.store, shards.layout, expected, tar)
    assert shards.store.list("data") == {}


def test_before_manifest_is_called_when_the_tar_exists_also_for_a_second_writer(
    shards: ShardSet, tmp_path: Path
) -> None:
    tar = write_tar_of(shards, 0, tmp_path / "mine.tar")
    seen: list[tuple[bool, bool]] = []

    def look(manifest: Manifest) -> None:
        paths = shards.layout.tar(0), shards.layout.manifest(0)
        seen.append((shards.store.exists(paths[0]), shards.store.exists(paths[1])))

    for _ in range(2):  # the second time as a writer that comes after another one
        expected = expected_of(shards, 0)
        commit_shard(shards.store, shards.layout, expected, tar, before_manifest=look)
    assert seen == [(True, False), (True, True)]
