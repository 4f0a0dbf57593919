"""Every recipe of the package is valid, and the recipes of the paper have its values."""

from pathlib import Path

import pytest
import torch

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import check
from tests.sets import refused
from trainer.config import load_config
from trainer.data.crops import AugmentConfig
from trainer.learner import Learner
from trainer.models.encoder import EncoderSpec
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
    "stablerep-plus-cc12m": 171,
    "genrep-bigbigan": 28,
    "genrep-biggan-supcon": 28,
    "shaders21k-moco": 56,
    "shaders21k-small-simclr": 75,
    "shaders21k-small-supcon": 75,
    "shaders21k-small-ce": 144,
}
"""Millions of parameters of tower and objective, those of a teacher included, rounded."""


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
