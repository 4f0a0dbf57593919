"""Encoders of timm and open_clip: the stock library's pixels and features, to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor
from torch.nn import functional as F

from manifests.foundation.errors import ConfigError
from tests.pretrained import CLIP_CONFIG, make_open_clip, make_timm
from tests.sets import refused
from trainer.errors import CheckpointError
from trainer.evaluation_crop import evaluation_crop
from trainer.frozen_encoders import FrozenEncoder, open_encoder

CPU = torch.device("cpu")
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.5)}


def opened(address: str) -> FrozenEncoder:
    return open_encoder(address, device=CPU, seed=None)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def ours(encoder: FrozenEncoder, image: Image.Image) -> Tensor:
    """Features of one picture, as `trainer.features.extract` makes them."""
    pixels = evaluation_crop(
        np.asarray(image),
        input_px=encoder.input_px,
        crop_fraction=encoder.crop_fraction,
        resampling=encoder.resampling,
        squash=encoder.squash,
        always_resized=encoder.always_resized,
    )
    with torch.inference_mode():
        return encoder.encode(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])


@pytest.mark.parametrize("size", [(300, 200), (160, 160), (90, 131)], ids=str)
@pytest.mark.parametrize(
    "config",
    [
        {},
        HALF | {"interpolation": "bilinear", "crop_pct": 0.9},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_mode": "squash", "crop_pct": 0.95},
    ],
    ids=str,
)
def test_timm_features_are_those_of_timm(
    config: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    make_timm(tmp_path / "model", **config)
    name = f"local-dir:{tmp_path}/model"
    stock = timm.create_model(name, pretrained=True, num_classes=0).eval()
    transform = create_transform(**resolve_model_data_config(stock))
    image = picture(*size)
    with torch.inference_mode():
        expected = stock(transform(image)[None])
    assert torch.equal(ours(opened(f"timm:{name}"), image), expected)


@pytest.mark.parametrize("size", [(60, 40), (32, 32), (31, 47)], ids=str)
@pytest.mark.parametrize(
    "config", [{}, HALF | {"interpolation": "bilinear"}, {"resize_mode": "squash"}], ids=str
)
def test_open_clip_features_and_texts_are_those_of_open_clip(
    config: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    make_open_clip(tmp_path / "model", **config)
    name = f"local-dir:{tmp_path}/model"
    stock, _, transform = open_clip.create_model_and_transforms(name)
    stock.eval()
    image, texts = picture(*size), ["a photo of a fox", "two owls"]
    encoder = opened(f"open_clip:{name}")
    assert encoder.embed_texts is not None
    assert encoder.embed_features is not None
    with torch.inference_mode():
        expected = stock.encode_image(transform(image)[None])
        words = stock.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True)
        assert torch.equal(ours(encoder, image), expected)
        assert torch.equal(encoder.embed_texts(texts), words)
        unit = encoder.embed_features(ours(encoder, image))
        torch.testing.assert_close(unit, F.normalize(expected))


@pytest.mark.parametrize(
    ("kind", "make", "other"),
    [
        ("timm", make_timm, {"crop_pct": 0.9}),
        ("timm", make_timm, {"interpolation": "bilinear"}),
        ("open_clip", make_open_clip, {"mean": (0.1, 0.2, 0.3)}),
        ("open_clip", make_open_clip, {"resize_mode": "squash"}),
    ],
)
def test_facts_are_equal_where_features_are(
    kind: str, make: Any, other: dict[str, Any], tmp_path: Path
) -> None:
    def facts(name: str, seed: int, **config: Any) -> dict[str, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            make(tmp_path / name, **config)
        found = opened(f"{kind}:local-dir:{tmp_path / name}").facts
        assert len(found["sha256"]) == 64
        return json.loads(json.dumps({key: found[key] for key in found if key != "name"}))

    first = facts("first", 0)
    assert facts("copy", 0) == first
    assert facts("weights", 1) != first
    assert facts("config", 0, **other) != first


def test_arguments_of_a_folder_are_facts(tmp_path: Path) -> None:
    make_timm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    first = opened(f"timm:local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_args": {"depth": 9}}))
    words = "the weights lack blocks.6.attn.qkv.weight, which timm would draw at random"
    with refused(CheckpointError, f"encoder timm:local-dir:{tmp_path}: timm", words):
        opened(f"timm:local-dir:{tmp_path}")
    arguments = config["model_args"] | {"global_pool": "avg", "fc_norm": False}
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_args": arguments}))
    second = opened(f"timm:local-dir:{tmp_path}")
    assert second.facts["sha256"] == first.facts["sha256"]
    assert second.facts["spec"]["args"] == arguments
    assert not torch.equal(ours(first, picture(90, 90)), ours(second, picture(90, 90)))


def test_a_tag_that_wants_quick_gelu_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_open_clip(tmp_path / "model")
    weights = tmp_path / "model/open_clip_model.safetensors"
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CLIP_CONFIG))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path / "tiny-clip.json"])
    open_clip.factory._rescan_model_configs()
    tag = {"url": weights.as_uri(), "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", {"openai": tag})
    monkeypatch.setenv("HOME", str(tmp_path))  # open_clip copies what it downloads there

    by_tag, by_file = opened("open_clip:tiny-clip@openai"), opened(f"open_clip:tiny-clip@{weights}")
    stock = open_clip.create_model("tiny-clip", str(weights), force_quick_gelu=True).eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    image = image.to(torch.uint8)
    mean, std = (torch.tensor(stock.visual.preprocess_cfg[key]) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = stock.encode_image((image / 255 - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        assert torch.equal(by_tag.encode(image), expected)
        assert not torch.equal(by_file.encode(image), expected)
    activations = [encoder.facts["activation"] for encoder in (by_tag, by_file)]
    assert activations == ["quick_gelu", "gelu"]
    with refused(CheckpointError, "no file and no tag of tiny-clip is x; its tags: openai"):
        opened("open_clip:tiny-clip@x")


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("timm:no_such_model", CheckpointError, "timm.list_pretrained() lists"),
        ("timm:test_vit.no_such_tag", CheckpointError, "no_such_tag"),
        ("timm:local-dir:{folder}/empty", CheckpointError, "config.json"),
        ("open_clip:ViT-B-32", ConfigError, "expected open_clip:NAME@PRETRAINED"),
        ("open_clip:ViT-B-33@openai", CheckpointError, "did you mean 'ViT-B-32'?"),
        ("open_clip:ViT-B-32@no-such", CheckpointError, "is no-such; its tags: openai"),
        ("open_clip:local-dir:{folder}/empty", CheckpointError, "open_clip_config.json"),
        ("open_clip:local-dir:{folder}/bare", CheckpointError, "could not be loaded"),
        ("open_clip:local-dir:{folder}/padded", CheckpointError, "expected shortest or squash"),
        ("timm:local-dir:{folder}/border", CheckpointError, "crops by border"),
        ("timm:local-dir:{folder}/pickle", CheckpointError, "eights"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(
    address: str, error: type[Exception], words: str, tmp_path: Path, caplog: Any
) -> None:
    (tmp_path / "empty").mkdir()
    make_open_clip(tmp_path / "bare")
    (tmp_path / "bare/open_clip_model.safetensors").unlink()
    make_open_clip(tmp_path / "padded", resize_mode="longest")
    make_timm(tmp_path / "border", crop_mode="border")
    make_timm(tmp_path / "pickle")
    (tmp_path / "pickle/model.safetensors").unlink()
    torch.save({"weight": picture}, tmp_path / "pickle/pytorch_model.bin")
    with refused(error, address.format(folder=tmp_path), words):
        opened(address.format(folder=tmp_path))
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("address", ["timm:test_vit.r160_in1k", "open_clip:ViT-B-32@openai"])
def test_a_download_that_fails_is_one_line(address: str, tmp_path: Path) -> None:
    program = (
        "import sys, torch\n"
        "from manifests.foundation.errors import SynthError\n"
        "from trainer.frozen_encoders import open_encoder\n"
        "try:\n"
        "    open_encoder(sys.argv[1], device=torch.device('cpu'), seed=None)\n"
        "except SynthError as exc:\n"
        "    print(exc)\n"
    )
    nowhere = "http://127.0.0.1:1"
    environment = os.environ | {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": nowhere,
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }
    run = subprocess.run(
        [sys.executable, "-c", program, address],
        env=environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert run.stdout.startswith(f"encoder {address}: "), run.stdout
    assert "cannot load it here" in run.stdout
    assert len(run.stdout.splitlines()) == 1
