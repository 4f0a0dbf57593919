"""Variants of weights, LoRA, other VAEs, parts of other libraries: read as stated, or refused."""

import json
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from manifests.foundation.errors import ConfigError
from pipeline.errors import ModelError
from pipeline.models import find_model
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from tests.tiny_models import SIZE_PX
from tests.views_of import requests


@pytest.fixture
def sd(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models["sd"], tmp_path / "sd"))


def renderer(model: Path, **more: Any) -> TextToImage:
    options = {"steps": 2, "batch_size": 2, "device": "cpu", "guidance": (3.0,)} | more
    return TextToImage(TextToImageConfig(model=str(model), **options))


def pixels(of: TextToImage) -> list[np.ndarray]:
    wanted = requests(["a red fox"], views_per_subject=2, guidance=[3.0])
    return [view.pixels for view in of.render(wanted)]


def stock_pixels(pipe: Any) -> list[np.ndarray]:
    """What the documented call of a changed pipeline gives for the same requests."""
    wanted = requests(["a red fox"], views_per_subject=2, guidance=[3.0])
    images = pipe(
        "a red fox",
        num_images_per_prompt=2,
        generator=[torch.Generator().manual_seed(request.seed) for request in wanted],
        guidance_scale=3.0,
        num_inference_steps=2,
        height=SIZE_PX,
        width=SIZE_PX,
    ).images
    return [np.asarray(image) for image in images]


def save_variant(folder: Path, variant: str, *, keep: bool, scale: float = 1.0) -> None:
    """Write every part's weights again as a variant, multiplied by a scale."""
    for path in list(folder.glob("*/*.safetensors")):
        weights = {name: tensor * scale for name, tensor in load_file(path).items()}
        save_file(weights, path.with_suffix(f".{variant}.safetensors"), {"format": "pt"})
        if not keep:
            path.unlink()


def test_a_folder_with_one_variant_alone_is_read(sd: Path) -> None:
    plain = pixels(renderer(sd))
    save_variant(sd, "fp16", keep=False)
    assert find_model(str(sd)).variant == "fp16"
    np.testing.assert_array_equal(pixels(renderer(sd)), plain)


def test_a_variant_is_read_where_it_is_asked_for(sd: Path) -> None:
    before = renderer(sd)
    save_variant(sd, "ema", keep=True, scale=0.9)
    assert renderer(sd).identity() == before.identity()
    ema = renderer(sd, variant="ema")
    assert not any(path.endswith("model.safetensors") for path in ema.identity()["files"])
    assert not np.array_equal(pixels(ema), pixels(before))


def test_a_variant_that_is_not_there_is_named(sd: Path) -> None:
    save_variant(sd, "fp16", keep=False)
    with pytest.raises(ModelError, match=r"no \.safetensors weights of variant bf16 or none; give"):
        renderer(sd, variant="bf16")


