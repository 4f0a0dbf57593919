"""Every recipe of the package is valid, and the recipes of the paper have its values."""

from pathlib import Path

import pytest
import torch

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import check
from tests.sets import refused
from trainer.config import load_config
from trainer.data.augment import AugmentConfig
from trainer.learner import Learner
from trainer.models.specs import EncoderSpec
from trainer.objectives import objective_class
from trainer.recipes import FOLDER, find_recipe

RECIPES = sorted(path.stem for path in FOLDER.glob("*.toml"))


def test_there_are_recipes_for_the_papers_and_the_demo() -> None:
    assert {"stablerep-cc12m", "stablerep-plus-cc12m", "demo", "demo-simclr"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_valid(name: str) -> None:
    config = load_config(recipe=find_recipe(name), overrides=[], flags={})
    objective = objective_class(config.objective["name"])
    check(objective.Config, config.objective, origin=name, table="objective")
    check(EncoderSpec, config.model, origin=name, table="model")
    check(AugmentConfig, config.augment, origin=name, table="augment")


@pytest.mark.parametrize("name", ["stablerep-cc12m", "stablerep-plus-cc12m"])
def test_published_recipe_has_the_published_values(name: str) -> None:
    config = load_config(recipe=find_recipe(name), overrides=[], flags={})
    images = config.batch.groups * (config.batch.views_per_group or 0)
    assert images == 8256
    assert config.optimizer.lr_per_256 * images / 256 == pytest.approx(3.225e-3)
    assert config.optimizer.betas == (0.9, 0.98)
    assert config.optimizer.weight_decay == 0.1
    assert (config.schedule.epochs, config.schedule.warmup_epochs) == (15, 0.5)
    header = Path(find_recipe(name)).read_text().partition("[")[0]
    assert "ImageNet linear probe" in header
    assert "has not been run to its end" in header


@pytest.mark.parametrize(
    ("name", "epochs", "warmup", "figures"),
    [
        ("stablerep-cc12m", 15, 0.5, ("72.8", "73.7")),
        ("stablerep-cc12m-2x", 31, 1.0, ()),
        ("stablerep-cc12m-3x", 46, 1.5, ("75.7", "75.6", "75.4", "75.2")),
        ("stablerep-cc12m-downsample", 15, 0.5, ("71.4", "73.5")),
        ("stablerep-redcaps", 13, 0.45, ("73.7", "74.6", "73.4")),
        ("stablerep-redcaps-2x", 27, 0.9, ()),
        ("stablerep-redcaps-3x", 40, 1.35, ("76.7", "76.6", "76.4")),
        ("stablerep-plus-redcaps", 13, 0.45, ("75.4",)),
    ],
)
def test_stablerep_has_the_lengths_of_its_repository(
    name: str, epochs: float, warmup: float, figures: tuple[str, ...]
) -> None:
    config = load_config(recipe=find_recipe(name), overrides=[], flags={})
    assert (config.schedule.epochs, config.schedule.warmup_epochs) == (epochs, warmup)
    assert (config.batch.groups, config.batch.views_per_group) == (1376, 6)
    downsampled = 0.05 if name.endswith("downsample") else 0.0
    augment = check(AugmentConfig, config.augment, origin=name, table="augment")
    assert (augment.downsample_prob, augment.crop_scale) == (downsampled, (0.08, 1.0))
    header = find_recipe(name).read_text().partition("\nextends")[0]
    assert "ImageNet linear probe" in " ".join(header.replace("#", "").split())
    assert [figure for figure in figures if figure not in header] == []


def test_recipe_of_laion_takes_both_images_of_each_caption() -> None:
    config = load_config(recipe=find_recipe("stablerep-plus-laion"), overrides=[], flags={})
    assert config.objective["name"] == "stablerep-plus"
    assert (config.batch.groups, config.batch.views_per_group) == (4128, 2)
    header = find_recipe("stablerep-plus-laion").read_text().partition("\nextends")[0]
    assert all(figure in header for figure in ("63.2", "69.6", "73.5", "73.9", "74.1", "72.9"))


@pytest.mark.parametrize(
    ("name", "patch_px", "rate", "drop_path", "figures"),
    [
        ("synclr-b16", 16, 2e-3, 0.1, ("80.7", "89.0", "54.3", "85.8", "78.8", "88.1")),
        ("synclr-l14", 14, 1.5e-3, 0.4, ("83.0", "90.4", "57.7", "87.9")),
    ],
)
def test_synclr_has_the_values_of_its_table_12(
    name: str, patch_px: int, rate: float, drop_path: float, figures: tuple[str, ...]
) -> None:
    config = load_config(recipe=find_recipe(name), overrides=[], flags={})
    objective = objective_class("synclr")
    settings = check(objective.Config, config.objective, origin=name, table="objective")
    assert (settings.temperature, settings.momentum, settings.prototypes) == (0.08, 0.994, 65_536)
    large, small = objective.arrangement(settings).crops
    assert (large.count, small.count, large.side_px(224)) == (1, 4, 224)
    assert small.side_px(224) % patch_px == 0
    crops = config.batch.groups * (config.batch.views_per_group or 0) * 5
    assert config.optimizer.lr_per_256 * crops / 256 == pytest.approx(rate)
    assert config.optimizer.betas == (0.9, 0.999)
    assert (config.optimizer.weight_decay, config.optimizer.final_weight_decay) == (0.04, 0.2)
    assert (config.batch.groups, config.schedule.steps) == (8192, 500_000)
    assert config.schedule.warmup_steps == 80_000
    assert config.model["args"]["drop_path_rate"] == drop_path
    header = find_recipe(name).read_text().partition("\n\n")[0]
    assert [figure for figure in figures if figure not in header] == []
    assert "has not been run to its end" in header


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("simclr-cc12m", ("63.7", "61.5")),
        ("clip-cc12m", ("67.8", "70.3", "34.9", "40.2")),
        ("supcon-imagenet", ("no figure of SupCon",)),
        ("cross-entropy-imagenet", ("71.9", "75.0")),
    ],
)
def test_baselines_are_trained_as_stablerep_is(name: str, figures: tuple[str, ...]) -> None:
    config, other = (
        load_config(recipe=find_recipe(recipe), overrides=[], flags={})
        for recipe in (name, "stablerep-cc12m")
    )
    assert (config.optimizer, config.model) == (other.optimizer, other.model)
    assert (config.augment, config.run) == (other.augment, other.run)
    objective = objective_class(config.objective["name"])
    settings = check(objective.Config, config.objective, origin=name, table="objective")
    per_group = objective.arrangement(settings).crops_per_view * (config.batch.views_per_group or 1)
    assert config.batch.groups * per_group in (8256, 8192)
    header = find_recipe(name).read_text().partition("\nextends")[0]
    assert [figure for figure in figures if figure not in " ".join(header.split())] == []
    assert "has not been run to its end" in header


