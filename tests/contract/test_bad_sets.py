"""Sets that are broken, foreign or of another version: refused, or each of their faults is named.

The hashes in these sets fit, as if a faulty writer had made them. Faults that do not fit the hashes
are in `test_bit_flips.py`.
"""

import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.canonical import document_bytes, hash_file, hash_json, sha256_hex
from manifests.errors import CorruptError, ForeignSetError, VersionError
from manifests.layout import RECIPE, SEAL
from manifests.manifest import Manifest
from manifests.plan import hash_subjects
from manifests.plan_files import write_plan
from manifests.recipe import Recipe
from manifests.rows import ViewRow, parse_view_json
from manifests.seal import Seal
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.storage.errors import StoreError
from manifests.tars import View, walk_tar
from manifests.validation import Problem, validate_shard_set
from tests.sets import (
    COLUMNS,
    Listed,
    begin,
    commit,
    identity_of,
    make_numbered_set,
    make_set,
    picture_of,
    png,
    refused,
    subject_rows,
    tree,
    views_of,
    write_tar_of,
)


def problems_of(shards: ShardSet) -> list[Problem]:
    """All problems of a set, each with a message of one line."""
    problems = list(validate_shard_set(shards))
    assert all(problem.message and "\n" not in problem.message for problem in problems)
    return problems


def kinds(shards: ShardSet) -> list[tuple[str, str]]:
    """File and kind of each problem of a set."""
    return [(problem.where, problem.kind) for problem in problems_of(shards)]


DERIVED = {(path, "hash") for path in ("README.md", "croissant.json", "data/sizes.json")}
"""Problems that a changed seal may bring with it: these files are written from the seal."""


def changed_views(shards: ShardSet, shard: int, **changes: Any) -> list[View]:
    """The views of a shard, the first one with other values in its row."""
    first, *others = views_of(shards, shard)
    # A change may name a field of the row or a declared column, which is a key of `values`.
    declared = {name: value for name, value in changes.items() if name in first.row.values}
    core = {name: value for name, value in changes.items() if name not in declared}
    row = replace(first.row, **core, values={**first.row.values, **declared})
    return [View(row=row, image=first.image), *others]


def commit_rows(shards: ShardSet, change: Callable[[list[ViewRow]], list[ViewRow]]) -> None:
    """Commit the correct tar of shard 0 with a manifest of changed rows."""
    path = write_tar_of(shards, 0, Path(shards.store.url).parent / "scratch.tar")
    with path.open("rb") as file:
        rows = walk_tar(file, COLUMNS, where="scratch").rows
    manifest = Manifest(
        recipe_sha256=shards.recipe_sha256,
        shard=0,
        tar_sha256=sha256_hex(path.read_bytes()),
        tar_bytes=path.stat().st_size,
        columns=COLUMNS,
        rows=change(rows),
    )
    shards.store.create("data/000000.tar", path)
    shards.store.create("manifests/000000.parquet", manifest.to_bytes())


def reseal(shards: ShardSet, change: Callable[[Seal], Seal]) -> None:
    """Replace the seal by one with other values and hashes that fit."""
    seal = shards.seal()
    assert seal is not None
    Path(shards.store.url, SEAL).write_bytes(change(seal).to_bytes())


def rewrite(path: Path, **changes: Any) -> None:
    """Replace keys of a recipe, and its hash by one that fits."""
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
    """URL of an empty folder in memory."""
    yield "memory://shard-set"
    files = fsspec.filesystem("memory")
    if files.exists("/shard-set"):
        files.rm("/shard-set", recursive=True)


@pytest.mark.parametrize("path", ["notes.txt", "data/000000.tar", "photos/holiday/1.jpg", ".git/x"])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path, path: str) -> None:
    """This matters most for foreign tars, which stock readers would read together with ours."""
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
    rewrite(tmp_path / "recipe.json", format_version="3.0")
    for call in (begin, lambda path: ShardSet.open(str(path))):
        with refused(VersionError, str(tmp_path), "format 3.0", "install a newer synth-rep"):
            call(tmp_path)


