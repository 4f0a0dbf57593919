"""The parts of the embedded model, all of them stock classes, and their folder on disk."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline.embedded import world

TOKENS = 24
TEXT_WIDTH = 96
LATENT_SCALE = 20.0
"""The decoder clamps what it is given by 3 tanh(x / 3): at a twentieth of the range it is exact to
1e-4, where at the whole range it would bend the colours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a Stable Diffusion pipeline is put together from."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderTiny
    scheduler: DDIMScheduler


def to_latents(pictures: NDArray[np.float64]) -> Tensor:
    """The latent is the 8 px picture itself: [n, 8, 8, 3] in 0 to 1 -> [n, 3, 8, 8]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() * 2 - 1


def build_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer: the world's words are whole tokens, other text is bytes."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [*world.DIGITS, *world.STROKES, *world.COLOUR_NAMES, *world.LEANS, "a", "an", "on", ","]
    model = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    model.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, end_of_word_suffix="</w>", show_progress=False
    )
    model.train_from_iterator(words, trainer)
    merges = [tuple(pair) for pair in _merges(model)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [each + "</w>" for each in alphabet] + ["".join(each) for each in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, start, end]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _merges(model: Tokenizer) -> list[list[str]]:
    import json

    pairs = json.loads(model.to_str())["model"]["merges"]
    return [pair if isinstance(pair, list) else pair.split(" ") for pair in pairs]


def build_vae() -> AutoencoderTiny:
    """An autoencoder with weights set by hand: it enlarges 8 px four times by bilinear doubling.

    Its encoder averages blocks of 4 x 4 pixels, which is close to the inverse.
    """
    vae = AutoencoderTiny(
        latent_channels=3,
        encoder_block_out_channels=(3, 3, 3),
        decoder_block_out_channels=(3, 3, 3),
        num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=(0, 0, 0),
        upsample_fn="bilinear",
        scaling_factor=LATENT_SCALE,
    )
    with torch.no_grad():
        for weight in vae.parameters():
            weight.zero_()
            if weight.ndim == 4:
                for channel in range(3):
                    weight[channel, channel, 1, 1] = 1
        # Latents are in -1 to 1 over LATENT_SCALE, pictures inside the autoencoder in 0 to 1.
        vae.decoder.layers[0].weight.mul_(LATENT_SCALE / 2)
        vae.decoder.layers[0].bias.fill_(0.5)
        for layer in (1, 2):
            weight = vae.encoder.layers[layer].weight
            weight.zero_()
            for channel, row, column in product(range(3), (1, 2), (1, 2)):
                weight[channel, channel, row, column] = 0.25
        vae.encoder.layers[3].weight.mul_(2 / LATENT_SCALE)
        vae.encoder.layers[3].bias.fill_(-1 / LATENT_SCALE)
    return vae


def build_parts() -> Parts:
    """Fresh parts; torch's global seed decides the weights of U-Net and text encoder."""
    tokenizer = build_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # Besides cross-attention, the pooled text modulates every block, as in DeepFloyd IF.
    unet = UNet2DConditionModel(
        sample_size=world.GLYPH_PX,
        in_channels=3,
        out_channels=3,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=True,
    )
    return Parts(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        vae=build_vae(),
        scheduler=scheduler,
    )


def assemble(parts: Parts, folder: Path) -> None:
    """Write the pipeline as `DiffusionPipeline.from_pretrained(folder)` reads it."""
    optional: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    pipeline = StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=parts.scheduler,
        requires_safety_checker=False,
        **optional,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