def test_defaults_are_those_of_the_paper() -> None:
    objective = objective_class("stablerep").Config()
    assert (objective.temperature, objective.head_hidden, objective.head_out) == (0.1, 4096, 256)
    plus = objective_class("stablerep-plus").Config()
    assert (plus.image_weight, plus.text_weight) == (1.0, 1.0)
    assert (plus.text.layers, plus.text.width, plus.text.context_length) == (12, 512, 77)
    augment = AugmentConfig()
    assert (augment.crop_scale, augment.jitter_prob, augment.grey_prob) == ((0.08, 1.0), 0.8, 0.2)
    assert augment.downsample_px == (64, 128)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def test_recipe_that_extends_another_replaces_single_keys(tmp_path: Path) -> None:
    write(tmp_path, "below", 'extends = "demo"\n[batch]\ngroups = 32\n[run]\nseed = 3\n')
    above = write(tmp_path, "above", 'extends = "below.toml"\n[run]\nseed = 4\n')
    config = load_config(recipe=above, overrides=["batch.views_per_group=2"], flags={})
    assert (config.batch.groups, config.batch.views_per_group, config.run.seed) == (32, 2, 4)
    assert config.objective["head_hidden"] == 128  # of the recipe demo
    assert config.model["input_px"] == 32  # of the one that demo extends


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('extends = "me.toml"', ("circle", "me -> me")),
        ('extends = "demmo"', ("extends = 'demmo'", "did you mean 'demo'")),
        ('extends = "gone.toml"', ("gone.toml", "no such file beside it")),
        ("extends = 5", ("extends is 5", "the name of a recipe")),
        ('extends = "demo"\nbatch = 3', ("batch is a value, expected a table",)),
        ('extends = "demo"\n[run.seed]\na = 1', ("run.seed",)),
    ],
)
def test_wrong_extends_is_refused_in_one_line(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    path = write(tmp_path, "me", text)
    with refused(ConfigError, "me", *parts):
        load_config(recipe=path, overrides=[], flags={})


def test_circle_of_two_recipes_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one", 'extends = "two.toml"')
    path = write(tmp_path, "two", 'extends = "one.toml"')
    with refused(ConfigError, "two -> one -> two"):
        load_config(recipe=path, overrides=[], flags={})


PUBLISHED = {
    "stablerep-cc12m": 107,
    **dict.fromkeys(["stablerep-cc12m-2x", "stablerep-cc12m-3x"], 107),
    "stablerep-cc12m-downsample": 107,
    **dict.fromkeys(["stablerep-redcaps", "stablerep-redcaps-2x", "stablerep-redcaps-3x"], 107),
    **dict.fromkeys(["stablerep-plus-cc12m", "stablerep-plus-redcaps"], 171),
    "stablerep-plus-laion": 171,
    "simclr-cc12m": 107,
    "clip-cc12m": 150,
    "supcon-imagenet": 107,
    "cross-entropy-imagenet": 102,
    "synclr-b16": 262,
    "synclr-l14": 700,
    "genrep-bigbigan": 28,
    "genrep-biggan-supcon": 28,
    "shaders21k-moco": 56,
    "shaders21k-small-simclr": 75,
    "shaders21k-small-supcon": 75,
    "shaders21k-small-ce": 144,
}
"""Millions of parameters of tower and objective, those of a teacher included, rounded."""


def test_every_published_recipe_is_built() -> None:
    others = {name for name in RECIPES if name.startswith("demo") or name.endswith("-base")}
    assert set(PUBLISHED) == set(RECIPES) - others


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipe_builds_its_full_model(name: str) -> None:
    config = load_config(recipe=find_recipe(name), overrides=[], flags={})
    objective = objective_class(config.objective["name"])
    objective_config = check(objective.Config, config.objective, origin=name, table="objective")
    spec = check(EncoderSpec, config.model, origin=name, table="model")
    classes = [f"program {index}" for index in range(21_000)]
    with torch.device("meta"):  # no memory is taken
        learner = Learner(spec, objective, objective_config, classes=classes)
    count = sum(parameter.numel() for parameter in learner.parameters())
    assert round(count / 1e6) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "rate", "crops"),
    [
        ("genrep-bigbigan", 0.03 / 0.7, 512),
        ("genrep-biggan-supcon", 0.03 / 0.7, 512),
        ("shaders21k-moco", 0.015, 512),
        ("shaders21k-small-simclr", 0.015, 512),
        ("shaders21k-small-supcon", 0.015, 512),
        ("shaders21k-small-ce", 0.015, 512),
    ],
)
def test_recipes_of_genrep_and_shaders21k_have_the_published_values(
    name: str, rate: float, crops: int
) -> None:
    config = load_config(recipe=find_recipe(name), overrides=[], flags={})
    objective = objective_class(config.objective["name"])
    arrangement = objective.arrangement(
        check(objective.Config, config.objective, origin=name, table="objective")
    )
    per_group = arrangement.crops_per_view * (config.batch.views_per_group or 1)
    assert config.batch.groups * per_group == crops
    assert config.optimizer.lr_per_256 * crops / 256 == pytest.approx(rate)
    assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.9)
    # In the update, rate and decay are multiplied; GenRep's loss is 1 / 0.7 times as large.
    published = 0.03 if name.startswith("genrep") else 0.015
    assert config.optimizer.weight_decay * rate == pytest.approx(1e-4 * published)
    header = Path(find_recipe(name)).read_text().partition("\n\n")[0]
    assert "Published" in header
    assert "has not been run to its end" in header
