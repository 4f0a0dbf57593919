"""Image programs and latents, the whole way: resumed, checked, read and trained on."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import webdataset as wds

from manifests.shard_set import ShardSet
from pipeline.job import Job
from pipeline.machine_paths import recall
from pipeline.worker import ShardWorker
from tests import tiny_generators
from tests.running import pixel_files, start, synth

pytestmark = pytest.mark.slow

SHARED = [
    *("--views-per-subject", 4, "--subjects-per-shard", 2, "--executor", "inline"),
    *("--set", "prompts.count=8"),
]


def recipe(system: str, folder: Path) -> list[Any]:
    """The command that makes a set of 8 subjects in 4 shards, but for --out."""
    if system == "programs":
        settings = ["prompts.source=programs", "renderer.size_px=16", "renderer.mix=[1,2]"]
        return ["generate", "--renderer", "image-programs", *_sets(settings), *SHARED]
    generator = folder / "tiny.pt2"
    if not generator.exists():
        tiny_generators.export(generator, tiny_generators.Tiny())
        generator.with_suffix(".json").write_text(json.dumps(tiny_generators.STATED))
    settings = [
        "prompts.source=anchors",
        "prompts.classes=3",
        f"renderer.generator={generator}",
        "renderer.sigma=[0.0,0.3]",
        "renderer.keep_latents=true",
        "renderer.batch_size=4",
    ]
    return ["generate", "--renderer", "latent-neighbourhood", *_sets(settings), *SHARED]


def _sets(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


SYSTEMS = ["programs", "latents"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sealed set of each system."""
    folder = tmp_path_factory.mktemp("made")
    for system in SYSTEMS:
        synth(*recipe(system, folder), "--out", folder / system)
    return {system: folder / system for system in SYSTEMS}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_killed_driver_resumes_to_the_same_bytes(
    system: str, made: dict[str, Path], tmp_path: Path
) -> None:
    # The same folder of the generator: the recipe holds its path.
    command = [*recipe(system, made[system].parent), "--out", tmp_path / "set"]
    process = start(*command)
    assert process.stdout is not None
    while not list((tmp_path / "set").glob("manifests/*.parquet")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    synth(*command)
    assert pixel_files(tmp_path / "set") == pixel_files(made[system])
    assert "all right: 32 views in 4 shards" in synth("verify", tmp_path / "set")


@pytest.mark.filterwarnings("ignore")  # webdataset leaves files open
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_view_is_rendered_again_alone_to_the_same_bytes(
    system: str, made: dict[str, Path]
) -> None:
    shards = ShardSet.open(str(made[system]))
    changes = recall(shards.recipe_sha256)  # the set does not say where the generator lies
    worker = ShardWorker.open(Job.from_recipe(shards.recipe, str(made[system]), changes=changes))
    stored = {
        f"{sample['__key__']}": sample["png"]
        for shard in range(4)
        for sample in wds.WebDataset(
            str(made[system] / f"data/{shard:06d}.tar"), shardshuffle=False
        )
    }
    assert len(stored) == 32
    for request in [request for shard in range(4) for request in shards.requests(shard)][::5]:
        (view,) = worker.render_views([request])
        assert view.image == stored[request.key], request.key


@pytest.mark.parametrize(
    ("system", "objective", "settings"),
    [
        ("programs", "stablerep", ["objective.head_hidden=8", "objective.head_out=4"]),
        ("programs", "supcon", ["objective.head_hidden=8", "objective.head_out=4"]),
        ("programs", "cross-entropy", []),
        ("programs", "cross-entropy", ["objective.classes=groups"]),
        ("latents", "simclr", ["objective.pairs=views", "objective.head_hidden=8"]),
        ("latents", "supcon", ["objective.head_hidden=8", "objective.head_out=4"]),
        ("latents", "inverter", ["objective.latent_dim=6", "objective.class_weight=0.1"]),
    ],
)
def test_a_trainer_learns_from_either(
    system: str, objective: str, settings: list[str], made: dict[str, Path], tmp_path: Path
) -> None:
    synth(
        "train", made[system], "--out", tmp_path / "run", "--objective", objective, "--steps", 2,
        "--model", "synth_small_conv", "--batch-groups", 4, "--views-per-group", 2,
        *_sets(["model.input_px=16", *settings]),
    )  # fmt: skip
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2
    assert (tmp_path / "run" / "encoder.safetensors").exists()


def test_latents_that_are_not_there_or_another_size(made: dict[str, Path], tmp_path: Path) -> None:
    train = ("--objective", "inverter", "--steps", 2, "--model", "synth_small_conv")
    small = ("--batch-groups", 4, *_sets(["model.input_px=16", "objective.latent_dim=5"]))
    output = synth("train", made["programs"], "--out", tmp_path / "a", *train, *small, status=1)
    assert "keep no latents" in output
    output = synth("train", made["latents"], "--out", tmp_path / "b", *train, *small, status=1)
    assert "latents have 6 numbers; give --set objective.latent_dim=6" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["renderer.generator=absent.pt2"], "no such file or folder"),
        (["renderer.sigma=[-1]"], "a sigma of -1"),
        (["prompts.classes=9"], "class 3, and this generator has 0 to 2"),
        (["prompts.classes=0"], "needs a class, 0 to 2"),
        (["renderer.neighbourhood=steering", "renderer.sigma=0.2"], "needs renderer.directions"),
        (["renderer.values=0 to 1"], "pixels from -"),
    ],
)
def test_bad_input_is_one_line_and_begins_nothing(
    settings: list[str], words: str, made: dict[str, Path], tmp_path: Path
) -> None:
    command = [*recipe("latents", made["latents"].parent), "--out", tmp_path / "set"]
    output = synth(*command, *_sets(settings), status=1)
    assert words in output
    assert "Traceback" not in output
