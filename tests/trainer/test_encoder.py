"""An exported encoder is what was trained, for us and for timm alone."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from manifests.foundation.errors import ConfigError
from tests.sets import refused
from trainer.errors import CheckpointError
from trainer.models.encoder import (
    EncoderSpec,
    build_encoder,
    load_encoder,
    normalize,
    num_features,
    save_encoder,
)

SPECS = {
    "vit": EncoderSpec(
        model="vit_tiny_patch16_224",
        args={"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 1},
        input_px=32,
    ),
    "resnet": EncoderSpec(model="resnet10t", args={"channels": (8, 8, 8, 8)}, input_px=32),
    "small": EncoderSpec(model="synth_small_conv", input_px=32),
}


@pytest.mark.parametrize("name", SPECS)
def test_encoder_comes_back_bit_for_bit_and_timm_loads_it_strictly(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    spec = SPECS[name]
    encoder = build_encoder(spec).eval()
    save_encoder(tmp_path, encoder, spec, {"steps": 3})
    images = normalize(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), spec)
    loaded, found = load_encoder(tmp_path)
    assert found == spec
    assert not loaded.training
    assert torch.equal(loaded(images), encoder(images))
    document = json.loads((tmp_path / "encoder.json").read_text())
    plain = timm.create_model(spec.model, num_classes=0, **document["spec"]["args"])
    plain.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=True)
    assert torch.equal(plain.eval()(images), encoder(images))


@pytest.mark.parametrize(("name", "width"), [("vit", 24), ("resnet", 8), ("small", 384)])
def test_width_of_features_is_found(name: str, width: int) -> None:
    encoder = build_encoder(SPECS[name]).train()
    assert num_features(encoder, SPECS[name]) == width
    assert encoder.training


def test_normalization_is_imagenets() -> None:
    white = normalize(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8), EncoderSpec())
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(white[0, :, 0, 0], expected)


def test_input_that_the_tower_does_not_take_is_refused() -> None:
    spec = EncoderSpec(model="vit_tiny_patch16_224", args={"depth": 1}, input_px=32)
    with refused(ConfigError, "model.input_px", "32 px"):
        num_features(build_encoder(spec), spec)


def test_missing_encoder_is_refused(tmp_path: Path) -> None:
    with refused(CheckpointError, "encoder.json", "synth train"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text('{"spec": {"model": 3}}')
    with refused(CheckpointError, "encoder.json", "not the description"):
        load_encoder(tmp_path)