def test_a_set_of_a_newer_minor_version_is_read_but_not_added_to(tmp_path: Path) -> None:
    """A key of the identity decides pixels, also if this version does not know it."""
    old = begin(tmp_path)
    identity = old.recipe.identity.to_json() | {"tiling": "none"}
    rewrite(tmp_path / "recipe.json", format_version="2.999", identity=identity, author="x")
    shards = ShardSet.open(str(tmp_path))
    for shard in range(2):
        commit(shards, shard)  # as the newer version would
    assert shards.recipe_sha256 == hash_json(identity) != old.recipe_sha256
    assert list(validate_shard_set(shards)) == []
    assert picture_of(shards.requests(0)[0]) == shards.image(0, shards.manifest(0).rows[0])
    with refused(VersionError, str(tmp_path), "also has tiling", "install a newer synth-rep"):
        begin(tmp_path)


def test_a_set_in_memory_is_read_but_not_begun(tmp_path: Path, memory: str) -> None:
    with refused(StoreError, memory, "give a local folder or a URL of s3, gs, az or sftp"):
        begin(memory)
    make_set(tmp_path)
    files = fsspec.filesystem("memory")
    for path, content in tree(tmp_path).items():
        files.pipe_file(f"/shard-set/{path}", content)
    shards = ShardSet.open(memory)
    assert list(validate_shard_set(shards)) == []
    assert shards.image(1, shards.manifest(1).rows[0]) == picture_of(shards.requests(1)[0])


def test_a_missing_file_of_the_plan_is_named(tmp_path: Path) -> None:
    shards = begin(tmp_path)
    path = tmp_path / "subjects/000000.parquet"
    path.unlink()
    for call in (lambda: list(shards.all_subjects()), lambda: shards.requests(1)):
        with refused(CorruptError, str(path), "run the same `synth generate` again"):
            call()


def test_a_flipped_bit_anywhere_in_the_plan_is_refused(tmp_path: Path) -> None:
    """By who reads all of it, and before a driver hands out work. A part of it is read alone in
    `tests/manifests/test_plan_files.py`."""
    shards = begin(tmp_path)
    path = tmp_path / "subjects/000000.parquet"
    data = path.read_bytes()
    for offset in range(0, len(data), 50):
        broken = bytearray(data)
        broken[offset] ^= 4
        path.write_bytes(broken)
        for call in (lambda: list(shards.all_subjects()), lambda: shards.plan.require([1])):
            with refused(CorruptError, str(path), "not the plan", "restore it"):
                call()


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
        ("kind", "latent"),
        ("text", "a red wolf"),
        ("label", "fox"),
        ("licence", "CC0-1.0"),
        ("source", "list.csv"),
        ("seed", 5),
        ("renderer", "brush"),
        ("model", "brush"),
        ("revision", "2"),
        ("render_width_px", 16),
        ("render_height_px", 16),
        ("steps", 5),
        ("avoid", "blur"),
        ("guidance_scale", 1.5),
    ],
)
def test_a_row_that_is_not_what_the_plan_asks_for_is_reported(
    shards: ShardSet, name: str, value: object
) -> None:
    commit(shards, 0, views=changed_views(shards, 0, **{name: value}))
    (problem,) = problems_of(shards)
    assert problem.where == "manifests/000000.parquet, 000000000_000"
    assert problem.kind == name
    assert f"{name} is {value!r}, plan and recipe say" in problem.message


def test_rows_of_other_views_than_those_of_the_plan_are_reported(shards: ShardSet) -> None:
    commit_rows(shards, lambda rows: rows[1:])
    assert kinds(shards) == [
        ("manifests/000000.parquet", "keys"),
        ("data/000000.tar", "row"),
        ("data/000000.tar, 000000000_001", "row"),
        ("data/000000.tar, 000000001_000", "row"),
        ("data/000000.tar, 000000001_001", "row"),
    ]


def test_a_tar_with_fewer_views_than_its_manifest_is_reported(
    shards: ShardSet, tmp_path: Path
) -> None:
    views = views_of(shards, 0)[:3]
    path = write_tar_of(shards, 0, tmp_path / "short.tar", views=views)
    commit(shards, 0)
    right = shards.manifest(0)
    Path(shards.store.url, "data/000000.tar").write_bytes(path.read_bytes())
    wrong = replace(right, tar_sha256=sha256_hex(path.read_bytes()), tar_bytes=path.stat().st_size)
    Path(shards.store.url, "manifests/000000.parquet").write_bytes(wrong.to_bytes())
    assert kinds(shards) == [("data/000000.tar", "row")]


