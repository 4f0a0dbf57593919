"""What a family of tiny models is, and parts that several families share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DiffusionPipeline,
)
from torch import nn

SIZE_PX = 32

_Model = TypeVar("_Model", bound=nn.Module)


@dataclass(frozen=True)
class Family:
    """How a tiny pipeline is built, and the call that it renders."""

    builder: Callable[[], DiffusionPipeline]
    # A size that comes out of the pipeline exactly as it was asked for.
    size_px: int = SIZE_PX
    steps: int = 2
    # Arguments without which the pipeline refuses such a small size or replaces the prompt.
    options: Mapping[str, Any] = field(default_factory=dict)
    # The argument that scales guidance, or None of a pipeline without any.
    guidance: str | None = "guidance_scale"
    # A package that building and loading need and that the project does not.
    needs: str | None = None


def stirred(model: _Model, std: float = 0.1, gain: float = 2.0) -> _Model:
    """The model with noise in place of zero weights and with stronger layers.

    Fresh transformers hardly react to their prompts; this makes pictures of two prompts differ.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=std)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(gain)
    return model


def kl_vae(channels: tuple[int, ...] = (16, 32), **more: Any) -> AutoencoderKL:
    """An autoencoder that halves the size with every number of channels but one."""
    return AutoencoderKL(**(_kl_config(channels) | {"latent_channels": 4} | more))


def flux_vae(channels: tuple[int, ...] = (8, 16), latent_channels: int = 4) -> AutoencoderKL:
    """An autoencoder with the shift and without the convolutions of a quantizer, as in Flux."""
    return kl_vae(
        channels,
        latent_channels=latent_channels,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
    )


def flux2_vae() -> AutoencoderKLFlux2:
    """An autoencoder that packs four neighbours into one latent."""
    return AutoencoderKLFlux2(**(_kl_config((16, 32)) | {"latent_channels": 4}))


def dc_vae() -> AutoencoderDC:
    """A deep compression autoencoder, here one that halves the size."""
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    )


def qwen_vae() -> AutoencoderKLQwenImage:
    """An autoencoder for pictures as videos of one frame, a quarter of the size."""
    return AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def _kl_config(channels: tuple[int, ...]) -> dict[str, Any]:
    return {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "norm_num_groups": 8,
        "sample_size": SIZE_PX,
    }
