"""Tiny diffusers pipelines with random weights, one of each family, built from configurations."""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from tests.tiny_models import (
    language_families,
    staged,
    t5_families,
    unets,
    vision_language_families,
)
from tests.tiny_models.families import SIZE_PX, Family
from tests.tiny_models.tokenizers import CLIP_TOKENS

__all__ = ["ALL_FAMILIES", "CLIP_TOKENS", "FAMILIES", "SIZE_PX", "Family", "build"]

# These three parametrise tests of every setting.
FAMILIES = ("sd", "sdxl", "pixart")

_AS_ASKED = {"use_resolution_binning": False}
_NOT_CLEANED = {"clean_caption": False}

ALL_FAMILIES: Mapping[str, Family] = {
    "sd": Family(unets.stable_diffusion),
    "lcm": Family(unets.latent_consistency),
    "sdxl": Family(unets.stable_diffusion_xl),
    "kandinsky3": Family(unets.kandinsky3, size_px=64),
    "pixart": Family(t5_families.pixart_alpha, options=_AS_ASKED | _NOT_CLEANED),
    "pixart-sigma": Family(t5_families.pixart_sigma, options=_AS_ASKED | _NOT_CLEANED),
    "sd3": Family(t5_families.stable_diffusion3),
    "flux-dev": Family(partial(t5_families.flux, guidance_embeds=True)),
    "flux-schnell": Family(partial(t5_families.flux, guidance_embeds=False), guidance=None),
    "chroma": Family(t5_families.chroma),
    "auraflow": Family(t5_families.aura_flow),
    "hunyuandit": Family(t5_families.hunyuan_dit, options=_AS_ASKED),
    "cogview3plus": Family(t5_families.cogview3_plus),
    "bria": Family(t5_families.bria),
    "hidream": Family(t5_families.hidream, size_px=128),
    "sana": Family(language_families.sana, options=_AS_ASKED),
    "sana-sprint": Family(language_families.sana_sprint, options=_AS_ASKED),
    "lumina": Family(language_families.lumina_next, options=_NOT_CLEANED),
    "lumina2": Family(language_families.lumina2),
    "prx": Family(language_families.prx, options=_AS_ASKED),
    "cogview4": Family(language_families.cogview4),
    "z-image": Family(language_families.z_image),
    "ovis": Family(language_families.ovis),
    "flux2-klein": Family(language_families.flux2_klein),
    "bria-fibo": Family(language_families.bria_fibo),
    "qwen-image": Family(vision_language_families.qwen_image, guidance="true_cfg_scale"),
    "flux2": Family(vision_language_families.flux2),
    "kandinsky5-t2i": Family(vision_language_families.kandinsky5, size_px=1024),
    "longcat": Family(vision_language_families.longcat, options={"enable_prompt_rewrite": False}),
    "krea2": Family(vision_language_families.krea2),
    "ernie": Family(vision_language_families.ernie),
    "hunyuan-image": Family(
        vision_language_families.hunyuan_image, guidance="distilled_guidance_scale"
    ),
    "kandinsky22": Family(staged.kandinsky22),
    "kolors": Family(staged.kolors, needs="sentencepiece"),
    "glm-image": Family(staged.glm_image),
}


def build(family: str, folder: Path) -> Path:
    """Write a tiny pipeline of a family into a folder."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # Chroma, Kolors and PRX are written with parts that diffusers and PyTorch deprecate.
        warnings.simplefilter("ignore", FutureWarning)
        ALL_FAMILIES[family].builder().save_pretrained(folder)
    return folder
