"""A tiny Stable Diffusion 1 in one file, with the names of tensors of its first publication."""

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def save_single_file(pipe: Any, path: Path, *, denoiser_only: bool = False) -> Path:
    """Write the networks of a pipeline of Stable Diffusion 1 into one file."""
    tensors = {
        f"model.diffusion_model.{_unet_name(name, pipe.unet)}": tensor
        for name, tensor in pipe.unet.state_dict().items()
    }
    if not denoiser_only:
        levels = len(pipe.vae.config["block_out_channels"])
        for name, tensor in pipe.vae.state_dict().items():
            tensors[f"first_stage_model.{_vae_name(name, levels)}"] = tensor
        for name, tensor in pipe.text_encoder.state_dict().items():
            name = name.removeprefix("text_model.")
            tensors[f"cond_stage_model.transformer.text_model.{name}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def _unet_name(name: str, unet: Any) -> str:
    for ours, theirs in _OUTSIDE.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    in_block = unet.config["layers_per_block"] + 1
    match = re.fullmatch(r"(\w+?)_blocks?\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.*)", name)
    assert match is not None, name
    where, block, kind, index, rest = match.groups()
    if kind == "resnets":
        for ours, theirs in _RESNET.items():
            rest = re.sub(rf"^{ours}\.", f"{theirs}.", rest)
    if where == "mid":
        return f"middle_block.{2 * int(index) + (kind == 'attentions')}.{rest}"
    if kind == "downsamplers":
        return f"input_blocks.{(int(block) + 1) * in_block}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        has_attention = hasattr(unet.up_blocks[int(block)], "attentions")
        place = 2 if has_attention else 1
        return f"output_blocks.{(int(block) + 1) * in_block - 1}.{place}.{rest}"
    side, first = ("input", 1) if where == "down" else ("output", 0)
    layer = first + int(block) * in_block + int(index)
    return f"{side}_blocks.{layer}.{int(kind == 'attentions')}.{rest}"


def _vae_name(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    up = re.compile(r"up_blocks\.(\d+)\.(?:resnets|upsamplers\.0)")
    name = up.sub(
        lambda m: f"up.{levels - 1 - int(m[1])}.{'block' if 'resnets' in m[0] else 'upsample'}",
        name,
    )
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for ours, theirs in _VAE_ATTENTION.items():
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name
