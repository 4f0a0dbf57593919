"""Sets that are not whole, not ours or of another version: refused, or every fault is named.

Hashes fit wherever a faulty writer would have made them fit; `test_bit_flips.py` has the others.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import pytest

from manifests.canonical import document_bytes, hash_json, sha256_hex
from manifests.errors import CorruptError, ForeignSetError, VersionError
from manifests.layout import RECIPE, SEAL
from manifests.manifest import Manifest
from manifests.plan import hash_prompts
from manifests.recipe import Recipe
from manifests.rows import ViewRow
from manifests.seal import Seal
from manifests.shard_set import ShardSet, write_plan
from manifests.storage import open_store
from manifests.storage.errors import StoreError
from manifests.tars import View, walk_tar
from manifests.validation import Problem, validate_shard_set
from tests.sets import (
    begin,
    commit,
    identity_of,
    make_set,
    picture_of,
    prompt_rows,
    refused,
    tree,
    views_of,
    write_tar_of,
)


def problems(shards: ShardSet) -> list[Problem]:
    found = list(validate_shard_set(shards))
    assert all(each.message and "\n" not in each.message for each in found)
    return found


def kinds(shards: ShardSet) -> list[tuple[str, str]]:
    return [(each.where, each.kind) for each in problems(shards)]


def changed_views(shards: ShardSet, shard: int, **changes: Any) -> list[View]:
    """The views of a shard, the first one with other values in its row."""
    first, *others = views_of(shards, shard)
    return [View(row=replace(first.row, **changes), image=first.image), *others]


def commit_rows(shards: ShardSet, change: Callable[[list[ViewRow]], list[ViewRow]]) -> None:
    """Commit the right tar of shard 0 with a manifest that has other rows."""
    path = write_tar_of(shards, 0, Path(shards.store.url).parent / "scratch.tar")
    with path.open("rb") as file:
        rows = walk_tar(file, where="scratch").rows
    manifest = Manifest(
        recipe_sha256=shards.recipe_sha256,
        shard=0,
        tar_sha256=sha256_hex(path.read_bytes()),
        tar_bytes=path.stat().st_size,
        rows=change(rows),
    )
    shards.store.create("data/000000.tar", path)
    shards.store.create("manifests/000000.parquet", manifest.to_bytes())


def reseal(shards: ShardSet, change: Callable[[Seal], Seal]) -> None:
    """A seal with other values and hashes that fit."""
    seal = shards.seal()
    assert seal is not None
    Path(shards.store.url, SEAL).write_bytes(change(seal).to_bytes())


def rewrite(path: Path, **changes: Any) -> None:
    """Change keys of a recipe; its hash follows."""
    document = json.loads(path.read_text()) | changes
    document["identity_sha256"] = hash_json(document["identity"])
    path.write_bytes(document_bytes(document))


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return begin(tmp_path / "set")


@pytest.fixture
def sealed(tmp_path: Path) -> ShardSet:
    return make_set(tmp_path / "set")


@pytest.fixture
def memory() -> Iterator[str]:
    """URL of an empty place in memory."""
    yield "memory://shard-set"
    files = fsspec.filesystem("memory")
    if files.exists("/shard-set"):
        files.rm("/shard-set", recursive=True)


@pytest.mark.parametrize("path", ["notes.txt", "data/000000.tar", "photos/holiday/1.jpg", ".git/x"])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path, path: str) -> None:
    """Above all tars of somebody else, which a commit would take for broken ones and delete."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_bytes(b"precious")
    with refused(ForeignSetError, f"{tmp_path}: holds {Path(path).parts[0]}", "an empty folder"):
        begin(tmp_path)
    assert tree(tmp_path) == {path: b"precious"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.write_bytes(b"precious")
    with refused(StoreError, f"{path}: ", "a file stands where a folder is needed"):
        begin(path)
    with refused(StoreError, f"{path}/recipe.json", "a file stands where a folder is needed"):
        ShardSet.open(str(path))
    assert path.read_bytes() == b"precious"


def test_a_recipe_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"cake": "sponge"}')
    for call in (begin, lambda path: ShardSet.open(str(path))):
        with refused(ForeignSetError, f"{tmp_path}/recipe.json", "choose another URL"):
            call(tmp_path)


