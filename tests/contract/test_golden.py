"""Frozen sets of format versions 2.0 to 2.4 that every later version must read.

`make_golden.py` made them.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.canonical import sha256_hex
from manifests.derived import derived_files, derived_hashes
from manifests.manifest import parse_manifest
from manifests.origin import Origin, SourceSet
from manifests.plan_files import write_plan
from manifests.rows import ViewRow
from manifests.schema import schema_of, subject_columns
from manifests.seal import Seal
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.tables import TableFile
from manifests.tars import View
from manifests.validation import validate_shard_set
from tests.sets import COLUMNS, Listed, commit, tree

PLAN_SCHEMA = schema_of(subject_columns(COLUMNS))
GOLDEN = Path(__file__).parent / "golden"
GOLDEN_SIZES = Path(__file__).parent / "golden_sizes"
GOLDEN_INDEX = Path(__file__).parent / "golden_index"
GOLDEN_ABOUT = Path(__file__).parent / "golden_about"
GOLDEN_GROWN = Path(__file__).parent / "golden_grown"
ROOT_SHA256 = "8fd18de0d2847180429467af62b290e985145825eb5fac0cbb6873688992f7d0"
SIZES_ROOT_SHA256 = "e52e4c7f2bf06c25fd175b27741808d537fec2b94f0c9c1f1c2e7ba4aa64bf42"
GROWN_ROOT_SHA256 = "c761d467970630ab86cdffba2f806e6001c2884cce5e1a04be6ea144c0741c13"
TARS_SHA256 = (
    "65d64a41df65f5bf4299a5db4437f16d55b7a10c99cd8420851c7192513549ba",
    "4e68c049711ee67ed4b6de76bdd4356196f285854456ed5e32d77dd6c3a1165a",
)


@pytest.fixture
def golden() -> ShardSet:
    return ShardSet.open(str(GOLDEN))


def views_in(shards: ShardSet, shard: int) -> list[View]:
    """The views of a shard as its writer had them, when they had no positions in a tar yet."""
    return [
        View(row=row.at(-1, 0), image=shards.image(shard, row) if row.is_ok else None)
        for row in shards.manifest(shard).rows
    ]


def test_golden_set_keeps_every_invariant(golden: ShardSet) -> None:
    assert list(validate_shard_set(golden)) == []


def test_golden_set_with_sizes(tmp_path: Path) -> None:
    shards = ShardSet.open(str(GOLDEN_SIZES))
    assert list(validate_shard_set(shards)) == []
    seal = shards.seal()
    assert seal is not None
    assert seal.root_sha256 == SIZES_ROOT_SHA256
    assert shards.store.read("recipe.json") == shards.recipe.to_bytes()
    assert b'"format_version": "2.1"' in shards.recipe.to_bytes()
    rows = [row for shard in (0, 1) for row in shards.manifest(shard).rows]
    assert [(row.render_width_px, row.width_px, row.height_px) for row in rows] == [
        (8, 8, 8),
        (12, 12, 8),
    ] * 3
    again = begun_again(shards, tmp_path)
    for shard in (0, 1):
        commit(again, shard, views=views_in(shards, shard))
        path = shards.layout.tar(shard)
        assert again.store.read(path) == shards.store.read(path)


def test_golden_set_has_its_root_hash_and_counts(golden: ShardSet) -> None:
    seal = golden.seal()
    assert seal is not None
    assert seal.root_sha256 == ROOT_SHA256
    assert (
        seal.recipe_sha256
        == golden.recipe_sha256
        == "e2f01420f654398ddc9a32a444747d032b68d3fadd69294422d375fdc748a354"
    )
    assert seal.counts == {
        "num_shards": 2,
        "num_views": 6,
        "num_ok": 5,
        "num_failed": 1,
        "tar_bytes": 30720,
    }
    assert [*golden.committed()] == [0, 1]


def test_golden_plan(golden: ShardSet) -> None:
    assert [
        (row.group_index, row.group_id, row.text, row.label, row.source, row.num_merged)
        for row in golden.all_subjects()
    ] == [
        (0, 8945900202904087436, "a red fox", "fox", "golden.csv", 1),
        (1, 5845563456268224687, "a blue door", "door", "golden.csv", 2),
        (2, 7854726733299523771, "un café à Paris", "Paris", "golden.csv", 3),
    ]


def test_golden_rows(golden: ShardSet) -> None:
    rows = [row for shard in (0, 1) for row in golden.manifest(shard).rows]
    assert [
        (row.key, row.status, row.values["guidance_scale"], row.seed, row.offset) for row in rows
    ] == [
        ("000000000_000", "ok", 1.0, 1109010120, 512),
        ("000000000_001", "ok", 3.0, 1109010121, 3584),
        ("000000001_000", "ok", 1.0, 849376597, 6656),
        ("000000001_001", "failed", 3.0, 849376598, -1),
        ("000000002_000", "ok", 1.0, 3180549288, 512),
        ("000000002_001", "ok", 3.0, 3180549289, 3584),
    ]
    assert rows[4] == ViewRow(
        key="000000002_000",
        group_id=7854726733299523771,
        view_index=0,
        status="ok",
        reason="",
        kind="caption",
        text="un café à Paris",
        label="Paris",
        licence="CC0-1.0",
        source="golden.csv",
        renderer="painter",
        model="easel",
        revision="1",
        seed=3180549288,
        render_width_px=8,
        render_height_px=8,
        width_px=8,
        height_px=8,
        format="png",
        sha256="ad9b706dcac53d2b1d6b2b7744f22c2ec8657caae456c85b06a588afc8a13be1",
        offset=512,
        length=77,
        values={"steps": 4, "avoid": "blur", "guidance_scale": 1.0, "num_cut": 0},
    )


def test_golden_images_are_pngs_with_the_hashes_of_their_rows(golden: ShardSet) -> None:
    images = [view.image for shard in (0, 1) for view in views_in(golden, shard)]
    assert [image and image[:4] for image in images] == [b"\x89PNG"] * 3 + [None] + [b"\x89PNG"] * 2


def test_golden_tars_are_written_again_to_the_byte(golden: ShardSet, tmp_path: Path) -> None:
    """Equal views are equal bytes, whatever versions of libraries are installed."""
    again = begun_again(golden, tmp_path)
    for shard, expected in enumerate(TARS_SHA256):
        manifest = commit(again, shard, views=views_in(golden, shard))
        path = golden.layout.tar(shard)
        assert manifest == golden.manifest(shard)
        assert again.store.read(path) == golden.store.read(path)
        assert sha256_hex(again.store.read(path)) == manifest.tar_sha256 == expected


def plan_again(golden: ShardSet, folder: Path) -> bytes:
    """The file of the plan as it is written now."""
    plan = Listed([*golden.all_subjects()])
    (file,) = write_plan(golden.recipe.identity, plan, folder).values()
    return file.read_bytes()


def begun_again(golden: ShardSet, folder: Path) -> ShardSet:
    """A set without shards, with the recipe and the plan as they were written then."""
    for path in ("recipe.json", "subjects/000000.parquet"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(golden.store.read(path))
    identity = golden.recipe.identity
    return ShardSet.begin(
        open_store(str(folder)), identity, Listed([*golden.all_subjects()]), environment={}
    )


def test_golden_recipe_is_written_again_to_the_byte(golden: ShardSet) -> None:
    assert golden.recipe.to_bytes() == golden.store.read("recipe.json")


def test_golden_seal_is_written_again_to_the_byte(golden: ShardSet) -> None:
    seal = golden.seal()
    assert seal is not None
    assert seal.to_bytes() == golden.store.read("dataset.json")


def test_golden_tables_are_written_again_with_the_same_content(
    golden: ShardSet, tmp_path: Path
) -> None:
    """The bytes of Parquet files depend on the version of pyarrow; their content does not."""
    for shard in (0, 1):
        data = golden.manifest(shard).to_bytes()
        assert parse_manifest(data, COLUMNS, where="again") == golden.manifest(shard)
    plan = plan_again(golden, tmp_path)
    old = golden.store.read("subjects/000000.parquet")
    for shard in (0, 1):
        files = [TableFile.of_bytes(data, PLAN_SCHEMA, where="again") for data in (plan, old)]
        tables = [file.read(range(shard, shard + 1)) for file in files]
        assert tables[0].equals(tables[1], check_metadata=True)


def test_golden_set_is_made_again_to_the_byte(
    golden: ShardSet, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scratch = tmp_path_factory.mktemp("plan")
    if golden.recipe.environment["pyarrow"] != pa.__version__:
        pytest.skip("another version of pyarrow writes other bytes")
    again = begun_again(golden, tmp_path)
    for shard in (0, 1):
        commit(again, shard, views=views_in(golden, shard))
        again.store.create(again.layout.stats(shard), golden.store.read(golden.layout.stats(shard)))
    seal = seal_set(again)
    files = files_before_2_4(again, seal)
    # It was sealed before there was an index.
    old_names = {path: digest for path, digest in seal.files.items() if path not in seal.index}
    files["dataset.json"] = replace(seal, files=old_names, about=None).to_bytes()
    for path in seal.index:
        del files[path]
    assert files == tree(GOLDEN)
    assert plan_again(golden, scratch) == golden.store.read("subjects/000000.parquet")


def test_golden_set_with_an_index(tmp_path: Path) -> None:
    shards = ShardSet.open(str(GOLDEN_INDEX))
    assert list(validate_shard_set(shards)) == []
    seal = shards.seal()
    assert seal is not None
    assert seal.root_sha256 == ROOT_SHA256
    assert seal.index == [f"index/{ROOT_SHA256[:16]}-000000.parquet"]
    assert b'"format_version": "2.2"' in shards.store.read("dataset.json")
    again = begun_again(shards, tmp_path)
    for shard in (0, 1):
        commit(again, shard, views=views_in(shards, shard))
        again.store.create(again.layout.stats(shard), shards.store.read(shards.layout.stats(shard)))
    files = files_before_2_4(again, seal_set(again))
    assert pq.read_table(tmp_path / seal.index[0]).equals(
        pq.read_table(GOLDEN_INDEX / seal.index[0])
    )
    if shards.recipe.environment["pyarrow"] == pa.__version__:
        assert files == tree(GOLDEN_INDEX)


def files_before_2_4(shards: ShardSet, seal: Seal) -> dict[str, bytes]:
    """The files of a set as they were before a seal said what its set is about."""
    recipe, old = shards.recipe, replace(seal, about=None)
    new = derived_hashes(recipe, seal)
    files = {path: data for path, data in tree(shards.store.url).items() if path not in new}
    return {**files, **derived_files(recipe, old), "dataset.json": old.to_bytes()}


def test_golden_set_whose_seal_says_what_it_is_about(tmp_path: Path) -> None:
    shards = ShardSet.open(str(GOLDEN_ABOUT))
    assert list(validate_shard_set(shards)) == []
    seal = shards.seal()
    assert seal is not None
    assert seal.root_sha256 == ROOT_SHA256
    assert b'"format_version": "2.4"' in shards.store.read("dataset.json")
    assert seal.about is not None
    assert (seal.about.kinds, seal.about.licences) == ({"caption": 3}, [("CC0-1.0", 3)])
    again = begun_again(shards, tmp_path)
    for shard in (0, 1):
        commit(again, shard, views=views_in(shards, shard))
        again.store.create(again.layout.stats(shard), shards.store.read(shards.layout.stats(shard)))
    seal_set(again)
    derived = derived_hashes(shards.recipe, seal)
    assert {path: sha256_hex(shards.store.read(path)) for path in derived} == derived
    if shards.recipe.environment["pyarrow"] == pa.__version__:
        assert tree(tmp_path) == tree(GOLDEN_ABOUT)


def test_golden_set_that_has_grown(tmp_path: Path) -> None:
    shards, old = ShardSet.open(str(GOLDEN_GROWN)), ShardSet.open(str(GOLDEN_INDEX))
    assert list(validate_shard_set(shards)) == []
    seal = shards.seal()
    assert seal is not None
    assert seal.root_sha256 == GROWN_ROOT_SHA256
    assert b'"format_version": "2.3"' in shards.store.read("recipe.json")
    assert shards.store.read("recipe.json") == shards.recipe.to_bytes()
    assert shards.recipe.origin == Origin(
        verb="grow",
        sets=(SourceSet(root_sha256=ROOT_SHA256, recipe_sha256=old.recipe_sha256),),
    )
    for shard in (0, 1):
        rows = {row.key: row for row in shards.manifest(shard).rows}
        assert len(rows) == 4 * len(shards.subjects(shard))
        for row in old.manifest(shard).rows:
            assert rows[row.key].to_json() == row.to_json()
    again = begun_again(shards, tmp_path)
    for shard in (0, 1):
        commit(again, shard, views=views_in(shards, shard))
        path = shards.layout.tar(shard)
        assert again.store.read(path) == shards.store.read(path)


def test_a_copy_of_the_golden_set_in_another_folder_is_the_same_set(tmp_path: Path) -> None:
    """A set holds no path of its own, no host and no clock."""
    shutil.copytree(GOLDEN, tmp_path / "copy")
    copy = ShardSet.open(str(tmp_path / "copy"))
    assert list(validate_shard_set(copy)) == []
    assert replace(copy.recipe) == ShardSet.open(str(GOLDEN)).recipe