def test_a_tar_of_another_recipe_is_reported(shards: ShardSet, tmp_path: Path) -> None:
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
        ({"sha256": "", "offset": 512, "length": 9}, "status and image do not agree"),
    ],
)
def test_a_status_that_does_not_fit_the_reason_or_the_image_is_reported(
    shards: ShardSet, changes: dict[str, Any], message: str
) -> None:
    commit_rows(shards, lambda rows: [replace(rows[0], **changes), *rows[1:]])
    where = "manifests/000000.parquet, 000000000_000"
    status, row = problems_of(shards)
    assert status == Problem(where=where, kind="status", message=message)
    assert (row.where, row.kind) == ("data/000000.tar, 000000000_000", "row")


@pytest.mark.parametrize(
    "changes",
    [{"offset": 0}, {"length": 1}, {"sha256": sha256(b"").hexdigest()}],
)
def test_a_row_in_the_manifest_that_is_not_the_one_in_the_tar_is_reported(
    shards: ShardSet, changes: dict[str, Any]
) -> None:
    commit_rows(shards, lambda rows: [replace(rows[0], **changes), *rows[1:]])
    assert kinds(shards) == [("data/000000.tar, 000000000_000", "row")]


def test_a_tar_that_is_gone_is_reported(sealed: ShardSet) -> None:
    sealed.store.delete("data/000000.tar")
    assert kinds(sealed) == [("data/000000.tar", "missing")]


def test_a_tar_that_was_cut_is_reported(sealed: ShardSet) -> None:
    path = Path(sealed.store.url, "data/000000.tar")
    path.write_bytes(path.read_bytes()[:-512])
    assert kinds(sealed) == [("data/000000.tar", "hash"), ("data/000000.tar", "CorruptError")]


def test_an_unreadable_manifest_is_reported(sealed: ShardSet) -> None:
    Path(sealed.store.url, "manifests/000001.parquet").write_bytes(b"PAR1")
    path = "manifests/000001.parquet"
    assert kinds(sealed) == [(path, "CorruptError"), (path, "hash")]


def test_a_manifest_of_a_shard_that_the_plan_does_not_have_is_reported(shards: ShardSet) -> None:
    commit(shards, 0)
    content = replace(shards.manifest(0), shard=2).to_bytes()
    for path in ("manifests/000002.parquet", "manifests/0000000.parquet", "data/0000000.tar"):
        shards.store.create(path, content)
        assert kinds(shards) == [(path, "foreign")]
        shards.store.delete(path)


def test_a_manifest_under_a_name_of_another_width_is_no_shard(sealed: ShardSet) -> None:
    path = Path(sealed.store.url, "manifests")
    (path / "000001.parquet").rename(path / "0000001.parquet")
    assert [*sealed.committed()] == [0]
    assert kinds(sealed) == [
        ("manifests/000001.parquet", "missing"),
        ("manifests/000001.parquet", "hash"),
        ("manifests/0000001.parquet", "foreign"),
    ]


def test_images_that_are_no_pictures_of_the_stated_size_are_reported(
    shards: ShardSet, tmp_path: Path
) -> None:
    """Rows, tar and manifest fit each other: only the image itself shows the fault."""
    commit(shards, 0)
    right = shards.manifest(0)
    for content in (b"not an image", b"\x80\x04\x95", png(30_000, 1, b""), picture_of_size(9)):
        views = views_of(shards, 0, lambda request, content=content: content)
        tar = write_tar_of(shards, 0, tmp_path / "hostile.tar", views=views)
        Path(shards.store.url, "data/000000.tar").write_bytes(tar.read_bytes())
        digest = sha256_hex(tar.read_bytes())
        wrong = replace(right, tar_sha256=digest, tar_bytes=tar.stat().st_size, rows=rows_in(tar))
        Path(shards.store.url, "manifests/000000.parquet").write_bytes(wrong.to_bytes())
        (problem,) = problems_of(shards)
        assert (problem.where, problem.kind) == ("data/000000.tar", "CorruptError")
        assert "000000000_000.png" in problem.message


def picture_of_size(size_px: int) -> bytes:
    return png(size_px, size_px, bytes(3 * size_px * size_px))