def test_a_set_of_a_newer_major_version_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    rewrite(tmp_path / "recipe.json", format_version="2.0")
    for call in (begin, lambda path: ShardSet.open(str(path))):
        with refused(VersionError, str(tmp_path), "format 2.0", "install a newer synth-rep"):
            call(tmp_path)


def test_a_set_of_a_newer_minor_version_is_read_but_not_added_to(tmp_path: Path) -> None:
    """What this version does not know decides pixels all the same."""
    old = begin(tmp_path)
    identity = old.recipe.identity.to_json() | {"tiling": "none"}
    rewrite(tmp_path / "recipe.json", format_version="1.3", identity=identity, author="x")
    shards = ShardSet.open(str(tmp_path))
    for shard in range(2):
        commit(shards, shard)  # as the newer version would
    assert shards.recipe_sha256 == hash_json(identity) != old.recipe_sha256
    assert list(validate_shard_set(shards)) == []
    assert picture_of(shards.requests(0)[0]) == shards.image(0, shards.manifest(0).rows[0])
    with refused(VersionError, str(tmp_path), "also has tiling", "install a newer synth-rep"):
        begin(tmp_path)


def test_a_set_in_memory_is_read_but_not_begun(tmp_path: Path, memory: str) -> None:
    with refused(StoreError, memory, "sets are made in local folders only"):
        begin(memory)
    make_set(tmp_path)
    files = fsspec.filesystem("memory")
    for path, content in tree(tmp_path).items():
        files.pipe_file(f"/shard-set/{path}", content)
    shards = ShardSet.open(memory)
    assert list(validate_shard_set(shards)) == []
    assert shards.image(1, shards.manifest(1).rows[0]) == picture_of(shards.requests(1)[0])


def test_a_plan_that_is_gone_is_told(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    path = tmp_path / "prompts/000000.parquet"
    path.unlink()
    for call in (shards.all_prompts, lambda: shards.requests(1)):
        with refused(CorruptError, str(path), "run the same `synth generate` again"):
            call()


def test_a_flipped_bit_anywhere_in_the_plan_is_refused(tmp_path: Path) -> None:
    """Before a shard is rendered from it: pages' checksums alone do not cover their headers."""
    shards = begin(tmp_path)
    path = tmp_path / "prompts/000000.parquet"
    data = path.read_bytes()
    for place in range(0, len(data), 50):
        broken = bytearray(data)
        broken[place] ^= 4
        path.write_bytes(broken)
        with refused(CorruptError, str(path), "not the plan", "restore it"):
            shards.requests(0)


def test_a_manifest_of_another_shard_or_recipe_is_refused(tmp_path: Path) -> None:
    shards, other = make_set(tmp_path / "one"), make_set(tmp_path / "two", dataset_seed=8)
    path = tmp_path / "one/manifests/000000.parquet"
    for content in (
        shards.store.read("manifests/000001.parquet"),
        other.store.read("manifests/000000.parquet"),
    ):
        path.write_bytes(content)
        with refused(CorruptError, str(path), "another recipe or shard", "remove it"):
            shards.manifest(0)


def test_an_image_that_was_changed_is_refused(tmp_path: Path) -> None:
    shards = make_set(tmp_path)
    row = shards.manifest(0).rows[0]
    tar = tmp_path / "data/000000.tar"
    data = bytearray(tar.read_bytes())
    data[row.offset] ^= 1
    tar.write_bytes(data)
    where = f"{tar}, 000000000_000"
    with refused(CorruptError, where, "not the image that was committed", "run `synth verify`"):
        shards.image(0, row)
    tar.write_bytes(data[:600])
    with refused(CorruptError, where, "not the image that was committed"):
        shards.image(0, row)
    tar.unlink()
    with refused(CorruptError, where, "the tar is gone", "restore it"):
        shards.image(0, row)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("group_id", 5),
        ("view_index", 1),
        ("prompt", "a red wolf"),
        ("label", "fox"),
        ("licence", "CC0-1.0"),
        ("source", "list.csv"),
        ("guidance_scale", 1.5),
        ("seed", 5),
        ("model", "brush"),
        ("steps", 5),
    ],
)
def test_a_row_that_is_not_what_the_plan_asks_for(
    shards: ShardSet, name: str, value: object
) -> None:
    commit(shards, 0, views=changed_views(shards, 0, **{name: value}))
    (problem,) = problems(shards)
    assert problem.where == "manifests/000000.parquet, 000000000_000"
    assert problem.kind == name
    assert f"{name} is {value!r}, plan and recipe say" in problem.message


