"""The laws of trainer.frozen_encoders, for every entry of the table."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from manifests.foundation.errors import ConfigError, SynthError
from tests.pretrained import make_open_clip, make_timm
from tests.sets import refused
from trainer.errors import CheckpointError
from trainer.frozen_encoders import FROZEN_ENCODERS, FrozenEncoder, open_encoder
from trainer.models.encoder import build_encoder, save_encoder
from trainer.models.specs import EncoderSpec, TextSpec
from trainer.models.text import ImageText, save_text

CPU = torch.device("cpu")
Tensors = Mapping[str, torch.Tensor]
MODEL = "test_vit"
"""A ViT of timm with half a million weights."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPEC = EncoderSpec(model="synth_small_conv", input_px=16, crop_fraction=0.5)
PLACES = {
    "run": "run:{run}",
    "untrained": "untrained:{run}",
    "weights": "weights:synth_small_conv@{run}/encoder.safetensors",
    "timm": "timm:local-dir:{run}/timm",
    "open_clip": "open_clip:local-dir:{run}/open_clip",
    "pixels": "pixels:8",
}
"""Address of each entry; a new entry has to be added here."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_encoder(folder, build_encoder(SPEC), SPEC, {})
        make_timm(folder / "timm")
        make_open_clip(folder / "open_clip")
    return folder


def features(encoder: FrozenEncoder, count: int = 4) -> torch.Tensor:
    size = (count, 3, encoder.input_px, encoder.input_px)
    images = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return encoder.encode(images.to(torch.uint8))


def test_every_entry_is_tested() -> None:
    assert set(PLACES) == set(FROZEN_ENCODERS)


@pytest.mark.parametrize("kind", PLACES)
def test_an_encoder_gives_one_vector_per_image_and_the_same_when_opened_again(
    kind: str, run: Path
) -> None:
    address = PLACES[kind].format(run=run)
    before = torch.get_rng_state()
    one, two = (open_encoder(address, device=CPU, seed=None) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.facts == two.facts
    assert one.facts["name"] == one.name == address
    values = features(one)
    assert values.dtype == torch.float32
    assert values.ndim == 2
    assert len(values) == 4
    assert torch.equal(values, features(two))


@pytest.mark.parametrize("kind", PLACES)
def test_a_missing_encoder_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(SynthError) as caught:
        open_encoder(f"{kind}:{tmp_path / 'nowhere'}", device=CPU, seed=None)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kind", [*PLACES, ""])
def test_a_url_is_refused_without_its_secrets(kind: str) -> None:
    url = "https://user:SECRET@127.0.0.1:1/x?sig=SECRET"
    with pytest.raises(SynthError) as caught:  # without aiohttp, that the package is missing
        open_encoder(f"{kind}:{url}" if kind else url, device=CPU, seed=None)
    assert "SECRET" not in str(caught.value)


def test_rounded_features_are_told_by_the_facts() -> None:
    one = open_encoder("pixels:8", device=CPU, seed=None)
    two = open_encoder("pixels:8", device=CPU, seed=None, held_as="float16")
    assert two.held_as == two.facts["held_as"] == "float16"
    assert dict(two.facts) == {**one.facts, "held_as": "float16"}


def test_a_run_is_opened_by_its_folder_or_its_weights(run: Path) -> None:
    folder = open_encoder(str(run), device=CPU, seed=None)
    file = open_encoder(str(run / "encoder.safetensors"), device=CPU, seed=None)
    assert torch.equal(features(folder), features(file))
    assert (folder.run, file.run) == (run, None)
    assert folder.crop_fraction == 0.5
    assert folder.embed_texts is None


def test_a_run_with_texts_embeds_them(run: Path, tmp_path: Path) -> None:
    save_encoder(tmp_path, build_encoder(SPEC), SPEC, {})
    width = features(open_encoder(str(run), device=CPU, seed=None)).shape[1]
    spec = TextSpec(context_length=16, width=8, heads=1, layers=1, embed_dim=8)
    save_text(tmp_path, ImageText(spec, width))
    encoder = open_encoder(str(tmp_path), device=CPU, seed=None)
    assert encoder.embed_texts is not None
    assert encoder.embed_features is not None
    with torch.inference_mode():
        assert encoder.embed_texts(["a fox"]).norm().item() == pytest.approx(1, abs=1e-5)
        assert encoder.embed_features(features(encoder)).shape == (4, 8)


def test_only_kinds_that_draw_weights_take_a_seed(run: Path) -> None:
    one, two = (open_encoder(f"untrained:{run}", device=CPU, seed=seed) for seed in (1, 2))
    assert not torch.equal(features(one), features(two))
    for address in (str(run), "pixels:8"):
        with refused(ConfigError, "--seed: only untrained:RUN draws weights"):
            open_encoder(address, device=CPU, seed=1)


class Gray:
    """A kind that somebody else might write."""

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        pass

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        return FrozenEncoder(
            name=name,
            encode=lambda images: images.float().mean((2, 3)),
            input_px=int(place),
            facts={"name": name, "kind": "gray"},
        )


def as_stablerep(tower: Tensors) -> object:
    """As main_stablerep.py of google-research/syn-rep-learn saves a run."""
    visual = {f"module.visual.{key}": value for key, value in tower.items()}
    heads = {"module.image_mlp.0.weight": torch.zeros(4, 4)}
    options = Namespace(batch_size=128, output_dir="x")
    return {"epoch": 34, "state_dict": visual | heads, "optimizer": {"state": {}}, "args": options}


def as_published_synclr(tower: Tensors) -> object:
    """As the evaluation of SynCLR in google-research/syn-rep-learn reads its published files."""
    return {"model": {f"module.visual.{key}": value for key, value in tower.items()}}


def as_synclr(tower: Tensors) -> object:
    """As main_mask_synclr.py of that folder saves a run: student, teacher and their heads."""
    student = {f"student.backbone.{key}": value + 1 for key, value in tower.items()}
    teacher = {f"teacher.backbone.{key}": value for key, value in tower.items()}
    heads = {
        "student.proj.0.weight": torch.zeros(4, 4),
        "student.backbone.mask_token": torch.ones(1),
    }
    model = student | teacher | heads
    return {"model": model, "optimizer": {"state": {}}, "epoch": 9, "args": Namespace(blr=1e-4)}


def as_dino(tower: Tensors) -> object:
    """As main_dino.py saves a run: the teacher is what is evaluated."""
    student = {f"module.backbone.{key}": value + 1 for key, value in tower.items()}
    teacher = {f"backbone.{key}": value for key, value in tower.items()}
    return {"student": student, "teacher": teacher, "epoch": 99}


def as_mae(tower: Tensors) -> object:
    """As main_pretrain.py of MAE saves a run, with the decoder."""
    return {"model": dict(tower) | {"decoder_embed.weight": torch.zeros(3, 3)}}


@pytest.mark.parametrize(
    ("layout", "place"),
    [
        (dict, ""),
        (as_stablerep, ""),
        (as_published_synclr, ""),
        (as_synclr, "#model/teacher.backbone."),
        (as_mae, ""),
        (as_dino, "#teacher/backbone."),
    ],
)
def test_weights_are_found_in_files_of_other_programs(
    layout: Callable[[Tensors], object], place: str, tmp_path: Path
) -> None:
    expected = timm.create_model(MODEL, num_classes=0).eval()
    torch.save(layout(expected.state_dict()), tmp_path / "model.pth")
    require_equal(f"weights:{MODEL}@{tmp_path}/model.pth{place}", expected)


@pytest.mark.parametrize("prefix", ["", "visual.", "model.backbone."])
def test_weights_are_found_in_safetensors_of_other_programs(prefix: str, tmp_path: Path) -> None:
    expected = timm.create_model(MODEL, num_classes=0).eval()
    tensors = {f"{prefix}{key}": value for key, value in expected.state_dict().items()}
    save_file(tensors | {"head.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    require_equal(f"weights:{MODEL}@{tmp_path}/model.safetensors", expected)


def require_equal(address: str, expected: torch.nn.Module) -> None:
    """An encoder gives what the tower gives for normalised pixels."""
    encoder = open_encoder(address, device=CPU, seed=None)
    assert (encoder.input_px, encoder.crop_fraction) == (160, 0.875)
    images = torch.zeros(1, 3, 160, 160, dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        assert torch.equal(encoder.encode(images), expected((images / 255 - mean) / std))


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ({"x": torch.zeros(1)}, "", "has no tensor whose name ends in"),
        (as_dino, "", "several towers; add one of #student/module.backbone., #teacher/backbone."),
        ("missing", "", "is missing"),
        ("shape", "", "has shape [1], expected"),
        (Gray, "", "without running code"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    content: Any, place: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    tower = timm.create_model(MODEL, num_classes=0).state_dict()
    last = list(tower)[-1]
    if content == "missing":
        content = {key: value for key, value in tower.items() if key != last}
    elif content == "shape":
        content = tower | {last: torch.zeros(1)}
    elif content is as_dino:
        content = as_dino(tower)
    torch.save(content, path)
    with refused(CheckpointError, str(path), words):
        open_encoder(f"weights:{MODEL}@{path}{place}", device=CPU, seed=None)


def test_a_kind_of_somebody_else_is_opened_by_its_dotted_path() -> None:
    encoder = open_encoder(f"{__name__}:Gray:4", device=CPU, seed=None)
    assert features(encoder).shape == (4, 3)
