"""An exported encoder is what was trained, for us and for timm alone."""

import json
import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from manifests.foundation.errors import ConfigError
from tests.sets import refused
from trainer.errors import CheckpointError
from trainer.models.encoder import (
    build_encoder,
    load_encoder,
    normalize,
    num_features,
    save_encoder,
)
from trainer.models.specs import EncoderSpec

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
    loaded, loaded_spec = load_encoder(tmp_path)
    assert loaded_spec == spec
    assert not loaded.training
    assert torch.equal(loaded(images), encoder(images))
    document = json.loads((tmp_path / "encoder.json").read_text())
    plain = timm.create_model(spec.model, num_classes=0, **document["spec"]["args"])
    plain.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=True)
    assert torch.equal(plain.eval()(images), encoder(images))


@pytest.mark.parametrize(("name", "width"), [("vit", 24), ("resnet", 8), ("small", 512)])
def test_width_of_features_is_measured_and_the_mode_is_kept(name: str, width: int) -> None:
    encoder = build_encoder(SPECS[name]).train()
    assert num_features(encoder, SPECS[name]) == width
    assert encoder.training


def test_normalization_is_that_of_imagenet() -> None:
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


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder with a small encoder."""
    save_encoder(tmp_path, build_encoder(SPECS["small"]), SPECS["small"], {})
    return tmp_path


@pytest.mark.parametrize("position", [0, 9, 400, -1])
def test_a_flipped_bit_in_the_weights_is_refused(position: int, exported: Path) -> None:
    weights = exported / "encoder.safetensors"
    data = bytearray(weights.read_bytes())
    data[position] ^= 1
    weights.write_bytes(data)
    for path in (exported, weights):
        with refused(CheckpointError, f"{weights}: its SHA-256 is not the one in encoder.json"):
            load_encoder(path)


def test_weights_of_another_run_are_refused(exported: Path) -> None:
    other = exported / "other"
    other.mkdir()
    save_encoder(other, build_encoder(SPECS["small"]), SPECS["small"], {})
    (other / "encoder.safetensors").replace(exported / "encoder.safetensors")
    with refused(CheckpointError, "its SHA-256 is not the one in encoder.json"):
        load_encoder(exported)


@pytest.mark.parametrize(
    "change",
    [
        *("[" * 100_000, '{"spec":' * 100_000, "9" * 100_000, "[]", "3", "null", "", "\0"),
        *("{}", '{"spec": []}', '{"spec": null, "sha256": ""}', '{"spec": {}}', "x" * (1 << 21)),
        '{"sha256": "", "spec": {"args": ' + '{"a":' * 100 + "1" + "}" * 102,
        '{"sha256": "", "spec": {"input_px": ' + "9" * 1000 + "}}",
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_description_is_refused_in_one_line(change: str, exported: Path) -> None:
    (exported / "encoder.json").write_text(change)
    with pytest.raises(CheckpointError, match=r"encoder\.json: not the description") as caught:
        load_encoder(exported)
    assert len(str(caught.value)) < 1000
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "args",
    [{"widths": "abc"}, {"widths": [[[1]]]}, {"nowhere": 1}, {"widths": [-1]}, {"widths": {}}],
    ids=str,
)
def test_arguments_that_timm_does_not_take_are_refused_with_the_file(
    args: dict[str, object], exported: Path
) -> None:
    path = exported / "encoder.json"
    document = json.loads(path.read_text())
    document["spec"]["args"] = args
    path.write_text(json.dumps(document))
    with pytest.raises(
        CheckpointError, match=r"encoder\.safetensors: not the weights of"
    ) as caught:
        load_encoder(exported)
    assert len(str(caught.value).splitlines()) == 1


def test_pipes_and_folders_in_place_of_an_encoder_are_refused(exported: Path) -> None:
    (exported / "encoder.safetensors").unlink()
    with refused(CheckpointError, "encoder.safetensors: no such file; train the run to its end"):
        load_encoder(exported)
    (exported / "encoder.safetensors").mkdir()
    with refused(CheckpointError, "encoder.safetensors: cannot be read (is a folder"):
        load_encoder(exported)
    (exported / "encoder.json").unlink()
    os.mkfifo(exported / "encoder.json")
    with refused(CheckpointError, "encoder.json: not the description", "is a pipe or a device"):
        load_encoder(exported)