def test_rows_of_other_views_than_those_of_the_plan(shards: ShardSet) -> None:
    commit_rows(shards, lambda rows: rows[1:])
    assert kinds(shards) == [
        ("manifests/000000.parquet", "keys"),
        ("data/000000.tar", "row"),
        ("data/000000.tar, 000000000_001", "row"),
        ("data/000000.tar, 000000001_000", "row"),
        ("data/000000.tar, 000000001_001", "row"),
    ]


def test_a_tar_with_fewer_views_than_its_manifest(shards: ShardSet, tmp_path: Path) -> None:
    views = views_of(shards, 0)[:3]
    path = write_tar_of(shards, 0, tmp_path / "short.tar", views=views)
    commit(shards, 0)
    right = shards.manifest(0)
    Path(shards.store.url, "data/000000.tar").write_bytes(path.read_bytes())
    wrong = replace(right, tar_sha256=sha256_hex(path.read_bytes()), tar_bytes=path.stat().st_size)
    Path(shards.store.url, "manifests/000000.parquet").write_bytes(wrong.to_bytes())
    assert kinds(shards) == [("data/000000.tar", "row")]


def test_a_tar_of_another_recipe(shards: ShardSet, tmp_path: Path) -> None:
    commit(shards, 0)
    path = write_tar_of(shards, 0, tmp_path / "other.tar", recipe_sha256="0" * 64)
    wrong = replace(shards.manifest(0), tar_sha256=sha256_hex(path.read_bytes()))
    Path(shards.store.url, "data/000000.tar").write_bytes(path.read_bytes())
    Path(shards.store.url, "manifests/000000.parquet").write_bytes(wrong.to_bytes())
    assert kinds(shards) == [("data/000000.tar", "row")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "lost"}, "status 'lost' with reason '' is in no list"),
        ({"reason": "bored"}, "status 'ok' with reason 'bored' is in no list"),
        ({"reason": "blank"}, "status and reason do not agree"),
        ({"status": "failed"}, "status and reason do not agree"),
        ({"status": "failed", "reason": "blank"}, "status and image do not agree"),
        ({"sha256": bytes(32), "offset": -1, "length": 0}, "status and image do not agree"),
    ],
)
def test_a_status_that_is_not_that_of_the_view(
    shards: ShardSet, changes: dict[str, Any], message: str
) -> None:
    commit_rows(shards, lambda rows: [replace(rows[0], **changes), *rows[1:]])
    where = "manifests/000000.parquet, 000000000_000"
    status, row = problems(shards)
    assert status == Problem(where=where, kind="status", message=message)
    assert (row.where, row.kind) == ("data/000000.tar, 000000000_000", "row")


@pytest.mark.parametrize(
    "changes",
    [{"offset": 0}, {"length": 1}, {"renderer": "brush"}, {"sha256": sha256(b"").digest()}],
)
def test_a_row_in_the_manifest_that_is_not_the_one_in_the_tar(
    shards: ShardSet, changes: dict[str, Any]
) -> None:
    commit_rows(shards, lambda rows: [replace(rows[0], **changes), *rows[1:]])
    assert kinds(shards) == [("data/000000.tar, 000000000_000", "row")]


def test_a_tar_that_is_gone(sealed: ShardSet) -> None:
    sealed.store.delete("data/000000.tar")
    assert kinds(sealed) == [("data/000000.tar", "missing")]


def test_a_tar_that_was_cut(sealed: ShardSet) -> None:
    path = Path(sealed.store.url, "data/000000.tar")
    path.write_bytes(path.read_bytes()[:-512])
    assert kinds(sealed) == [("data/000000.tar", "hash"), ("data/000000.tar", "CorruptError")]


def test_an_unreadable_manifest(sealed: ShardSet) -> None:
    Path(sealed.store.url, "manifests/000001.parquet").write_bytes(b"PAR1")
    path = "manifests/000001.parquet"
    assert kinds(sealed) == [(path, "CorruptError"), (path, "hash")]


def test_a_manifest_of_a_shard_that_the_plan_does_not_have(sealed: ShardSet) -> None:
    store = sealed.store
    manifest = replace(sealed.manifest(0), shard=2)
    store.create("manifests/000002.parquet", manifest.to_bytes())
    path = "manifests/000002.parquet"
    assert kinds(sealed) == [(path, "CorruptError"), (path, "missing")]