def rows_in(tar: Path) -> list[ViewRow]:
    """Rows with the positions of their images, from a tar that `walk_tar` would refuse."""
    rows = []
    with tarfile.open(tar) as members:
        for member in members:
            if member.name.endswith(".json"):
                content = members.extractfile(member)
                assert content is not None
                rows.append(parse_view_json(content.read().decode(), COLUMNS, where="tar"))
        images = {m.name.partition(".")[0]: m for m in members if m.name.endswith(".png")}
        trailer = members.extractfile("__failed__")
        assert trailer is not None
        for line in trailer.read().decode().splitlines()[1:]:
            rows.append(parse_view_json(line, COLUMNS, where="tar"))
    return [
        row.at(images[row.key].offset_data, images[row.key].size) if row.is_ok else row
        for row in sorted(rows, key=lambda row: row.key)
    ]


def test_a_file_of_the_plan_that_is_gone_or_changed_is_reported(sealed: ShardSet) -> None:
    path = "subjects/000000.parquet"
    expected = [(path, "hash"), ("subjects", "CorruptError")]
    expected += [(f"manifests/00000{shard}.parquet", "CorruptError") for shard in (0, 1)]
    expected += [(path, "hash")]  # once more, as a file that the seal names
    Path(sealed.store.url, path).write_bytes(b"changed")
    # Opened again, because a set reads a file of its plan once.
    assert kinds(ShardSet(sealed.store)) == expected
    sealed.store.delete(path)
    assert kinds(ShardSet(sealed.store)) == expected


def test_subjects_that_are_not_those_of_the_recipe_are_reported(tmp_path: Path) -> None:
    """The files of the plan have the right hashes; the recipe's identity has other subjects."""
    mine, other = subject_rows("a red fox"), subject_rows("a blue door")
    identity = identity_of(mine)
    files = write_plan(identity_of(other), Listed(other), tmp_path)
    hashes = {path: hash_file(file) for path, file in files.items()}
    recipe = Recipe(identity=identity, environment={}, subject_files=hashes)
    store = open_store(str(tmp_path / "set"))
    store.create(RECIPE, recipe.to_bytes())
    for path, file in files.items():
        store.create(path, file)
    assert kinds(ShardSet(store)) == [("subjects", "hash")]


