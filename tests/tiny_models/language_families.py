"""Transformer families whose prompts are read by a language model."""

from diffusers import (
    AutoencoderKLWan,
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    LuminaPipeline,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
    PRXPipeline,
    PRXTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch import nn
from transformers import GemmaConfig, GemmaModel, Qwen3ForCausalLM, Qwen3Model

from tests.tiny_models.families import SIZE_PX, dc_vae, flux2_vae, flux_vae, kl_vae, stirred
from tests.tiny_models.text_encoders import (
    NARROW,
    gemma2_encoder,
    glm_encoder,
    language_model,
    qwen3_encoder,
    smollm3_encoder,
    t5gemma_encoder,
)
from tests.tiny_models.tokenizers import byte_tokenizer, gemma_tokenizer, qwen_tokenizer


def sana() -> SanaPipeline:
    """Sana."""
    tokenizer = gemma_tokenizer()
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=gemma2_encoder(tokenizer),
        vae=dc_vae(),
        transformer=_sana(),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


def sana_sprint() -> SanaSprintPipeline:
    """Sana Sprint, whose transformer is told the scale of guidance."""
    tokenizer = gemma_tokenizer()
    return SanaSprintPipeline(
        tokenizer=tokenizer,
        text_encoder=gemma2_encoder(tokenizer),
        vae=dc_vae(),
        transformer=_sana(guidance_embeds=True, qk_norm="rms_norm_across_heads"),
        scheduler=SCMScheduler(),
    )


def lumina_next() -> LuminaPipeline:
    """Lumina Next."""
    tokenizer = gemma_tokenizer()
    transformer = stirred(
        LuminaNextDiT2DModel(
            sample_size=SIZE_PX // 8,
            hidden_size=16,
            num_layers=2,
            num_attention_heads=2,
            num_kv_heads=2,
            multiple_of=16,
            cross_attention_dim=NARROW,
        )
    )
    # The model leaves what was in memory in this one.
    nn.init.normal_(transformer.pad_token)
    return LuminaPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=kl_vae((8, 8, 8, 8)),
        text_encoder=language_model(GemmaModel, GemmaConfig, tokenizer),
        tokenizer=tokenizer,
    )


def lumina2() -> Lumina2Pipeline:
    """Lumina 2."""
    tokenizer = gemma_tokenizer()
    return Lumina2Pipeline(
        transformer=stirred(
            Lumina2Transformer2DModel(
                sample_size=SIZE_PX // 8,
                in_channels=4,
                hidden_size=32,
                num_layers=2,
                num_refiner_layers=1,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=16,
                axes_dim_rope=(8, 4, 4),
                cap_feat_dim=NARROW,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=flux_vae((8, 8, 8, 8)),
        text_encoder=gemma2_encoder(tokenizer),
        tokenizer=tokenizer,
    )


def prx() -> PRXPipeline:
    """PRX, which guides one picture a call; a call for more fails in diffusers 0.42."""
    tokenizer = gemma_tokenizer(256)
    return PRXPipeline(
        transformer=stirred(
            PRXTransformer2DModel(
                in_channels=4,
                patch_size=2,
                context_in_dim=NARROW,
                hidden_size=32,
                num_heads=2,
                depth=2,
                axes_dim=[8, 8],
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=t5gemma_encoder(tokenizer),
        tokenizer=tokenizer,
        vae=flux_vae(),
        default_sample_size=SIZE_PX // 2,
    )


def cogview4() -> CogView4Pipeline:
    """CogView 4, whose prompts are padded on the left."""
    tokenizer = byte_tokenizer(("[gMASK]", "<sop>"), "<|endoftext|>", padding_side="left")
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=glm_encoder(tokenizer),
        vae=kl_vae(),
        transformer=stirred(
            CogView4Transformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                text_embed_dim=NARROW,
                time_embed_dim=8,
                condition_dim=4,
                sample_size=SIZE_PX // 2,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_shift=0.25,
            max_shift=0.75,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    )


def z_image() -> ZImagePipeline:
    """Z-Image, whose prompts keep lengths of their own."""
    tokenizer = qwen_tokenizer()
    transformer = stirred(
        ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=NARROW,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 32, 32],
        )
    )
    # The model leaves what was in memory in these two.
    nn.init.normal_(transformer.x_pad_token)
    nn.init.normal_(transformer.cap_pad_token)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flux_vae(),
        text_encoder=qwen3_encoder(Qwen3Model, tokenizer),
        tokenizer=tokenizer,
        transformer=transformer,
    )


def ovis() -> OvisImagePipeline:
    """Ovis Image."""
    tokenizer = qwen_tokenizer()
    return OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux_vae(),
        text_encoder=qwen3_encoder(Qwen3Model, tokenizer),
        tokenizer=tokenizer,
        transformer=stirred(
            OvisImageTransformer2DModel(
                in_channels=16,
                out_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=NARROW,
                axes_dims_rope=(4, 4, 8),
            )
        ),
    )


def flux2_klein() -> Flux2KleinPipeline:
    """Flux 2 klein, which reads the states of three layers, the last of them the 27th."""
    tokenizer = qwen_tokenizer()
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux2_vae(),
        text_encoder=qwen3_encoder(Qwen3ForCausalLM, tokenizer, num_hidden_layers=28),
        tokenizer=tokenizer,
        transformer=flux2_transformer(guidance_embeds=False),
    )


def bria_fibo() -> BriaFiboPipeline:
    """Bria Fibo, which names the token 128000 for an empty prompt."""
    tokenizer = byte_tokenizer(("<|begin_of_text|>",), "<|end_of_text|>")
    narrow = {"hidden_size": 4, "intermediate_size": 16, "head_dim": 2}
    return BriaFiboPipeline(
        transformer=stirred(
            BriaFiboTransformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=8,
                text_encoder_dim=4,
                axes_dims_rope=[0, 4, 4],
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLWan(
            base_dim=4,
            decoder_base_dim=4,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            is_residual=True,
            scale_factor_spatial=16,
            latents_mean=[0.0] * 16,
            latents_std=[1.0] * 16,
        ),
        text_encoder=smollm3_encoder(tokenizer, vocab_size=128001, **narrow),
        tokenizer=tokenizer,
    )


def flux2_transformer(guidance_embeds: bool) -> Flux2Transformer2DModel:
    """The transformer of Flux 2 over three states of a narrow text encoder."""
    return stirred(
        Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * NARROW,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=guidance_embeds,
        )
    )


def _sana(guidance_embeds: bool = False, qk_norm: str | None = None) -> SanaTransformer2DModel:
    return stirred(
        SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=NARROW,
            sample_size=SIZE_PX // 2,
            guidance_embeds=guidance_embeds,
            qk_norm=qk_norm,
        )
    )
