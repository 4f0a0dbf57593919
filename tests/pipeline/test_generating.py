"""What a resumed set says of the libraries that it was begun with, and what a run takes."""

import tracemalloc
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.canonical import sha256_hex
from manifests.errors import CorruptError
from manifests.layout import RECIPE
from manifests.recipe import Recipe
from manifests.shard_set import ShardSet
from manifests.storage import Store
from manifests.tables import write_tables
from pipeline import generating
from pipeline.config import GenerateConfig, load_config
from pipeline.execution.inline import InlineConfig
from pipeline.generating import begin, generation_of, rejoin, run
from pipeline.retrying import WorkQueue
from pipeline.shard_report import ShardReport
from tests.sets import identity_of, refused, subject_rows

RENDERER = "tests.renderers:Stripes"


def recipe(folder: Path) -> GenerateConfig:
    """One caption, painted by a renderer without a model."""
    captions = folder / "captions.txt"
    captions.write_text("a red fox\n")
    flags = {
        "prompts.file": str(captions),
        "renderer.name": RENDERER,
        "execution.executor": "inline",
    }
    return load_config(recipe=None, overrides=[], flags=flags)


def test_drift_names_versions_that_changed_or_were_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "set")
    with monkeypatch.context() as then:
        then.setattr(
            generating,
            "versions_here",
            lambda: {"python": "3.9.1", "torch": "2.11.0", "diffusers": "0.42.0"},
        )
        begin(recipe(tmp_path), url)
    now = {"python": "3.9.2", "torch": "2.11.0", "pillow": "12.1.0"}
    monkeypatch.setattr(generating, "versions_here", lambda: now)
    generation = rejoin({"executor": "inline"}, url, trusted=[RENDERER])
    assert generation.drift == [
        "diffusers is not installed, the set was begun with 0.42.0",
        "python 3.9.2, the set was begun with 3.9.1",
        "pillow 12.1.0, the version that the set was begun with is not recorded",
    ]


def test_an_edited_plan_is_refused_before_a_shard_is_made(tmp_path: Path) -> None:
    """A worker reads a part of it, which has no hash."""
    url = str(tmp_path / "set")
    begin(recipe(tmp_path), url)
    path = tmp_path / "set/subjects/000000.parquet"
    table = pq.read_table(path)
    labels = table.schema.get_field_index("label")
    table = table.set_column(labels, table.schema.field(labels), pa.array(["fox"]))
    with path.open("wb") as file:
        write_tables(file, [table])
    generation = rejoin({"executor": "inline"}, url, trusted=[RENDERER])
    assert generation.shards.subjects(0)[0].label == "fox"
    with refused(CorruptError, f"{path}: not the plan that the recipe was begun with"):
        list(run(generation))
    assert not (tmp_path / "set/data").exists()


def test_same_libraries_are_no_drift(tmp_path: Path) -> None:
    assert begin(recipe(tmp_path), str(tmp_path / "set")).drift == []


def test_a_set_that_is_begun_says_what_it_will_cost(tmp_path: Path) -> None:
    """By the view that was tried, so before anything is made; a resume tries nothing."""
    from tests.running import write_captions

    flags = {"prompts.file": str(write_captions(tmp_path, ["a one", "a two"]))}
    flags |= {"views.per_subject": 2, "renderer.steps": 1, "execution.executor": "inline"}
    config = load_config(recipe=None, overrides=[], flags=flags)
    generation = begin(config, str(tmp_path / "set"))
    assert generation.trial is not None
    assert generation.trial.view_s > 0
    for _ in run(generation):
        pass
    made = sum(path.stat().st_size for path in (tmp_path / "set/data").glob("*.tar")) / 4
    assert made / 3 < generation.trial.view_bytes < made * 3
    assert begin(config, str(tmp_path / "set")).trial is None


class HalfMade(Store):
    """A set of so many shards, of which every second is made."""

    url = "half"

    def __init__(self, url: str) -> None:
        self._num_shards = int(url)

    def read(self, path: str, **_: Any) -> bytes:
        if path != RECIPE:
            raise FileNotFoundError(path)
        identity = identity_of(
            subject_rows("a fox"), num_subjects=self._num_shards, subjects_per_shard=1
        )
        files = dict.fromkeys(identity.layout.subject_files(), sha256_hex(b""))
        return Recipe(identity=identity, environment={}, subject_files=files).to_bytes()

    def open(self, path: str) -> BinaryIO:
        return BytesIO()  # a file of the plan, which nobody reads here

    def files(self, folder: str = "") -> Iterator[str]:
        stop = self._num_shards if folder == "manifests" else 0
        return (f"manifests/{number:06d}.parquet" for number in range(0, stop, 2))


class Instant:
    """An executor that says at once that a shard is made."""

    Config = InlineConfig

    def run(self, shards: Sequence[int], job: Any) -> Iterator[ShardReport]:
        queue = WorkQueue(shards)
        numbers = dict.fromkeys(("num_views", "num_ok", "tar_bytes"), 1)
        seconds = dict.fromkeys(("wait_s", "render_s", "encode_s", "commit_s", "total_s"), 0.0)
        while attempt := queue.take():
            yield ShardReport(
                **{**numbers, **seconds, "shard": attempt.shard, "errors": attempt.errors},
                **{"finished_at": 0.0, "storage_repeats": 0, "host": ""},
            )


def test_a_driver_takes_a_few_bytes_for_each_shard_of_a_run() -> None:
    """Measured: 10 bytes; a driver that holds a report, a path or a number of each takes more."""

    def peak(num_shards: int) -> int:
        shards, executor = ShardSet(HalfMade(str(num_shards))), Instant()
        job: Any = None
        tracemalloc.start()
        generation = generation_of(shards, job, executor, retry_failed=False, share=None)
        assert sum(1 for _ in run(generation)) == num_shards // 2
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)  # imports
    assert (peak(60_000) - peak(10_000)) / 50_000 < 25
