"""Whatever is wrong with a training is reported in one line, before anything is written."""

import json
import os
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import synth
from manifests.manifest import Manifest
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.tars import View, walk_tar
from tests.picture_sets import make_picture_set, make_tars, png, without_index
from tests.sets import COLUMNS, begin, commit, views_of, write_tar_of
from trainer.checkpointing import load_checkpoint
from trainer.metrics import read_metrics

SMALL = (
    *("--model", "synth_small_conv", "--set", "model.input_px=16", "--batch-groups", "4"),
    *("--set", "objective.head_hidden=8", "--set", "objective.head_out=4", "--steps", "2"),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


def views_of_size(shards: ShardSet, width: int, height: int, *, shard: int = 0) -> list[View]:
    """The views of a shard with pictures of another size than the recipe's, and rows that fit."""
    image = png(np.zeros((height, width, 3), dtype=np.uint8))
    return [
        View(row=replace(view.row, width_px=width, height_px=height), image=view.image)
        for view in views_of(shards, shard, lambda request: image)
    ]


def run(*arguments: object) -> tuple[int, str]:
    """`synth` in this process: status and what it said."""
    result = CliRunner().invoke(synth.main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def refused(*arguments: object, parts: tuple[str, ...], out: Path | None = None) -> None:
    """Status 1, one line of error that holds each part, and no run begun."""
    status, output = run(*arguments)
    assert status == 1, output
    (line,) = [line for line in output.splitlines() if line.startswith("Error:")]
    assert [part for part in parts if part not in line] == [], line
    if out is not None:
        assert not (out / "run.json").exists()


def test_unsealed_set(tmp_path: Path) -> None:
    shards = begin(tmp_path / "set", ["a", "b", "c"], subjects_per_shard=1)
    commit(shards, 0)
    refused(
        "train", tmp_path / "set", "--out", tmp_path / "run", *SMALL,
        parts=("not sealed", "1 of 3 shards", "synth generate", "--seal-incomplete"),
        out=tmp_path / "run",
    )  # fmt: skip


def test_no_set_at_all(tmp_path: Path) -> None:
    refused("train", tmp_path, "--out", tmp_path / "run", *SMALL, parts=("no shard set here",))


def test_fewer_groups_than_a_batch(url: str, tmp_path: Path) -> None:
    refused(
        "train", url, "--out", tmp_path, *SMALL, "--batch-groups", "64",
        parts=("12 groups", "a step takes 64", "--batch-groups 12 or less"), out=tmp_path,
    )  # fmt: skip


def test_groups_smaller_than_the_views_of_a_step(url: str, tmp_path: Path) -> None:
    refused(
        "train", url, "--out", tmp_path, *SMALL, "--views-per-group", "5",
        parts=("no group has 5 good views", "the largest has 4", "--views-per-group 4 or less"),
        out=tmp_path,
    )  # fmt: skip


def test_groups_that_lost_views_are_left_out_and_counted(url: str, tmp_path: Path) -> None:
    status, output = run("train", url, "--out", tmp_path, *SMALL, "--views-per-group", "4")
    assert status == 0, output
    assert "left out: 1 group with fewer than 4 good views" in output
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert sessions[0]["set"]["num_left_out"] == 1


def test_batch_that_ranks_do_not_divide(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manifests.foundation.errors import ConfigError
    from tests.sets import refused as raises
    from trainer.config import load_config
    from trainer.data.opening import open_source
    from trainer.planning import make_plan
    from trainer.recipes import find_recipe

    flags = {"batch.groups": 8, "batch.views_per_group": 3}
    config = load_config(recipe=find_recipe("demo"), overrides=[], flags=flags)
    with raises(ConfigError, "batch.groups is 8", "3 ranks do not divide", "--batch-groups"):
        make_plan(config, open_source(url), world=3)


def test_picture_of_another_size_than_its_manifest_says(tmp_path: Path) -> None:
    """The index follows from the manifest, whose row is not the one in the tar."""
    captions = ["a", "b", "c", "d"]
    shards = begin(tmp_path / "set", captions, subjects_per_shard=4, views_per_subject=2)
    tar = write_tar_of(shards, 0, tmp_path / "shard.tar", views=views_of_size(shards, 16, 9))
    with tar.open("rb") as file:
        rows = walk_tar(file, COLUMNS, where="shard.tar").rows
    manifest = Manifest(
        recipe_sha256=shards.recipe_sha256,
        shard=0,
        tar_sha256=sha256(tar.read_bytes()).hexdigest(),
        tar_bytes=tar.stat().st_size,
        columns=COLUMNS,
        rows=[replace(row, height_px=16) for row in rows],
    )
    shards.store.create(shards.layout.tar(0), tar)
    shards.store.create(shards.layout.manifest(0), manifest.to_bytes())
    seal_set(shards)
    refused(
        "train", tmp_path / "set", "--out", tmp_path / "run", *SMALL, "--batch-groups", "2",
        parts=("data/000000.tar", "not the group that was committed"),
    )  # fmt: skip


def test_text_objective_on_a_set_without_captions(tmp_path: Path) -> None:
    refused(
        "train", make_tars(tmp_path / "tars"), "--out", tmp_path / "run", *SMALL[:6],
        "--steps", "2", "--objective", "clip",
        parts=("has no captions", "stablerep or simclr"),
        out=tmp_path / "run",
    )  # fmt: skip


def test_stablerep_on_single_images(tmp_path: Path) -> None:
    refused(
        "train", make_tars(tmp_path / "tars"), "--out", tmp_path / "run", *SMALL,
        parts=("no group has 2 good views", "the largest has 1"), out=tmp_path / "run",
    )  # fmt: skip


def test_simclr_learns_from_foreign_tars_and_clip_from_their_captions(tmp_path: Path) -> None:
    url = make_tars(tmp_path / "tars", captions=True)
    status, output = run("train", url, "--out", tmp_path / "a", *SMALL, "--objective", "simclr")
    assert status == 0, output
    text = "{context_length=8, width=16, heads=2, layers=1, embed_dim=8}"
    status, output = run(
        "train", url, "--out", tmp_path / "b", *SMALL[:6], "--steps", "2", "--objective", "clip",
        "--set", f"objective.text={text}",
    )  # fmt: skip
    assert status == 0, output
    assert (tmp_path / "b" / "text.safetensors").exists()


def test_cut_foreign_tar(tmp_path: Path) -> None:
    url = make_tars(tmp_path / "tars")
    file = tmp_path / "tars" / "0.tar"
    file.write_bytes(file.read_bytes()[:2048])
    refused(
        "train", url, "--out", tmp_path / "run", *SMALL, "--objective", "simclr",
        parts=("0.tar", "cut"), out=tmp_path / "run",
    )  # fmt: skip


def damage(folder: Path, rows: tuple[int, ...] = (2,)) -> str:
    """Make a set and flip a bit in pictures of shard 1, 4 rows a group; the key of the last."""
    shards = make_picture_set(folder)
    tar = folder / shards.layout.tar(1)
    data = bytearray(tar.read_bytes())
    for index in rows:
        row = shards.manifest(1).rows[index]
        data[row.offset + 40] ^= 4
    tar.write_bytes(data)
    return row.key


def test_changed_view_ends_the_run_and_is_named(tmp_path: Path) -> None:
    key = damage(tmp_path / "set")
    refused(
        "train", tmp_path / "set", "--out", tmp_path / "run", *SMALL, "--steps", "9",
        "--views-per-group", "4", parts=("data/000001.tar", key, "synth verify"),
    )  # fmt: skip


def test_bad_groups_within_the_budget_are_replaced_and_beyond_it_fatal(tmp_path: Path) -> None:
    """A group that is met in every epoch counts once."""
    damage(tmp_path / "set", rows=(2, 5))
    options = (*SMALL, "--views-per-group", "4", "--steps", "9", "--set", "run.checkpoint_every=1")
    status, output = run(
        "train", tmp_path / "set", "--out", tmp_path / "a", *options,
        "--set", "data.max_bad_groups=2",
    )  # fmt: skip
    assert status == 0, output
    counts = [line["bad_groups"] for line in read_metrics(tmp_path / "a")]
    assert counts[-1] == 2
    newest = sorted((tmp_path / "a" / "checkpoints").iterdir())[-1]
    assert len(load_checkpoint(newest)["unreadable"]) == 2
    refused(
        "train", tmp_path / "set", "--out", tmp_path / "b", *options,
        "--set", "data.max_bad_groups=1",
        parts=("2 groups could not be read", "allows 1"),
    )  # fmt: skip


@pytest.mark.parametrize("is_older", [False, True])
def test_changed_index(tmp_path: Path, is_older: bool) -> None:
    """Of a set that was sealed before there was an index, a manifest."""
    make_picture_set(tmp_path / "set")
    if is_older:
        without_index(tmp_path / "set")
    (path,) = (tmp_path / "set").glob("manifests/000001.parquet" if is_older else "index/*")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused(
        "train", tmp_path / "set", "--out", tmp_path / "run", *SMALL,
        parts=(path.name, "not the file that was sealed"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("--objective", "simclr"), "objective.name"),
        (("--set", "model.args={grid=1}"), "model.args.grid"),
        (("--seed", "9"), "run.seed"),
        (("--steps", "3"), "schedule.steps"),
        (("--batch-groups", "6"), "batch.groups"),
    ],
)
def test_run_of_another_recipe(url: str, tmp_path: Path, change: tuple[str, str], key: str) -> None:
    assert run("train", url, "--out", tmp_path, *SMALL)[0] == 0
    before = (tmp_path / "run.json").read_bytes()
    refused(
        "train", url, "--out", tmp_path, *SMALL, *change,
        parts=("begun with another recipe or set", key, "--fresh"),
    )  # fmt: skip
    assert (tmp_path / "run.json").read_bytes() == before


def test_run_on_another_set(url: str, tmp_path: Path) -> None:
    assert run("train", url, "--out", tmp_path / "run", *SMALL)[0] == 0
    make_picture_set(tmp_path / "other", num_subjects=13)
    refused(
        "train", tmp_path / "other", "--out", tmp_path / "run", *SMALL,
        parts=("set.root_sha256", "another --out"),
    )  # fmt: skip


def unexported(folder: Path) -> None:
    """Let a run read its newest checkpoint again: one at its end has no need to."""
    (folder / "encoder.safetensors").unlink()


def test_checkpoint_of_another_architecture(url: str, tmp_path: Path) -> None:
    """The folder's run.json agrees, the checkpoint does not: somebody copied it there."""
    options = (*SMALL, "--steps", "4", "--set", "run.checkpoint_every=2")
    assert run("train", url, "--out", tmp_path / "a", *options)[0] == 0
    args = ("--set", "model.args={widths=[8,8]}")
    assert run("train", url, "--out", tmp_path / "b", *options, *args)[0] == 0
    for name in ("step-000000002.pt", "step-000000004.pt"):
        stranger = tmp_path / "b" / "checkpoints" / name
        (tmp_path / "a" / "checkpoints" / name).write_bytes(stranger.read_bytes())
    unexported(tmp_path / "a")
    refused(
        "train", url, "--out", tmp_path / "a", *options,
        parts=("step-000000004.pt", "of another model, objective or set", "--fresh"),
    )  # fmt: skip


def test_what_was_learned_before_a_bad_view_is_kept(tmp_path: Path) -> None:
    damage(tmp_path / "set")
    options = (*SMALL, "--views-per-group", "4", "--steps", "12", "--set", "run.log_every=1")
    refused("train", tmp_path / "set", "--out", tmp_path / "run", *options, parts=("synth verify",))
    done = len(read_metrics(tmp_path / "run"))
    assert done
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert torch.load(path, weights_only=True)["step"] == done


@pytest.mark.parametrize("place", ["a-file", "a-file/run"])
def test_out_that_cannot_be_a_folder(url: str, tmp_path: Path, place: str) -> None:
    (tmp_path / "a-file").write_text("")
    refused("train", url, "--out", tmp_path / place, *SMALL, parts=("a-file", "--out"))


def test_broken_checkpoint_is_named_and_the_one_before_it_serves(url: str, tmp_path: Path) -> None:
    options = (*SMALL, "--steps", "4", "--set", "run.checkpoint_every=2")
    assert run("train", url, "--out", tmp_path, *options)[0] == 0
    expected = (tmp_path / "encoder.safetensors").read_bytes()
    last = tmp_path / "checkpoints" / "step-000000004.pt"
    last.write_bytes(last.read_bytes()[:-100])
    unexported(tmp_path)
    refused(
        "train", url, "--out", tmp_path, *options,
        parts=("step-000000004.pt", "not a readable checkpoint", "remove it"),
    )  # fmt: skip
    last.unlink()
    assert run("train", url, "--out", tmp_path, *options)[0] == 0
    assert (tmp_path / "encoder.safetensors").read_bytes() == expected


def test_checkpoint_with_code_in_it(url: str, tmp_path: Path) -> None:
    import pickle

    assert run("train", url, "--out", tmp_path / "run", *SMALL)[0] == 0
    (last,) = (tmp_path / "run" / "checkpoints").iterdir()
    witness = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            import os

            return os.system, (f"touch {witness}",)

    last.write_bytes(pickle.dumps(Evil()))
    unexported(tmp_path / "run")
    refused("train", url, "--out", tmp_path / "run", *SMALL, parts=("not a readable checkpoint",))
    assert not witness.exists()


def test_folder_of_somebody_else(url: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("\\documentclass{article}")
    for fresh in ((), ("--fresh",)):
        refused(
            "train", url, "--out", tmp_path, *SMALL, *fresh,
            parts=("thesis.tex", "empty folder"), out=tmp_path,
        )  # fmt: skip
    assert (tmp_path / "thesis.tex").exists()


def test_fresh_removes_nothing_where_no_run_is(url: str, tmp_path: Path) -> None:
    for name in ("checkpoints/thesis.pt", "scores/exam.json", "metrics.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    refused("train", url, "--out", tmp_path, *SMALL, "--fresh", parts=("but no run.json",))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 3


def test_shipped_recipe_is_found_beside_a_folder_of_its_name(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    options = ("--batch-groups", "4", "--views-per-group", "2", "--steps", "1")
    status, output = run("train", url, "--out", "demo/run", "--recipe", "demo", *options,
        "--set", "schedule.warmup_steps=0")  # fmt: skip
    assert status == 0, output


def test_recipe_may_change_before_the_first_checkpoint(url: str, tmp_path: Path) -> None:
    """The first run ended before it wrote one."""
    options = ("--set", "optimizer.lr_per_256=1e30", "--steps", "20")
    assert run("train", url, "--out", tmp_path, *SMALL, *options)[0] == 1
    assert run("train", url, "--out", tmp_path, *SMALL)[0] == 0


def test_run_over_its_budget_resumes_once_the_set_is_repaired(tmp_path: Path) -> None:
    damage(tmp_path / "set", rows=(2, 5))
    broken = (tmp_path / "set/data/000001.tar").read_bytes()
    options = (*SMALL, "--views-per-group", "4", "--steps", "12", "--set", "data.max_bad_groups=1")
    arguments = ("train", tmp_path / "set", "--out", tmp_path / "run", *options)
    refused(*arguments, parts=("2 groups could not be read", "allows 1", "data/000001.tar"))
    make_picture_set(tmp_path / "whole")
    whole = (tmp_path / "whole/data/000001.tar").read_bytes()
    assert len(whole) == len(broken)
    (tmp_path / "set/data/000001.tar").write_bytes(whole)
    status, output = run(*arguments)
    assert status == 0, output


def test_budget_may_be_raised_for_a_run_that_met_a_bad_view(tmp_path: Path) -> None:
    """As the error message advises."""
    damage(tmp_path / "set")
    options = (
        *SMALL,
        "--views-per-group",
        "4",
        "--steps",
        "12",
        "--set",
        "run.checkpoint_every=1",
    )
    arguments = ("train", tmp_path / "set", "--out", tmp_path / "run", *options)
    refused(*arguments, parts=("--set data.max_bad_groups=N",))
    status, output = run(*arguments, "--set", "data.max_bad_groups=50")
    assert status == 0, output


def test_images_without_a_caption_are_left_out_of_half_captioned_tars(tmp_path: Path) -> None:
    url = make_tars(tmp_path / "tars", captions=True)
    bare = make_tars(tmp_path / "bare")
    (tmp_path / "tars" / "1.tar").write_bytes((Path(bare[4:]) / "0.tar").read_bytes())
    text = "{context_length=8, width=16, heads=2, layers=1, embed_dim=8}"
    status, output = run(
        "train", url, "--out", tmp_path / "run", *SMALL[:6], "--steps", "2", "--objective", "clip",
        "--set", f"objective.text={text}",
    )  # fmt: skip
    assert status == 0, output
    session = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"][0]
    assert (session["set"]["num_groups"], session["set"]["num_left_out"]) == (6, 6)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--set", "optimizer.lr=1"), ("unknown key optimizer.lr", "known: lr_per_256")),
        (("--set", "objective.temprature=1"), ("objective.temprature", "'temperature'")),
        (("--set", "augment.blur=1"), ("augment.blur", "blur_prob")),
        (("--set", "run.seed=abc"), ("run.seed is 'abc'",)),
        (("--objective", "stable-rep"), ("no objective 'stable-rep'", "'stablerep'")),
        (("--model", "vit_base_patch16_223"), ("model.model", "vit_base_patch16_224")),
        (("--set", "model.args={width=3}"), ("model.args", "width")),
        (("--model", "resnet18", "--set", "model.args={global_pool=''}"), ("one vector",)),
        (("--epochs", "3"), ("steps and epochs are both given",)),
        (("--set", "schedule.warmup_steps=9"), ("9 steps of warm-up", "all 2 steps")),
        (("--views-per-group", "1"), ("needs at least 2 views",)),
        (("--objective", "simclr", "--views-per-group", "3"), ("leave it out",)),
        (("--recipe", "stablerep-cc13m"), ("--recipe stablerep-cc13m", "'stablerep-cc12m'")),
        (("--recipe", "nowhere.toml"), ("nowhere.toml: no such file",)),
        (("--batch-groups", "1"), ("batch.groups is 1", "at least 2")),
        (("--set", "objective.name=5"), ("objective.name is 5",)),
        (("--set", "model.args={features_only=true}"), ("model.args.features_only",)),
        (("--set", "model.args={checkpoint_path='x.pt'}"), ("model.args.checkpoint_path",)),
        (("--set", "augment.crop_ratio=[0.0,1.0]"), ("augment.crop_ratio",)),
        (("--set", "augment.crop_scale=[1.0,0.08]"), ("augment.crop_scale", "larger")),
        (("--set", "augment.downsample_px=[]"), ("augment.downsample_px",)),
        (("--set", "optimizer.betas=[0.9,1.0]"), ("optimizer.betas",)),
        (("--set", "optimizer.lr_per_256=inf"), ("optimizer.lr_per_256", "finite")),
        (("--set", "run.device=gpu"), ("run.device",)),
        (("--set", "model.std=[0.0,1.0,1.0]"), ("model.std",)),
    ],
)
def test_recipe_that_is_wrong(
    url: str, tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused("train", url, "--out", tmp_path, *SMALL, *options, parts=parts, out=tmp_path)


def test_neither_steps_nor_epochs(url: str, tmp_path: Path) -> None:
    refused("train", url, "--out", tmp_path, *SMALL[:-2], parts=("--steps or --epochs",))


def test_gradients_that_are_not_finite(url: str, tmp_path: Path) -> None:
    """A rate of 1e30 makes weights, and then everything, infinite."""
    options = ("--set", "optimizer.lr_per_256=1e30", "--steps", "20")
    refused(
        "train", url, "--out", tmp_path, *SMALL, *options,
        parts=("not finite for 5 steps in a row", "lr_per_256", "fp32"),
    )  # fmt: skip
    assert not (tmp_path / "encoder.safetensors").exists()


def test_exported_encoder_of_another_architecture(url: str, tmp_path: Path) -> None:
    assert run("train", url, "--out", tmp_path / "run", *SMALL)[0] == 0
    weights = tmp_path / "run" / "encoder.safetensors"
    tensors = load_file(weights)
    save_file({f"other.{name}": tensor for name, tensor in tensors.items()}, weights)
    description = tmp_path / "run" / "encoder.json"
    document = json.loads(description.read_text())
    document["sha256"] = sha256(weights.read_bytes()).hexdigest()
    description.write_text(json.dumps(document))
    folder = tmp_path / "images"
    for split in ("train", "test"):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            for index in range(2):
                data = png(torch.full((16, 16, 3), index * 90, dtype=torch.uint8).numpy())
                (folder / split / label / f"{index}.png").write_bytes(data)
    refused(
        "evaluate", tmp_path / "run", "--on", f"imagefolder:{folder}", "--with", "knn",
        parts=("encoder.safetensors", "not the weights of synth_small_conv"),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["pipe", "folder", "file", "link to itself"])
@pytest.mark.parametrize(
    "name",
    [
        *("run.json", "metrics.jsonl", "encoder.json", "encoder.safetensors"),
        *("checkpoints", "tensorboard", "checkpoints/step-000000002.pt"),
    ],
)
def test_strange_things_in_the_folder_of_a_run(
    name: str, kind: str, url: str, tmp_path: Path
) -> None:
    """A process that hangs or fills the memory fails here, too."""
    out = tmp_path / "run"
    arguments = ("train", url, "--out", out, *SMALL)
    assert run(*arguments)[0] == 0
    strange = out / name
    if strange.is_dir():
        shutil.rmtree(strange)
    else:
        strange.unlink()
    if kind == "pipe":
        os.mkfifo(strange)
    elif kind == "folder":
        strange.mkdir()
    elif kind == "file":
        strange.write_bytes(b"")
    else:
        strange.symlink_to(strange)
    status, output = run(*arguments)
    assert "Traceback" not in output
    # What a run writes anew may be replaced, and folders are what two of the names stand for.
    if status:
        (line,) = [line for line in output.splitlines() if line.startswith("Error:")]
        assert str(strange) in line or name == "run.json"


def test_a_recipe_of_5000_characters_is_no_traceback(url: str, tmp_path: Path) -> None:
    refused(
        "train", url, "--out", tmp_path / "run", "--recipe", "x" * 5000, parts=("no such file",)
    )
    status, output = run("train", url, "--out", tmp_path / ("y" * 5000), *SMALL)
    assert status == 1
    assert output.startswith("Error: ")