@pytest.mark.parametrize("changes", [{"group_id": 5}, {"group_index": 1}, {"text": "two  spaces"}])
def test_a_subject_whose_group_does_not_fit_its_text_is_reported(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    rows = [replace(subject_rows("a red fox")[0], **changes)]
    identity = identity_of(rows)
    assert identity.subjects_sha256 == hash_subjects(rows, COLUMNS)
    shards = ShardSet.begin(open_store(str(tmp_path)), identity, Listed(rows), environment={})
    assert kinds(shards) == [("subjects, row 0", "group")]


def test_a_bad_subject_is_reported_although_a_later_file_of_the_plan_is_gone(
    tmp_path: Path,
) -> None:
    rows = subject_rows(*(f"caption {number}" for number in range(1001)))
    rows[1] = replace(rows[1], group_id=5)
    identity = identity_of(rows, subjects_per_shard=1)
    shards = ShardSet.begin(open_store(str(tmp_path)), identity, Listed(rows), environment={})
    shards.store.delete("subjects/000001.parquet")
    expected = [("subjects/000001.parquet", "hash"), ("subjects, row 1", "group")]
    assert kinds(shards) == [*expected, ("subjects", "CorruptError")]


def test_a_recipe_whose_bytes_were_changed_is_reported(shards: ShardSet) -> None:
    path = Path(shards.store.url, RECIPE)
    path.write_bytes(path.read_bytes() + b"\n")
    assert kinds(shards) == [(RECIPE, "canonical")]


def test_a_broken_seal_is_reported(sealed: ShardSet) -> None:
    Path(sealed.store.url, SEAL).write_bytes(b"{}")
    assert kinds(sealed) == [(SEAL, "ForeignSetError")]


def test_a_seal_of_another_recipe_is_reported(sealed: ShardSet) -> None:
    reseal(sealed, lambda seal: replace(seal, recipe_sha256="0" * 64))
    first, *others = kinds(sealed)
    assert first == (SEAL, "recipe")
    assert {*others} <= DERIVED | {(SEAL, "index"), (SEAL, "about")}  # in whose name is the root


@pytest.mark.parametrize(
    "changes",
    [{"tar_sha256": "0" * 64}, {"tar_bytes": 1}, {"num_views": 9}, {"num_ok": 1}],
)
def test_a_seal_that_contradicts_the_manifests_is_reported(
    sealed: ShardSet, changes: dict[str, Any]
) -> None:
    def change(seal: Seal) -> Seal:
        return replace(seal, shards=[replace(seal.shards[0], **changes), seal.shards[1]])

    reseal(sealed, change)
    first, *others = kinds(sealed)
    assert first == (SEAL, "shards")
    assert {*others} <= DERIVED | {(SEAL, "index"), (SEAL, "about")}


def test_an_index_that_contradicts_the_manifests_is_reported(sealed: ShardSet) -> None:
    """Its hash is the one in the seal."""
    seal = sealed.seal()
    assert seal is not None
    (path,) = seal.index
    file = Path(sealed.store.url, path)
    index = pq.read_table(file)
    pq.write_table(index.set_column(6, "kind", pa.array(["latent"] * len(index))), file)
    files = {**seal.files, path: sha256_hex(file.read_bytes())}
    reseal(sealed, lambda seal: replace(seal, files=files))
    assert kinds(sealed) == [(path, "index")]


def test_a_seal_that_leaves_a_shard_out_is_reported(sealed: ShardSet) -> None:
    reseal(sealed, lambda seal: replace(seal, shards=seal.shards[:1]))
    assert kinds(sealed) == [
        (SEAL, "shards"),
        ("data/000001.tar", "foreign"),
        ("manifests/000001.parquet", "foreign"),
    ]


def test_a_shard_that_was_sealed_and_is_gone_is_reported(sealed: ShardSet) -> None:
    sealed.store.delete("manifests/000001.parquet")
    path = "manifests/000001.parquet"
    assert kinds(sealed) == [(path, "missing"), (path, "hash")]


@pytest.mark.parametrize(
    "path",
    [
        "data/000007.tar",
        "data/holiday.tar",
        "data/0000001.tar",
        "manifests/0000001.parquet",
        "subjects/000001.parquet",
        "stats/000002.json",
        "failed/000001-000.json",
    ],
)
def test_a_file_that_the_seal_does_not_name_is_reported(sealed: ShardSet, path: str) -> None:
    sealed.store.create(path, b"stock readers would read it")
    assert kinds(sealed) == [(path, "foreign")]


@pytest.mark.parametrize("kind", ["pipe", "folder", "dead link", "endless link", "link to itself"])
@pytest.mark.parametrize("path", ["data/extra.tar", "failed/extra.json"])
def test_what_is_no_file_but_has_the_name_of_one_is_reported(
    sealed: ShardSet, path: str, kind: str
) -> None:
    """A glob would take it. The fault that comes after it is found all the same."""
    strange = Path(sealed.store.url, path)
    strange.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(strange)
    elif kind == "folder":
        strange.mkdir()
    else:
        targets = {"dead link": "nowhere", "endless link": "/dev/zero"}
        strange.symlink_to(targets.get(kind, strange))
    sealed.store.create("stats/000002.json", b"{}")
    assert sorted(kinds(sealed)) == sorted([(path, "foreign"), ("stats/000002.json", "foreign")])


@pytest.mark.parametrize(
    "path",
    [
        *("README.md", "croissant.json", "data/sizes.json", "examples/000000000_001.png"),
        "stats/000000.json",
    ],
)
def test_an_advisory_file_that_was_changed_or_is_gone_is_reported(
    sealed: ShardSet, path: str
) -> None:
    Path(sealed.store.url, path).write_bytes(b"changed")
    assert kinds(sealed) == [(path, "hash")]
    sealed.store.delete(path)
    assert kinds(sealed) == [(path, "hash")]


def test_what_a_set_has_for_timm_is_checked(tmp_path: Path) -> None:
    shards = make_numbered_set(tmp_path)
    assert kinds(shards) == []
    (tmp_path / "_info.json").write_bytes(b"{}")
    assert kinds(shards) == [("_info.json", "hash")]


def test_a_seal_that_tells_of_other_subjects_is_reported(sealed: ShardSet) -> None:
    def other(seal: Seal) -> Seal:
        assert seal.about is not None
        return replace(seal, about=replace(seal.about, licences=[("MIT", 3)]))

    reseal(sealed, other)
    assert (SEAL, "about") in kinds(sealed)
