"""Invariant 7: readers that know nothing of this format read the tars and manifests of a set."""

import gc
import io
import json
import re
import subprocess
import tarfile
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sets import make_numbered_set

# These libraries warn, for example of files that they leave open; that is no fault of ours.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

GOLDEN = Path(__file__).parent / "golden"
TARS = [str(GOLDEN / "data" / name) for name in ("000000.tar", "000001.tar")]
BRACES = str(GOLDEN / "data" / "{000000..000001}.tar")
KEYS = ["000000000_000", "000000000_001", "000000001_000", "000000002_000", "000000002_001"]
"""Keys of the views that did not fail; 000000001_001 failed."""
CAPTIONS = ["a red fox"] * 2 + ["a blue door"] + ["un café à Paris"] * 2


def has_later_webdataset() -> bool:
    """Whether webdataset is newer than 0.2, the last that open_clip can train with."""
    try:
        return int(version("webdataset").partition(".")[0]) > 0
    except PackageNotFoundError:
        return False


@pytest.fixture(autouse=True)
def as_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what an earlier test may have done: the trainer forbids webdataset to open files."""
    monkeypatch.setattr("webdataset.utils.enforce_security", False)


@pytest.fixture(autouse=True)
def closed_files() -> Iterator[None]:
    """Close the files that a reader left open, before a later test gets a warning about them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def test_webdataset_reads_every_good_view() -> None:
    wds = pytest.importorskip("webdataset")
    views = list(wds.WebDataset(TARS, shardshuffle=False))
    assert [view["__key__"] for view in views] == KEYS
    assert [view["txt"].decode() for view in views] == CAPTIONS
    suffixes = {name for view in views for name in view if not name.startswith("__")}
    assert suffixes == {"png", "json", "txt"}
    rows = [json.loads(view["json"]) for view in views]
    assert [row["key"] for row in rows] == KEYS
    assert len({frozenset(row) for row in rows}) == 1  # all rows have the same keys


def test_webdataset_decodes_the_images() -> None:
    wds = pytest.importorskip("webdataset")
    pytest.importorskip("PIL")
    pictures = list(wds.WebDataset(BRACES, shardshuffle=False).decode("pil").to_tuple("png", "txt"))
    assert [(picture.size, text) for picture, text in pictures] == [
        ((8, 8), caption) for caption in CAPTIONS
    ]


def test_datasets_reads_the_tars(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = list(
        datasets.load_dataset(
            "webdataset",
            data_files={"train": TARS},
            split="train",
            streaming=True,
            cache_dir=str(tmp_path),
        )
    )
    check_datasets_rows(rows)


def test_datasets_reads_the_folder_by_its_card(tmp_path: Path) -> None:
    """The card's YAML keeps it from reading manifests, plan and statistics as data."""
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(
        str(GOLDEN), split="train", streaming=True, cache_dir=str(tmp_path)
    )
    check_datasets_rows(list(rows))


def check_datasets_rows(rows: list[dict[str, Any]]) -> None:
    assert [row["__key__"] for row in rows] == KEYS
    assert [row["txt"] for row in rows] == CAPTIONS
    assert [row["json"]["seed"] for row in rows[:2]] == [1109010120, 1109010121]
    assert all(row["png"].size == (8, 8) for row in rows)


def test_open_clip_counts_the_views() -> None:
    data = pytest.importorskip("open_clip_train.data")
    assert data.get_dataset_size(BRACES) == (5, 2)


def test_open_clip_tests_on_the_tars() -> None:
    assert read_by_open_clip(is_train=False) == sorted(CAPTIONS)


@pytest.mark.xfail(
    has_later_webdataset(),
    reason="webdataset 1.0 ends each tar with an empty dict, in which open_clip looks for fname",
    raises=KeyError,
    strict=True,
)
def test_open_clip_trains_on_the_tars() -> None:
    """What fails is upstream's; benchmarks.stock_readers tries it with webdataset 0.2.86."""
    assert read_by_open_clip(is_train=True) == sorted(CAPTIONS)


def read_by_open_clip(*, is_train: bool) -> list[str]:
    """The texts of all views, each once, in the order of the alphabet."""
    data = pytest.importorskip("open_clip_train.data")
    args = SimpleNamespace(
        train_data=BRACES,
        train_num_samples=len(KEYS),
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        val_data=BRACES,
        val_num_samples=None,
        batch_size=1,
        workers=0,
        world_size=1,
        seed=0,
    )
    reader = data.get_wds_dataset(
        args, lambda picture: picture.size, is_train=is_train, tokenizer=lambda text: [text]
    )
    return sorted(text for _, batch in reader.dataloader for text in batch)


def test_the_tar_command_and_tarfile_read_the_tars() -> None:
    command = ["tar", "--list", "--verbose", "--file", TARS[1]]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[-1] for line in listed] == [
        *[f"{key}.{suffix}" for key in KEYS[3:] for suffix in ("png", "json", "txt")],
        "__failed__",
    ]
    assert {line.split()[0] for line in listed} == {"-rw-r--r--"}
    with tarfile.open(fileobj=io.BytesIO(Path(TARS[1]).read_bytes()), mode="r|") as tar:
        assert len(list(tar)) == 7


MANIFESTS = [str(GOLDEN / "manifests" / name) for name in ("000000.parquet", "000001.parquet")]


def test_duckdb_filters_by_the_columns_that_the_recipe_declares() -> None:
    duckdb = pytest.importorskip("duckdb")
    query = (
        "SELECT key, guidance_scale, steps FROM read_parquet(?) "
        "WHERE status = 'ok' AND guidance_scale > 1 ORDER BY key"
    )
    rows = duckdb.execute(query, [MANIFESTS]).fetchall()
    assert rows == [(key, 3.0, 4) for key in KEYS if key.endswith("_001")]


def test_pandas_has_the_types_that_the_recipe_declares() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.concat(map(pandas.read_parquet, MANIFESTS), ignore_index=True)
    declared = json.loads((GOLDEN / "recipe.json").read_text())["identity"]["columns"]
    names = {"double": ("float64",), "int64": ("int64",), "string": ("object", "str")}
    for column in declared:
        assert str(table[column["name"]].dtype) in names[column["type"]]
    assert list(table.key[table.status == "ok"]) == KEYS


def test_datasets_reads_the_manifests_as_a_table(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.load_dataset(
        "parquet", data_files={"train": MANIFESTS}, split="train", cache_dir=str(tmp_path)
    )
    assert [row["key"] for row in table if row["status"] == "ok"] == KEYS
    assert {row["guidance_scale"] for row in table} == {1.0, 3.0}


def test_the_code_in_the_card_reads_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    folder = GOLDEN.with_name("golden_about")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("FOLDER", str(folder)), names)
    check_datasets_rows(list(names["views"]))
    assert [row["key"] for row in names["rows"] if row["status"] == "ok"] == KEYS


def test_timm_reads_a_set_whose_labels_are_numbers(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    make_numbered_set(tmp_path)
    options = {"root": str(tmp_path), "split": "train", "is_training": False, "batch_size": 1}
    data = timm.data.create_dataset("wds/set", **options)
    views = list(data)
    assert [label for _, label in views] == [1, 1, 0, 12, 12]
    assert {picture.size for picture, _ in views} == {(8, 8)}
    assert len(data) == 5
