"""Families whose denoiser is a U-Net."""

from typing import Any

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    VQModel,
)

from tests.tiny_models.families import SIZE_PX, kl_vae
from tests.tiny_models.text_encoders import clip_encoder, projected_clip_encoder, t5_encoder
from tests.tiny_models.tokenizers import clip_tokenizer, t5_tokenizer


def stable_diffusion() -> StableDiffusionPipeline:
    """Stable Diffusion 1."""
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=kl_vae(),
        text_encoder=clip_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def latent_consistency() -> LatentConsistencyModelPipeline:
    """A latent consistency model, whose U-Net is told the scale of guidance."""
    tokenizer = clip_tokenizer()
    return LatentConsistencyModelPipeline(
        vae=kl_vae(),
        text_encoder=clip_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet(time_cond_proj_dim=32),
        scheduler=LCMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    """Stable Diffusion XL, with both of its text encoders."""
    tokenizer = clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=kl_vae(),
        text_encoder=clip_encoder(tokenizer),
        text_encoder_2=projected_clip_encoder(tokenizer),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet(
            cross_attention_dim=64,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
        ),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )


def kandinsky3() -> Kandinsky3Pipeline:
    """Kandinsky 3."""
    return Kandinsky3Pipeline(
        tokenizer=t5_tokenizer(128),
        text_encoder=t5_encoder(),
        unet=Kandinsky3UNet(
            time_embedding_dim=8,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(16, 32),
            cross_attention_dim=8,
            encoder_hid_dim=32,
        ),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", steps_offset=1),
        movq=movq(),
    )


def unet(**more: Any) -> UNet2DConditionModel:
    """A U-Net of two levels, the inner one of which attends to the text."""
    return UNet2DConditionModel(
        sample_size=SIZE_PX // 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=4,
        **({"cross_attention_dim": 32} | more),
    )


def movq(levels: int = 4) -> VQModel:
    """The autoencoder of the Kandinsky models, with an eighth of the size on four levels."""
    return VQModel(
        block_out_channels=(32,) * levels,
        down_block_types=("DownEncoderBlock2D",) * (levels - 1) + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * (levels - 1),
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