def test_a_file_of_the_plan_that_is_gone_or_changed(sealed: ShardSet) -> None:
    path = "prompts/000000.parquet"
    found = [(path, "hash"), ("prompts", "CorruptError")]
    found += [(f"manifests/00000{shard}.parquet", "CorruptError") for shard in (0, 1)]
    Path(sealed.store.url, path).write_bytes(b"changed")
    assert kinds(sealed) == [*found, (path, "hash")]
    sealed.store.delete(path)
    assert kinds(sealed) == [*found, (path, "hash")]


def test_prompts_that_are_not_those_of_the_recipe(tmp_path: Path) -> None:
    """The plan's files fit their hashes, the recipe asks for other prompts."""
    mine, other = prompt_rows("a red fox"), prompt_rows("a blue door")
    identity = identity_of(mine)
    files = write_plan(identity_of(other), other)
    hashes = {path: sha256_hex(content) for path, content in files.items()}
    recipe = Recipe(identity=identity, environment={}, prompt_files=hashes)
    store = open_store(str(tmp_path))
    store.create(RECIPE, recipe.to_bytes())
    for path, content in files.items():
        store.create(path, content)
    assert kinds(ShardSet(store)) == [("prompts", "hash")]


@pytest.mark.parametrize(
    "changes", [{"group_id": 5}, {"group_index": 1}, {"prompt": "two  spaces"}]
)
def test_a_prompt_with_another_group_than_its_text(tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = [replace(prompt_rows("a red fox")[0], **changes)]
    identity = identity_of(rows)
    assert identity.prompts_sha256 == hash_prompts(rows)
    shards = ShardSet.begin(open_store(str(tmp_path)), identity, rows, {})
    assert kinds(shards) == [("prompts, row 0", "group")]


def test_a_recipe_whose_bytes_were_changed(shards: ShardSet) -> None:
    path = Path(shards.store.url, RECIPE)
    path.write_bytes(path.read_bytes() + b"\n")
    assert kinds(shards) == [(RECIPE, "canonical")]


def test_a_broken_seal(sealed: ShardSet) -> None:
    Path(sealed.store.url, SEAL).write_bytes(b"{}")
    assert kinds(sealed) == [(SEAL, "ForeignSetError")]


def test_a_seal_of_another_recipe(sealed: ShardSet) -> None:
    reseal(sealed, lambda seal: replace(seal, recipe_sha256="0" * 64))
    assert kinds(sealed) == [(SEAL, "recipe")]


@pytest.mark.parametrize(
    "changes",
    [{"tar_sha256": "0" * 64}, {"tar_bytes": 1}, {"num_views": 9}, {"num_ok": 1}],
)
def test_a_seal_whose_table_is_not_that_of_the_manifests(
    sealed: ShardSet, changes: dict[str, Any]
) -> None:
    def change(seal: Seal) -> Seal:
        return replace(seal, shards=[replace(seal.shards[0], **changes), seal.shards[1]])

    reseal(sealed, change)
    assert kinds(sealed) == [(SEAL, "shards")]


def test_a_seal_that_leaves_a_shard_out(sealed: ShardSet) -> None:
    reseal(sealed, lambda seal: replace(seal, shards=seal.shards[:1]))
    assert kinds(sealed) == [
        ("manifests/000001.parquet", "missing"),
        (SEAL, "shards"),
        ("data/000001.tar", "uncommitted"),
    ]


def test_a_shard_that_was_sealed_and_is_gone(sealed: ShardSet) -> None:
    sealed.store.delete("manifests/000001.parquet")
    path = "manifests/000001.parquet"
    assert kinds(sealed) == [(path, "missing"), (path, "hash")]


@pytest.mark.parametrize("path", ["data/000007.tar", "data/holiday.tar"])
def test_a_tar_that_no_manifest_names_in_a_sealed_set(sealed: ShardSet, path: str) -> None:
    sealed.store.create(path, b"stock readers would read it")
    assert kinds(sealed) == [(path, "uncommitted")]


@pytest.mark.parametrize("path", ["README.md", "data/sizes.json", "stats/000000.json"])
def test_an_advisory_file_that_was_changed_or_is_gone(sealed: ShardSet, path: str) -> None:
    Path(sealed.store.url, path).write_bytes(b"changed")
    assert kinds(sealed) == [(path, "hash")]
    sealed.store.delete(path)
    assert kinds(sealed) == [(path, "hash")]
