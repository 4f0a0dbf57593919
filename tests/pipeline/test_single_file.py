"""Weights in one file: the pixels of the same networks in a folder, or refused."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from tests.tiny_models import SIZE_PX, build
from tests.tiny_models.single_file import save_single_file
from tests.views_of import requests


def renderer(model: Path, **more: Any) -> TextToImage:
    options = {"steps": 2, "batch_size": 2, "device": "cpu", "guidance": (3.0,)} | more
    return TextToImage(TextToImageConfig(model=str(model), **options))


def pixels(of: TextToImage) -> list[np.ndarray]:
    wanted = requests(["a red fox"], views_per_subject=2, guidance=[3.0])
    return [view.pixels for view in of.render(wanted)]


@pytest.fixture
def tuned(tiny_models: dict[str, Path], tmp_path: Path) -> Any:
    """The tiny Stable Diffusion with other weights, saved as a folder as well."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(tiny_models["sd"])
    generator = torch.Generator().manual_seed(3)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        for weight in part.parameters():
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    pipe.save_pretrained(tmp_path / "tuned")
    return pipe


def test_one_file_gives_the_pixels_of_its_folder(
    tiny_models: dict[str, Path], tuned: Any, tmp_path: Path
) -> None:
    file = save_single_file(tuned, tmp_path / "fox.safetensors")
    one = renderer(tiny_models["sd"], weights=str(file))
    plain = renderer(tiny_models["sd"])
    assert not np.array_equal(pixels(one), pixels(plain))
    np.testing.assert_array_equal(pixels(one), pixels(renderer(tmp_path / "tuned")))
    assert one.provenance().model == f"{plain.provenance().model} with fox"
    assert one.provenance().revision != plain.provenance().revision
    assert one.identity() != plain.identity()


def test_a_file_of_the_denoiser_alone_leaves_the_other_networks(
    tiny_models: dict[str, Path], tuned: Any, tmp_path: Path
) -> None:
    file = save_single_file(tuned, tmp_path / "unet.safetensors", denoiser_only=True)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tiny_models["sd"])
    pipe.register_modules(unet=tuned.unet)
    pipe.save_pretrained(tmp_path / "mixed")
    np.testing.assert_array_equal(
        pixels(renderer(tiny_models["sd"], weights=str(file))),
        pixels(renderer(tmp_path / "mixed")),
    )


def test_a_transformer_in_one_file(tmp_path: Path) -> None:
    folder = build("flux-schnell", tmp_path / "flux")
    weights = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    scaled = {name: tensor * 1.1 for name, tensor in weights.items()}
    save_file(scaled, tmp_path / "tuned.safetensors")
    options = {"guidance": (0.0,), "size_px": SIZE_PX}
    one = renderer(folder, weights=str(tmp_path / "tuned.safetensors"), **options)
    wanted = requests(["a red fox"], views_per_subject=2, guidance=[0.0])
    tuned = [view.pixels for view in one.render(wanted)]
    save_file(
        scaled, folder / "transformer" / "diffusion_pytorch_model.safetensors", {"format": "pt"}
    )
    other = renderer(folder, **options)
    np.testing.assert_array_equal(tuned, [view.pixels for view in other.render(wanted)])


def test_weights_of_another_model_are_refused(
    tiny_models: dict[str, Path], tuned: Any, tmp_path: Path
) -> None:
    file = save_single_file(tuned, tmp_path / "fox.safetensors")
    for name in ("sdxl", "pixart"):
        one = renderer(tiny_models[name], weights=str(file))
        with pytest.raises(ModelError, match=r"fox\.safetensors: not the weights of|from one file"):
            pixels(one)


@pytest.mark.parametrize(
    "tensor",
    [
        "model.diffusion_model.out.2.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused(
    tensor: str, tiny_models: dict[str, Path], tuned: Any, tmp_path: Path
) -> None:
    file = save_single_file(tuned, tmp_path / "fox.safetensors")
    tensors = load_file(file)
    del tensors[tensor]
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"a network lacks tensors.*that it was made from"):
        pixels(renderer(tiny_models["sd"], weights=str(file)))


@pytest.mark.parametrize("name", ["missing.safetensors", "fox.ckpt"])
def test_other_formats_and_missing_files_are_refused(
    name: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "fox.ckpt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"renderer\.weights .*: expected a file of \.safetensors"):
        renderer(tiny_models["sd"], weights=str(tmp_path / name))
