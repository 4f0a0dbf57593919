"""A run is scored by k-NN while it learns, and learns what it learns without that."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from synth import main
from tests.labelled_sets import encoded, make_folder, png
from tests.picture_sets import make_picture_set
from tests.sets import refused
from trainer.checkpointing import checkpoints, load_checkpoint, step_of
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.errors import DataError
from trainer.labelled_sets import open_labelled
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.planning import Plan, make_plan
from trainer.testing.ranks import run_ranks

CPU = torch.device("cpu")
VIT = {
    "model.model": "vit_tiny_patch16_224",
    "model.args": {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    | {"dynamic_img_size": True, "drop_path_rate": 0.1},
}
SYNCLR = VIT | {
    "objective.name": "synclr",
    "objective.local_size": 0.5,
    "objective.prototypes": 20,
    "objective.patch_hidden": 16,
    "objective.patch_bottleneck": 8,
}
KEPT = {"run.keep_every": 3, "run.checkpoint_every": 4, "run.keep_checkpoints": 1}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("sets") / "set"
    make_picture_set(folder)
    return str(folder)


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of noise, whose classes differ a little in brightness; `test` is not readable."""
    root = tmp_path_factory.mktemp("labelled")
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 12), ("val", 10)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                noise = torch.rand(16, 16, 3, generator=generator) * 200 + 8 * label
                (root / split / name / f"{number}.png").write_bytes(
                    encoded(noise.to(torch.uint8).numpy(), "png")
                )
    (root / "test" / "dark").mkdir(parents=True)
    (root / "test" / "dark" / "0.png").write_bytes(b"no picture")
    return f"imagefolder:{root}"


def plan_of(url: str, world: int = 1, **flags: Any) -> Plan:
    values = {
        "objective.name": "simclr",
        "objective.head_hidden": 8,
        "objective.head_out": 8,
        "model.model": "synth_small_conv",
        "model.input_px": 16,
        "batch.groups": 4,
        "schedule.steps": 7,
        "run.log_every": 2,
    }
    config = load_config(recipe=None, overrides=[], flags=values | flags)
    return make_plan(config, open_source(url), world=world)


def run(url: str, out: str | Path, **flags: Any) -> None:
    assert train(plan_of(url, **flags), out, device=CPU) is None


def curve(run: Path) -> dict[int, float | None]:
    return {line["step"]: line["knn"] for line in read_metrics(run) if "knn" in line}


def test_curve_has_the_scores_of_synth_evaluate(url: str, on: str, tmp_path: Path) -> None:
    """With every checkpoint that is kept, whatever `run.checkpoint_every` says."""
    run(url, tmp_path, **KEPT, **{"run.knn_on": on})
    assert [step_of(path) for path in checkpoints(tmp_path)] == [3, 6, 7]
    scored = curve(tmp_path)
    assert list(scored) == [0, 3, 6, 7]
    for path in checkpoints(tmp_path):
        assert scored[step_of(path)] == evaluated(path, on, tmp_path / "scores.json")
    assert scored[7] == evaluated(tmp_path, on, tmp_path / "scores.json")


