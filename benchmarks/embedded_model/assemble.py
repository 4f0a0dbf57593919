"""The parts of the embedded model, all of them stock classes, and their folder on disk.

docs/adr/0008-the-embedded-model.md says why there is such a model, and why it looks like this.
"""

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
"""Latents are pictures divided by this. The decoder clamps its input by 3 tanh(x / 3), which is
exact to 1e-4 at a twentieth of the range of a picture, but would bend colours at the whole range.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that make a Stable Diffusion pipeline."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderTiny
    scheduler: DDIMScheduler


def to_latents(pictures: NDArray[np.float64]) -> Tensor:
    """8 px pictures [n, 8, 8, 3] from 0 to 1 as latents [n, 3, 8, 8] from -1 to 1.

    A latent is the picture itself: the U-Net learns in these units, before the scaling of the VAE.
    """
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
    # The order of CLIP's own vocabulary: bytes, bytes that end a word, merges, special tokens.
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(pair) for pair in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, start, end]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _merges(model: Tokenizer) -> list[list[str]]:
    """The merges of a tokenizer; versions of tokenizers write a pair as a list or as one text."""
    import json

    pairs = json.loads(model.to_str())["model"]["merges"]
    return [pair if isinstance(pair, list) else pair.split(" ") for pair in pairs]


def build_vae() -> AutoencoderTiny:
    """An autoencoder with weights set by hand, not trained.

    Its decoder doubles 8 px pictures twice, bilinearly, to 32 px. Its encoder averages blocks of
    4 x 4 pixels, which is close to the inverse.
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
            if weight.ndim == 4:  # of a convolution: 1 in the middle of its kernel copies a channel
                for channel in range(3):
                    weight[channel, channel, 1, 1] = 1
        # Latents are in -1 to 1 over LATENT_SCALE, pictures inside the autoencoder in 0 to 1.
        vae.decoder.layers[0].weight.mul_(LATENT_SCALE / 2)
        vae.decoder.layers[0].bias.fill_(0.5)
        for layer in (1, 2):
            weight = vae.encoder.layers[layer].weight
            weight.zero_()
            # A mean of 2 x 2 pixels, at a stride of 2.
            for channel, row, column in product(range(3), (1, 2), (1, 2)):
                weight[channel, channel, row, column] = 0.25
        vae.encoder.layers[3].weight.mul_(2 / LATENT_SCALE)
        vae.encoder.layers[3].bias.fill_(-1 / LATENT_SCALE)
    return vae


def build_parts() -> Parts:
    """Parts that are not trained; torch's global seed decides weights of U-Net and text encoder."""
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
    """Write the folder of a pipeline, for `DiffusionPipeline.from_pretrained(folder)`."""
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
