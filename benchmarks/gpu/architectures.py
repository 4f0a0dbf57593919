"""Pipelines of real architectures with random weights: their speed is that of the trained ones.

Sizes are those of the published configurations; text encoders of FLUX have two layers, because
texts are encoded once per caption and are less than 1 % of the work.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from tests.tiny_models import build
from tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is rendered: a model, and the settings that its users give."""

    build: Callable[[], DiffusionPipeline]
    size_px: int
    steps: tuple[int, ...]
    guidance: float
    batches: tuple[int, ...]
    """Sizes of the stock pipeline's batches that are tried; the best one is compared."""


def _clip(hidden: int, layers: int, heads: int, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=projection,
        max_position_embeddings=77,
    )


def _vae(latent_channels: int = 4) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=latent_channels,
        sample_size=512,
    )


def stable_diffusion_15() -> DiffusionPipeline:
    """0.86 billion weights of U-Net, at 512 px."""
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip(768, 12, 12, 768)),
        tokenizer=clip_tokenizer(77),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> DiffusionPipeline:
    """2.6 billion weights of U-Net, at 1024 px."""
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip(768, 12, 12, 768)),
        text_encoder_2=CLIPTextModelWithProjection(_clip(1280, 32, 20, 1280)),
        tokenizer=clip_tokenizer(77),
        tokenizer_2=clip_tokenizer(77),
        unet=UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )


def flux_schnell() -> DiffusionPipeline:
    """11.9 billion weights of transformer, at 1024 px in four steps."""
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(latent_channels=16),
        text_encoder=CLIPTextModel(_clip(768, 2, 12, 768)),
        tokenizer=clip_tokenizer(77),
        text_encoder_2=T5EncoderModel(
            T5Config(d_model=4096, d_ff=10_240, num_layers=2, num_heads=64, vocab_size=32_128)
        ),
        tokenizer_2=t5_tokenizer(512),
        transformer=FluxTransformer2DModel(guidance_embeds=False),
    )


SHAPES: Mapping[str, Shape] = {
    "sd15": Shape(
        build=stable_diffusion_15, size_px=512, steps=(50, 20), guidance=2.0, batches=(1, 16, 32)
    ),
    "sdxl": Shape(
        build=stable_diffusion_xl, size_px=1024, steps=(20,), guidance=2.0, batches=(1, 8)
    ),
    "flux": Shape(build=flux_schnell, size_px=1024, steps=(4,), guidance=0.0, batches=(1, 4)),
}


def write(shape: Shape, folder: Path, device: str) -> None:
    """Write a pipeline of random weights in bfloat16, made on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        pipeline = shape.build()
    pipeline.to(dtype=torch.bfloat16).save_pretrained(folder)


def write_tiny(folder: Path) -> None:
    """The tiny Stable Diffusion of the tests, which takes the same way on a CPU."""
    build("sd", folder)
