"""`synth grow`, `merge`, `split` and `delete` in folders and buckets; and what learns from them."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner

from manifests.shard_set import ShardSet
from manifests.storage import open_store
from manifests.taking import Taking
from pipeline import assembling
from pipeline.shard_report import ShardReport
from synth import main
from tests.cluster import cluster as cluster
from tests.grown_sets import CAPTIONS, MORE, STRIPES, captions_file, generate
from tests.object_store import s3_clients_of, s3_server
from tests.running import pixel_files, start, synth

pytestmark = pytest.mark.slow

INLINE = ("--executor", "inline", "--trust", STRIPES)
FAULTY = "tests.renderers:Faulty"
TRAIN = (
    *("--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", "4"),
    *("--set", "objective.head_hidden=16", "--set", "objective.head_out=8", "--steps", "2"),
    *("--set", "model.args.widths=[32,64]", "--set", "model.args.depth=0"),
)


def here(*arguments: object, status: int = 0) -> str:
    """Run `synth` in this process and return what it printed."""
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """An old set, and the grown and the merged one as they are if they are made at once."""
    sets = {name: tmp_path / "made" / name for name in ("old", "more", "grown", "merged")}
    generate(sets["old"], tmp_path)
    generate(sets["more"], tmp_path, MORE)
    generate(sets["grown"], tmp_path, (*CAPTIONS, *MORE), views__per_subject=6)
    generate(sets["merged"], tmp_path, (*CAPTIONS, *MORE))
    captions_file(tmp_path / "more.csv", MORE)
    return sets


def files_of(url: str) -> dict[str, bytes]:
    """Tars and manifests by path."""
    store = open_store(url)
    paths = [path for folder in ("data", "manifests") for path in store.list(folder)]
    return {path: store.read(path) for path in paths if not path.endswith(".json")}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as address, s3_clients_of(address):
        fsspec.filesystem("s3").mkdir("sets")
        yield "s3://sets"


def test_every_command_in_a_bucket(folders: dict[str, Path], bucket: str, tmp_path: Path) -> None:
    old, more, grown = f"{bucket}/old", f"{bucket}/more", f"{bucket}/grown"
    here("publish", folders["old"], old)
    here("publish", folders["more"], more)
    command = ("grow", old, "--out", grown, "--views-per-subject", 6, *INLINE)
    output = here(*command, "--prompts", tmp_path / "more.csv")
    assert f"plan: 42 views, of which 20 are taken from {old} and 22 rendered" in output
    assert f"{grown}: 42 views in 4 shards, 0 failed, 0 shards missing" in output
    assert files_of(grown) == pixel_files(folders["grown"])
    # The same command again has nothing to do.
    assert "42 views in 4 shards" in here(*command, "--prompts", tmp_path / "more.csv")
    output = here("merge", old, more, "--out", f"{bucket}/merged")
    assert "28 views in 4 shards, 0 failed" in output
    assert "groups that several sets have: 1, each taken once" in output
    assert files_of(f"{bucket}/merged") == pixel_files(folders["merged"])
    output = here("split", grown, "--parts", "train=0.7,val=0.3", "--out", f"{bucket}/parts")
    assert "4 groups" in output
    for url in (grown, f"{bucket}/merged", f"{bucket}/parts/train", f"{bucket}/parts/val"):
        assert "all right" in here("verify", url)
    output = here("delete", grown)
    assert "nothing was removed" in output
    assert "all right" in here("verify", grown)
    assert f"{grown}: removed, 23 files" in here("delete", grown, "--yes")
    assert fsspec.filesystem("s3").find("sets/grown") == []
    assert "no shard set here" in here("delete", grown, "--yes", status=1)
    assert "all right" in here("verify", f"{bucket}/parts/val")


def test_a_killed_growth_and_a_stopped_one_go_on(tmp_path: Path) -> None:
    captions = tuple(f"a fox on hill {number}" for number in range(8))
    trouble = tmp_path / "trouble"
    trouble.mkdir()
    keys = {"renderer__name": FAULTY, "renderer__trouble": str(trouble), "shards__subjects": 1}
    generate(tmp_path / "old", tmp_path, captions, **keys)
    generate(tmp_path / "whole", tmp_path, captions, **keys, views__per_subject=6)
    (trouble / "slow").write_text("\n".join(captions))
    new = tmp_path / "new"
    command = ("grow", tmp_path / "old", "--out", new, "--views-per-subject", 6)
    command += ("--executor", "inline", "--trust", FAULTY)
    for kind, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)):
        before = len(list(new.glob("manifests/*.parquet")))
        process = start(*command)
        end = time.monotonic() + 120
        while len(list(new.glob("manifests/*.parquet"))) < before + 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(kind)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == status, output
    assert f"{new}: stopped by SIGTERM, " in output
    assert "shards are kept; the same command resumes" in output
    made = len(list(new.glob("manifests/*.parquet")))
    assert 4 <= made < 8
    assert "48 views in 8 shards" in synth(*command)
    assert pixel_files(new) == pixel_files(tmp_path / "whole")


def test_a_merge_that_is_stopped_says_what_is_kept(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assemble = assembling.assemble

    def stopped(shards: ShardSet, taking: Taking, shard: int) -> ShardReport:
        if shard == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return assemble(shards, taking, shard)

    command = ("merge", folders["old"], folders["more"], "--out", tmp_path / "new")
    with monkeypatch.context() as patch:
        patch.setattr(assembling, "assemble", stopped)
        output = here(*command, "--workers", 1, status=143)
    assert f"{tmp_path / 'new'}: stopped by SIGTERM, " in output
    assert "shards are kept; the same command resumes" in output
    here(*command)
    assert pixel_files(tmp_path / "new") == pixel_files(folders["merged"])


def test_standard_input_cannot_be_resumed_and_is_refused(folders: dict[str, Path]) -> None:
    command = ("grow", folders["old"], "--out", "new", "--prompts", "-", *INLINE)
    assert "give a file" in here(*command, status=2)


def test_workers_on_ray_take_views_too(
    folders: dict[str, Path], cluster: str, tmp_path: Path
) -> None:
    for share in ("1/2", "2/2"):
        synth(
            *("grow", folders["old"], "--out", tmp_path / "new", "--views-per-subject", 6),
            *("--prompts", tmp_path / "more.csv", "--ray-address", cluster, "--trust", STRIPES),
            *("--share", share),
        )
    assert pixel_files(tmp_path / "new") == pixel_files(folders["grown"])


def test_a_training_learns_from_what_was_grown_merged_and_split(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    new = tmp_path / "grown"
    here("grow", folders["old"], "--out", new, "--views-per-subject", 6, *INLINE)
    here("merge", folders["old"], folders["more"], "--out", tmp_path / "merged")
    here("split", tmp_path / "merged", "--parts", "a=0.8,b=0.2", "--out", tmp_path / "parts")
    for url, views in ((new, 6), (tmp_path / "merged", 4), (tmp_path / "parts/a", 4)):
        run = tmp_path / f"run of {url.name}"
        output = here("train", url, "--out", run, "--views-per-group", views, *TRAIN)
        assert f"2 steps of {4 * views} images" in output


def test_wrong_uses_are_one_line(folders: dict[str, Path], tmp_path: Path) -> None:
    old = folders["old"]
    output = here("grow", old, "--out", tmp_path / "new", "--views-per-subject", 6, status=1)
    assert f"give --trust {STRIPES}" in output
    options = ("--set", "views.seed=3", *INLINE)
    output = here("grow", old, "--out", tmp_path / "new", *options, status=2)
    assert "views.seed=3" in output
    output = here("merge", old, "--out", tmp_path / "new", status=1)
    assert "give two or more" in output
    output = here("split", old, "--parts", "a=2", "--out", tmp_path / "new", status=1)
    assert "such as train=0.9,val=0.1" in output
    (old / "mine.txt").write_text("mine")
    output = here("delete", old, "--yes", status=1)
    assert f"{old}/mine.txt: is no file of the set, so nothing is removed" in output
    assert not (tmp_path / "new").exists()
