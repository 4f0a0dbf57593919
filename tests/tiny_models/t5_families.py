"""Transformer families whose prompts are read by T5, CLIP or BERT."""

from typing import Any

from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    BriaPipeline,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.models.transformers.transformer_bria import BriaTransformer2DModel

from tests.tiny_models.families import SIZE_PX, flux_vae, kl_vae, stirred
from tests.tiny_models.text_encoders import (
    WIDTH,
    bert_encoder,
    clip_encoder,
    llama_encoder,
    projected_clip_encoder,
    t5_encoder,
    umt5_encoder,
)
from tests.tiny_models.tokenizers import (
    bert_tokenizer,
    byte_tokenizer,
    clip_tokenizer,
    t5_tokenizer,
)


def pixart_alpha() -> PixArtAlphaPipeline:
    """PixArt alpha."""
    return PixArtAlphaPipeline(
        vae=kl_vae(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=_pixart(),
        scheduler=DPMSolverMultistepScheduler(),
    )


def pixart_sigma() -> PixArtSigmaPipeline:
    """PixArt sigma."""
    return PixArtSigmaPipeline(
        vae=kl_vae(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(300),
        transformer=stirred(_pixart()),
        scheduler=DPMSolverMultistepScheduler(),
    )


def stable_diffusion3() -> StableDiffusion3Pipeline:
    """Stable Diffusion 3, with all of its text encoders."""
    tokenizer = clip_tokenizer()
    return StableDiffusion3Pipeline(
        vae=flux_vae(),
        text_encoder=projected_clip_encoder(tokenizer),
        text_encoder_2=projected_clip_encoder(tokenizer),
        text_encoder_3=t5_encoder(2 * WIDTH),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=t5_tokenizer(512),
        transformer=stirred(
            SD3Transformer2DModel(
                sample_size=SIZE_PX // 2,
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=4,
                caption_projection_dim=32,
                joint_attention_dim=2 * WIDTH,
                pooled_projection_dim=2 * WIDTH,
                pos_embed_max_size=16,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux(guidance_embeds: bool) -> FluxPipeline:
    """Flux 1, whose dev model is told the scale of guidance and whose schnell model is not."""
    tokenizer = clip_tokenizer()
    return FluxPipeline(
        vae=flux_vae(),
        text_encoder=clip_encoder(tokenizer),
        text_encoder_2=t5_encoder(),
        tokenizer=tokenizer,
        tokenizer_2=t5_tokenizer(512),
        transformer=stirred(
            FluxTransformer2DModel(
                **_FLUX, pooled_projection_dim=32, guidance_embeds=guidance_embeds
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance_embeds),
    )


def chroma() -> ChromaPipeline:
    """Chroma."""
    return ChromaPipeline(
        vae=flux_vae(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(512),
        transformer=stirred(
            ChromaTransformer2DModel(
                **_FLUX,
                approximator_hidden_dim=32,
                approximator_layers=1,
                approximator_num_channels=16,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def aura_flow() -> AuraFlowPipeline:
    """AuraFlow."""
    return AuraFlowPipeline(
        vae=kl_vae(),
        text_encoder=umt5_encoder(),
        tokenizer=t5_tokenizer(256),
        transformer=stirred(
            AuraFlowTransformer2DModel(
                sample_size=SIZE_PX // 2,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                attention_head_dim=8,
                num_attention_heads=4,
                caption_projection_dim=32,
                joint_attention_dim=32,
                pos_embed_max_size=64,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def hunyuan_dit() -> HunyuanDiTPipeline:
    """Hunyuan-DiT, which reads a prompt with BERT and with T5."""
    tokenizer = bert_tokenizer()
    return HunyuanDiTPipeline(
        # The pipeline expects an eighth of the size whatever its autoencoder does.
        vae=kl_vae((8, 8, 8, 8)),
        text_encoder=bert_encoder(tokenizer, 77),
        tokenizer=tokenizer,
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(256),
        transformer=stirred(
            HunyuanDiT2DModel(
                sample_size=SIZE_PX // 8,
                patch_size=2,
                in_channels=4,
                hidden_size=24,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=3,
                cross_attention_dim=32,
                cross_attention_dim_t5=32,
                pooled_projection_dim=16,
            )
        ),
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def cogview3_plus() -> CogView3PlusPipeline:
    """CogView 3 plus."""
    return CogView3PlusPipeline(
        vae=kl_vae(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(224),
        transformer=stirred(
            CogView3PlusTransformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                text_embed_dim=32,
                time_embed_dim=8,
                condition_dim=4,
                pos_embed_max_size=16,
                sample_size=SIZE_PX // 2,
            )
        ),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False
        ),
    )


def bria() -> BriaPipeline:
    """Bria 3, whose latents are packed as in Flux."""
    return BriaPipeline(
        vae=kl_vae(shift_factor=0.0),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(128),
        transformer=stirred(BriaTransformer2DModel(**_FLUX, pooled_projection_dim=None)),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def hidream() -> HiDreamImagePipeline:
    """HiDream, with its four text encoders and its experts."""
    clip, llama = clip_tokenizer(128), byte_tokenizer()
    return HiDreamImagePipeline(
        # The pipeline renders 128 times 128 latents whatever the size.
        vae=flux_vae((8,)),
        text_encoder=projected_clip_encoder(clip),
        text_encoder_2=projected_clip_encoder(clip),
        text_encoder_3=t5_encoder(),
        text_encoder_4=llama_encoder(llama),
        tokenizer=clip,
        tokenizer_2=clip,
        tokenizer_3=t5_tokenizer(512),
        tokenizer_4=llama,
        transformer=stirred(
            HiDreamImageTransformer2DModel(
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=1,
                caption_channels=[32, 16],
                text_emb_dim=64,
                axes_dims_rope=(8, 4, 4),
                max_resolution=(32, 32),
                llama_layers=(0, 1),
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


_FLUX: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "axes_dims_rope": (4, 4, 8),
}


def _pixart() -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel(
        sample_size=SIZE_PX // 2,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        cross_attention_dim=16,
        caption_channels=32,
        use_additional_conditions=False,
    )