def evaluated(encoder: str | Path, on: str, out: Path) -> float:
    arguments = ["evaluate", str(encoder), "--on", on, "--with", "knn", "--test-split", "val"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    value: float = json.loads(result.stdout)["scores"][0]["scores"][0]["value"]
    return value


@pytest.mark.parametrize(
    "flags", [{}, {"objective.name": "byol"}, SYNCLR, {"run.strategy": "fsdp"}]
)
def test_a_run_that_is_scored_learns_the_same_to_the_bit(
    url: str, on: str, tmp_path: Path, flags: dict[str, Any]
) -> None:
    """Weights of all towers and heads, statistics of batch norms, moments, and the generator."""
    states = []
    for name, knn_on in (("without", ""), ("with", on)):
        run(url, tmp_path / name, **KEPT, **flags, **{"run.knn_on": knn_on})
        documents = [load_checkpoint(path) for path in checkpoints(tmp_path / name)]
        losses = [line.get("loss") for line in read_metrics(tmp_path / name) if "loss" in line]
        states.append((documents, losses, torch.random.get_rng_state()))
    (documents, losses, generator), (others, other_losses, other_generator) = states
    assert losses == other_losses
    assert torch.equal(generator, other_generator)
    for document, other in zip(documents, others, strict=True):
        assert document["step"] == other["step"]
        for name, value in document["learner"].items():
            assert torch.equal(value, other["learner"][name]), name
        for number, moments in document["optimizer"]["state"].items():
            for name, value in moments.items():
                assert torch.equal(value, other["optimizer"]["state"][number][name]), name
    assert list(curve(tmp_path / "with")) == [0, 3, 6, 7]


@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("place", ["{}", "file://{}"])
def test_a_run_that_goes_on_has_the_same_curve(
    url: str, on: str, tmp_path: Path, place: str, step: int
) -> None:
    flags = KEPT | {"run.knn_on": on}
    run(url, tmp_path / "undisturbed", **flags)

    class KilledError(Exception):
        pass

    def kill(finished: int, values: dict[str, float]) -> None:
        if finished == step:
            raise KilledError

    out = place.format(tmp_path / "killed")
    with pytest.raises(KilledError):
        train(plan_of(url, **flags), out, device=CPU, on_step=kill)
    run(url, out, **flags)
    lines = [
        [{key: line.get(key) for key in ("step", "loss", "knn")} for line in read_metrics(folder)]
        for folder in (tmp_path / "killed", tmp_path / "undisturbed")
    ]
    assert lines[0] == lines[1]
    assert [step_of(path) for path in checkpoints(tmp_path / "killed")] == [3, 6, 7]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_score_together(url: str, on: str, tmp_path: Path, strategy: str) -> None:
    flags = SYNCLR | KEPT | {"run.knn_on": on, "run.strategy": strategy}
    run(url, tmp_path / "alone", **flags)
    run_ranks(train_on_a_rank, 2, url, str(tmp_path / "ranks"), flags)
    alone, ranks = curve(tmp_path / "alone"), curve(tmp_path / "ranks")
    assert list(ranks) == [0, 3, 6, 7]
    assert ranks[0] == alone[0]  # the same weights; later ones are equal up to rounding
    assert ranks[7] == evaluated(tmp_path / "ranks", on, tmp_path / "scores.json")


def train_on_a_rank(rank: int, world: int, url: str, out: str, flags: dict[str, Any]) -> None:
    values: list[float] = []
    plan = plan_of(url, world, **flags)
    train(plan, out, device=CPU, on_step=lambda _, logged: values.append(logged.get("knn", -1.0)))
    assert values[2] == curve(Path(out))[3]  # every rank has it


def test_a_set_that_cannot_be_scored_on_is_refused_before_the_first_step(
    url: str, tmp_path: Path
) -> None:
    few = make_folder(tmp_path / "few", train={"a": 2, "b": 2}, val={"a": 1})
    run_ranks(refuse_on_a_rank, 2, url, str(tmp_path / "ranks"), few)
    with refused(DataError, "run.knn_on: knn: train has 4 images"):
        run(url, tmp_path / "run", **KEPT, **{"run.knn_on": few})
    assert not read_metrics(tmp_path / "run")
    assert not checkpoints(tmp_path / "run")


def refuse_on_a_rank(rank: int, world: int, url: str, out: str, on: str) -> None:
    """The first rank alone votes, and the others hear of what is wrong there."""
    plan = plan_of(url, world, **KEPT, **{"run.knn_on": on})
    with refused(DataError, "run.knn_on: knn: train has 4 images"):
        train(plan, out, device=CPU)


def test_a_set_that_is_gone_later_costs_scores_and_no_training(
    url: str, on: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(on.removeprefix("imagefolder:"), tmp_path / "labelled")

    def remove(step: int, values: dict[str, float]) -> None:
        if step == 4:
            shutil.rmtree(copy)

    flags = KEPT | {"run.knn_on": f"imagefolder:{copy}"}
    assert train(plan_of(url, **flags), tmp_path / "run", device=CPU, on_step=remove) is None
    scored = curve(tmp_path / "run")
    assert list(scored) == [0, 3, 6, 7]
    assert scored[3] is not None
    assert scored[6] is scored[7] is None
    assert "step 6: no k-NN: " in caplog.text


def test_validation_is_looked_at_and_test_only_where_nothing_else_is(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def split_of(*names: str) -> str:
        root = tmp_path / "-".join(names)
        address = make_folder(root, **{name: {"a": 20, "b": 20} for name in names})
        return open_labelled(address).validation_split()

    assert split_of("train", "test", "val") == "val"
    assert split_of("train", "test", "validation") == "validation"
    assert split_of("train", "test", "dev", "val") == "val"
    with refused(DataError, "no split but train; expected val beside it"):
        split_of("train")
    assert split_of("train", "test") == "test"
    run(url, tmp_path / "run", **KEPT, **{"run.knn_on": f"imagefolder:{tmp_path / 'train-test'}"})
    assert "is scored on test, because it has no other split beside train" in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("knn_on=imagefolder:{}/nothing", "nothing: cannot be read"),
        ("knn_on=imagefolder:{}/captions", "is a set of retrieval, which has no classes"),
        ("knn_on=imagefolder:{}/alone", "no split but train"),
        ("knn_on={}/alone", "expected KIND:PLACE"),
        ("keep_every=", "knn_on is given without keep_every"),
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_what_cannot_be_is_refused_in_one_line(
    url: str, on: str, tmp_path: Path, change: str, words: str, dry_run: list[str]
) -> None:
    make_folder(tmp_path / "alone", train={"a": 1, "b": 1})
    for split in ("train", "val"):
        folder = tmp_path / "captions" / split
        folder.mkdir(parents=True)
        (folder / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a cat"}\n')
        (folder / "1.png").write_bytes(png())
    kept = ["--set", "run.keep_every=3"] if "keep_every" not in change else []
    change = f"knn_on={on}" if "keep_every" in change else change.format(tmp_path)
    out = ["--out", str(tmp_path / "run"), "--recipe", write_recipe(tmp_path)]
    result = CliRunner().invoke(
        main, ["train", url, *out, *kept, "--set", f"run.{change}", *dry_run]
    )
    assert result.exit_code == 1
    assert "knn_on" in result.output
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_command_says_the_score_beside_the_loss(url: str, on: str, tmp_path: Path) -> None:
    keys = ["--set", "run.keep_every=3", "--set", "run.log_every=3", "--set", f"run.knn_on={on}"]
    out = ["--out", str(tmp_path / "run"), "--recipe", write_recipe(tmp_path)]
    result = CliRunner().invoke(main, ["train", url, *out, *keys])
    assert result.exit_code == 0, result.output
    score = 100 * (curve(tmp_path / "run")[3] or 0)
    assert f", k-NN {score:.1f} %" in result.stderr
    assert "features of" not in result.stderr


def write_recipe(folder: Path) -> str:
    path = folder / "recipe.toml"
    path.write_text(
        '[objective]\nname = "simclr"\nhead_hidden = 8\nhead_out = 8\n'
        '[model]\nmodel = "synth_small_conv"\ninput_px = 16\n'
        "[batch]\ngroups = 4\n[schedule]\nsteps = 3\n"
    )
    return str(path)