def write_lora(model: Path, folder: Path, seed: int = 0) -> Path:
    """A LoRA of random weights for the attention of a model's U-Net."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(model)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    torch.manual_seed(seed)
    layers = {
        name: 0.3 * torch.randn_like(tensor)
        for name, tensor in get_peft_model_state_dict(pipe.unet).items()
    }
    type(pipe).save_lora_weights(folder, unet_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"


def with_loras(model: Path, paths: Sequence[Path], weights: Sequence[float]) -> Any:
    pipe = diffusers.DiffusionPipeline.from_pretrained(model)
    names = [f"style{index}" for index in range(len(paths))]
    for path, name in zip(paths, names, strict=True):
        with warnings.catch_warnings(action="ignore"):  # of the second one
            pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name)
    pipe.set_adapters(names, list(weights))
    return pipe


def test_loras_are_those_of_the_stock_pipeline_and_part_of_the_identity(
    sd: Path, tmp_path: Path
) -> None:
    one, two = (write_lora(sd, tmp_path / f"lora{seed}", seed) for seed in (0, 1))
    both = renderer(sd, lora=(str(one), f"{two}:0.5"))
    np.testing.assert_array_equal(
        pixels(both), stock_pixels(with_loras(sd, [one, two], [1.0, 0.5]))
    )
    assert not np.array_equal(pixels(both), pixels(renderer(sd)))
    name = one.stem
    assert both.provenance().constants["lora"] == f"{name} 1, {name} 0.5"
    assert "lora" in {column.name for column in both.columns()}
    assert "lora" not in {column.name for column in renderer(sd).columns()}
    other = renderer(sd, lora=(str(one), f"{two}:0.6"))
    assert len({repr(m.identity()) for m in (both, other, renderer(sd))}) == 3


def test_a_lora_for_another_model_is_refused(
    sd: Path, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    foreign = write_lora(tiny_models["sdxl"], tmp_path / "lora")
    with pytest.raises(ModelError, match="take one that was made for this model"):
        pixels(renderer(sd, lora=(str(foreign),)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("missing.safetensors", "expected a file of .safetensors"),
        ("style.bin", "other formats can run code"),
        ("style.safetensors:much", "'much' is no weight"),
    ],
)
def test_lora_settings_that_mean_nothing_are_refused(
    setting: str, message: str, sd: Path, tmp_path: Path
) -> None:
    (tmp_path / "style.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=message):
        renderer(sd, lora=(str(tmp_path / setting),))


def test_another_vae_is_that_of_the_stock_pipeline(sd: Path, tmp_path: Path) -> None:
    config = AutoencoderKL.load_config(sd / "vae")
    torch.manual_seed(9)
    AutoencoderKL.from_config(config).save_pretrained(tmp_path / "vae")
    pipe = diffusers.DiffusionPipeline.from_pretrained(sd)
    pipe.vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    other = renderer(sd, vae=str(tmp_path / "vae"))
    np.testing.assert_array_equal(pixels(other), stock_pixels(pipe))
    assert other.identity() != renderer(sd).identity()


def test_a_vae_for_other_latents_is_refused(sd: Path, tmp_path: Path) -> None:
    config = dict(AutoencoderKL.load_config(sd / "vae")) | {"latent_channels": 8}
    AutoencoderKL.from_config(config).save_pretrained(tmp_path / "vae")
    with pytest.raises(ModelError, match="its latent_channels is 8, this model's latents have 4"):
        pixels(renderer(sd, vae=str(tmp_path / "vae")))


@pytest.mark.parametrize(
    ("library", "is_trusted"), [("kolors", True), ("custom_pipeline", False), ("os", False)]
)
def test_parts_of_diffusers_own_pipelines_are_no_foreign_code(
    library: str, is_trusted: bool, sd: Path
) -> None:
    index = json.loads((sd / "model_index.json").read_text())
    index["text_encoder"] = [library, "ChatGLMModel"]
    (sd / "model_index.json").write_text(json.dumps(index))
    if is_trusted:
        find_model(str(sd))
        return
    with pytest.raises(ModelError, match="code that comes with a model is never run"):
        find_model(str(sd))


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("KandinskyV22CombinedPipeline", "is one stage of two, or both"),
        ("StableCascadePriorPipeline", "is one stage of two, or both"),
        ("StableUnCLIPPipeline", "is one stage of two, or both"),
        ("StableDiffusionImg2ImgPipeline", "begins with a picture"),
        ("DDPMPipeline", "takes no prompt"),
        ("HunyuanImagePipeline", "takes no guidance_scale"),
    ],
)
def test_a_pipeline_that_is_no_single_text_to_image_call_is_refused(
    pipeline: str, reason: str, sd: Path
) -> None:
    index = json.loads((sd / "model_index.json").read_text()) | {"_class_name": pipeline}
    (sd / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=reason):
        renderer(sd)


def test_a_scheduler_names_the_package_that_it_needs(sd: Path) -> None:
    if not hasattr(diffusers.DPMSolverSDEScheduler, "_backends"):
        pytest.skip("torchsde is installed")
    with pytest.raises(ConfigError, match="needs the package torchsde; install it"):
        renderer(sd, scheduler="DPMSolverSDEScheduler")


def test_arguments_that_a_pipeline_does_not_take_are_refused(sd: Path) -> None:
    with pytest.raises(ConfigError, match=r"renderer\.max_sequence_length: StableDiff"):
        renderer(sd, max_sequence_length=64).check([])


def test_clip_skip_leaves_out_layers(tiny_models: dict[str, Path]) -> None:
    skipping = renderer(tiny_models["sdxl"], clip_skip=1)
    skipping.check([])
    assert not np.array_equal(pixels(skipping), pixels(renderer(tiny_models["sdxl"])))
    assert skipping.identity()["call"] == {"clip_skip": 1}


@pytest.mark.parametrize(
    ("name", "settings", "warning"),
    [
        ("sdxl-turbo", {"guidance": (2.0,), "steps": 4}, r"guidance 0 to 1$"),
        ("sdxl-turbo", {"guidance": (0.0,), "steps": 30}, r"1 to 4 steps$"),
        ("sd-lightning", {"guidance": (5.0,), "steps": 30}, r"guidance 0 to 1 and 1 to 8 steps$"),
        ("sd-turbo", {"guidance": (0.0,), "steps": 2}, None),
        ("sd", {"guidance": (5.0,), "steps": 50}, None),
    ],
)
def test_distilled_models_are_warned_about_scales_and_steps(
    name: str,
    settings: dict[str, Any],
    warning: str | None,
    sd: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if name != "sd":
        sd = sd.rename(tmp_path / name)
    renderer(sd, **settings).check([])
    messages = [record.getMessage() for record in caplog.records]
    if warning is None:
        assert not messages
    else:
        assert any(re.search(warning, message) for message in messages), messages
