"""The parts of the pictogram model, all of them stock classes of diffusers and transformers.

Text reaches the U-Net as a pooled code that is added to the time embedding; there is no
cross-attention, which did not learn a world of 200 things in the time of a demo's model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline.embedded.captions import words

TOKENS = 16
TEXT_WIDTH = 96
WIDTHS = (64, 128)
CODE_WIDTH = 512
"""Of time embedding and pooled text: wide enough that each concept has a direction of its own."""
LATENT_PX = 16
LATENT_CHANNELS = 12
LATENT_SCALE = 20.0
"""Latents are pixels divided by this: the decoder clamps by 3 tanh(x / 3), which bends nothing
there."""
DECODER_WIDTH = 12
NUM_TIMES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that make a Stable Diffusion pipeline."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderTiny
    scheduler: DDIMScheduler


def to_latents(pictures: Tensor) -> Tensor:
    """Pictures [n, 3, 32, 32] from -1 to 1 as the U-Net's latents [n, 12, 16, 16].

    Each latent pixel is a block of 2 x 2 pixels, in the order that the encoder below has.
    """
    blocks = [pictures[:, :, down::2, along::2] for down, along in product((0, 1), (0, 1))]
    return torch.cat(blocks, dim=1)


def build_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer: the world's words are whole tokens, other text is bytes."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    merges = _merges([*sorted(words()), ","])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(pair) for pair in merges]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, start, end]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _merges(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Byte pairs to merge, the most frequent first, until each text is one token.

    The trainer of the library breaks ties differently in every process, and a vocabulary that is
    numbered anew would scramble the words of a text encoder that goes on being trained.
    """
    pieces = [[*text[:-1], f"{text[-1]}</w>"] for text in texts]
    merges = []
    while counts := Counter(pair for piece in pieces for pair in pairwise(piece)):
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        for piece in pieces:
            index = 0
            while index < len(piece) - 1:
                if (piece[index], piece[index + 1]) == best:
                    piece[index : index + 2] = ["".join(best)]
                index += 1
    return merges


def build_vae() -> AutoencoderTiny:
    """An autoencoder that packs blocks of 2 x 2 pixels into channels.

    Its encoder is set by hand and loses nothing. Its decoder is trained: a convolution after
    nearest-neighbour doubling cannot unpack blocks exactly.
    """
    width = DECODER_WIDTH
    vae = AutoencoderTiny(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(width, width),
        decoder_block_out_channels=(24, 24),
        num_encoder_blocks=(0, 0),
        num_decoder_blocks=(1, 1),
        scaling_factor=LATENT_SCALE,
    )
    with torch.no_grad():
        for weight in vae.encoder.parameters():
            weight.zero_()
        for channel in range(3):
            vae.encoder.layers[0].weight[channel, channel, 1, 1] = 1
        for block, (down, along) in enumerate(product((0, 1), (0, 1))):
            for channel in range(3):
                vae.encoder.layers[1].weight[3 * block + channel, channel, 1 + down, 1 + along] = 1
        for channel in range(LATENT_CHANNELS):
            # Pictures are in 0 to 1 inside the autoencoder.
            vae.encoder.layers[2].weight[channel, channel, 1, 1] = 2 / LATENT_SCALE
        vae.encoder.layers[2].bias.fill_(-1 / LATENT_SCALE)
    return vae


def build_scheduler() -> DDIMScheduler:
    """Noise over signal of time i is t / (1 - t) at t = (i + 1) / 1001, as in flow matching.

    Equal steps in time are then the Euler steps of flow matching.
    """
    t = (torch.arange(NUM_TIMES, dtype=torch.float64) + 1) / (NUM_TIMES + 1)
    signal = (1 - t) ** 2 / ((1 - t) ** 2 + t**2)
    before = torch.cat([torch.ones(1, dtype=torch.float64), signal[:-1]])
    return DDIMScheduler(
        num_train_timesteps=NUM_TIMES,
        trained_betas=[round(beta, 9) for beta in (1 - signal / before).tolist()],
        prediction_type="sample",
        timestep_spacing="trailing",
        clip_sample=True,
    )


def build_parts() -> Parts:
    """Parts that are not trained; torch's global seed decides weights of U-Net and text encoder."""
    tokenizer = build_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=LATENT_PX,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=WIDTHS,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=32,
        norm_num_groups=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=CODE_WIDTH,
    )
    return Parts(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        vae=build_vae(),
        scheduler=build_scheduler(),
    )
