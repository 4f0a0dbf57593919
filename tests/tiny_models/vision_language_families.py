"""Transformer families whose prompts are read by a model for text and pictures."""

from diffusers import (
    AutoencoderKLHunyuanImage,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2Pipeline,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import (
    ByT5Tokenizer,
    PixtralImageProcessor,
    PixtralProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from tests.tiny_models.families import flux2_vae, flux_vae, kl_vae, qwen_vae, stirred
from tests.tiny_models.language_families import flux2_transformer
from tests.tiny_models.text_encoders import (
    NARROW,
    WIDTH,
    byt5_encoder,
    clip_encoder,
    mistral3_encoder,
    qwen2_5_vl_encoder,
    qwen3_vl_encoder,
)
from tests.tiny_models.tokenizers import (
    CHAT_TEMPLATE,
    byte_tokenizer,
    clip_tokenizer,
    qwen_tokenizer,
)


def qwen_image() -> QwenImagePipeline:
    """Qwen-Image."""
    tokenizer = qwen_tokenizer()
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=qwen_vae(),
        text_encoder=qwen2_5_vl_encoder(tokenizer),
        tokenizer=tokenizer,
        transformer=stirred(
            QwenImageTransformer2DModel(
                in_channels=16,
                out_channels=4,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=NARROW,
                axes_dims_rope=(8, 4, 4),
            )
        ),
    )


def flux2() -> Flux2Pipeline:
    """Flux 2 dev, which reads the states of three layers, the last of them the 30th."""
    tokenizer = byte_tokenizer()
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(), tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    )
    return Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux2_vae(),
        text_encoder=mistral3_encoder(tokenizer, layers=31),
        tokenizer=processor,
        transformer=flux2_transformer(guidance_embeds=True),
    )


def kandinsky5() -> Kandinsky5T2IPipeline:
    """Kandinsky 5 for pictures, which come in sizes of about a million pixels and no other."""
    tokenizer, clip = qwen_tokenizer(), clip_tokenizer(77)
    return Kandinsky5T2IPipeline(
        transformer=stirred(
            Kandinsky5Transformer3DModel(
                in_visual_dim=4,
                out_visual_dim=4,
                in_text_dim=NARROW,
                in_text_dim2=WIDTH,
                time_dim=16,
                model_dim=16,
                ff_dim=32,
                num_text_blocks=1,
                num_visual_blocks=1,
                axes_dims=(4, 6, 6),
            )
        ),
        vae=kl_vae((4, 4, 4, 4), norm_num_groups=2),
        text_encoder=qwen2_5_vl_encoder(tokenizer),
        tokenizer=_qwen_processor(tokenizer),
        text_encoder_2=clip_encoder(clip),
        tokenizer_2=clip,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def longcat() -> LongCatImagePipeline:
    """LongCat Image."""
    tokenizer = qwen_tokenizer()
    return LongCatImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux_vae(latent_channels=16),
        text_encoder=qwen2_5_vl_encoder(tokenizer),
        tokenizer=tokenizer,
        text_processor=_qwen_processor(tokenizer),
        transformer=stirred(
            LongCatImageTransformer2DModel(
                in_channels=64,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=NARROW,
                pooled_projection_dim=NARROW,
                axes_dims_rope=[4, 4, 8],
            )
        ),
    )


def krea2() -> Krea2Pipeline:
    """Krea 2, whose transformer fuses the states of several layers of the text encoder."""
    tokenizer = qwen_tokenizer()
    return Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=qwen_vae(),
        text_encoder=qwen3_vl_encoder(tokenizer, layers=2),
        tokenizer=tokenizer,
        transformer=stirred(
            Krea2Transformer2DModel(
                in_channels=16,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=4,
                num_key_value_heads=2,
                intermediate_size=32,
                timestep_embed_dim=8,
                text_hidden_dim=NARROW,
                num_text_layers=3,
                text_num_attention_heads=2,
                text_num_key_value_heads=1,
                text_intermediate_size=16,
                num_layerwise_text_blocks=1,
                num_refiner_text_blocks=1,
                axes_dims_rope=(4, 2, 2),
            )
        ),
        text_encoder_select_layers=(0, 1, 2),
    )


def ernie() -> ErnieImagePipeline:
    """Ernie Image, without its rewriter of prompts."""
    tokenizer = byte_tokenizer()
    return ErnieImagePipeline(
        transformer=stirred(
            ErnieImageTransformer2DModel(
                hidden_size=32,
                num_attention_heads=2,
                num_layers=2,
                ffn_hidden_size=32,
                in_channels=16,
                out_channels=16,
                text_in_dim=NARROW,
                rope_axes_dim=(8, 4, 4),
            )
        ),
        vae=flux2_vae(),
        text_encoder=mistral3_encoder(tokenizer, layers=2).model,
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        pe=None,
        pe_tokenizer=None,
    )


def hunyuan_image() -> HunyuanImagePipeline:
    """Hunyuan Image 2.1, the distilled one, which is told the scale of guidance."""
    tokenizer = qwen_tokenizer()
    return HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            layers_per_block=1,
            spatial_compression_ratio=8,
            sample_size=32,
            scaling_factor=0.75289,
        ),
        text_encoder=qwen2_5_vl_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=byt5_encoder(),
        tokenizer_2=ByT5Tokenizer(),
        transformer=stirred(
            HunyuanImageTransformer2DModel(
                in_channels=4,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=8,
                num_layers=1,
                num_single_layers=1,
                num_refiner_layers=1,
                guidance_embeds=True,
                text_embed_dim=NARROW,
                text_embed_2_dim=None,
                rope_axes_dim=(4, 4),
            )
        ),
    )


def _qwen_processor(tokenizer: Qwen2Tokenizer) -> Qwen2VLProcessor:
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
