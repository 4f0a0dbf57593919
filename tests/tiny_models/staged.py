"""Families of several stages: a prior, a language model or a guard stands beside the denoiser."""

import io
import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp

from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    GlmImagePipeline,
    GlmImageTransformer2DModel,
    KandinskyV22CombinedPipeline,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    ByT5Tokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    GlmImageImageProcessor,
    GlmImageProcessor,
    PreTrainedTokenizer,
)

from tests.tiny_models.families import kl_vae, stirred
from tests.tiny_models.text_encoders import WIDTH, byt5_encoder, projected_clip_encoder
from tests.tiny_models.tokenizers import CHAT_TEMPLATE, byte_tokenizer, clip_tokenizer
from tests.tiny_models.unets import movq, unet


def kandinsky22() -> KandinskyV22CombinedPipeline:
    """Kandinsky 2.2 with its prior, whose embedding of a picture guides the decoder."""
    tokenizer = clip_tokenizer()
    prior = PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=WIDTH,
        num_layers=1,
        num_embeddings=tokenizer.model_max_length,
    )
    nn.init.ones_(prior.clip_std)
    return KandinskyV22CombinedPipeline(
        unet=UNet2DConditionModel(
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(16, 32),
            norm_num_groups=8,
            layers_per_block=1,
            encoder_hid_dim=WIDTH,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
        ),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        movq=movq(levels=2),
        prior_prior=stirred(prior),
        prior_image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=37,
                projection_dim=WIDTH,
                num_hidden_layers=1,
                num_attention_heads=4,
                image_size=32,
                patch_size=16,
            )
        ),
        prior_text_encoder=projected_clip_encoder(tokenizer),
        prior_tokenizer=tokenizer,
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0
        ),
        prior_image_processor=CLIPImageProcessor(crop_size=32, size={"shortest_edge": 32}),
    )


def kolors() -> DiffusionPipeline:
    """Kolors, whose ChatGLM reads pieces of SentencePiece."""
    # Importing these warns, so that nobody should do it who builds other families.
    from diffusers.pipelines.kolors import KolorsPipeline, text_encoder

    chatglm = text_encoder.ChatGLMModel(
        text_encoder.ChatGLMConfig(
            num_layers=2,
            padded_vocab_size=128,
            hidden_size=WIDTH,
            ffn_hidden_size=37,
            kv_channels=8,
            num_attention_heads=4,
            seq_length=256,
            original_rope=True,
            use_cache=True,
        )
    )
    # The model leaves what was in memory in its weights.
    for parameter in chatglm.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.ndim > 1 else 1.0)
    return KolorsPipeline(
        vae=kl_vae(),
        text_encoder=chatglm,
        tokenizer=_chatglm_tokenizer(),
        unet=unet(
            cross_attention_dim=WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        ),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    )


def glm_image() -> GlmImagePipeline:
    """GLM-Image, whose language model writes the tokens that its transformer paints."""
    names = {
        "image_token": "<|image|>",
        "grid_bos_token": "<|grid_start|>",
        "grid_eos_token": "<|grid_end|>",
    }
    tokenizer = byte_tokenizer(model_specific_special_tokens=names, bos_token="<s>")
    return GlmImagePipeline(
        tokenizer=ByT5Tokenizer(),
        processor=GlmImageProcessor(
            GlmImageImageProcessor(), tokenizer, chat_template=CHAT_TEMPLATE
        ),
        text_encoder=byt5_encoder(),
        vision_language_encoder=GlmImageForConditionalGeneration(
            GlmImageConfig(
                text_config={
                    "vocab_size": 1024,
                    "vision_vocab_size": 128,
                    "hidden_size": WIDTH,
                    "intermediate_size": WIDTH,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "max_position_embeddings": 1024,
                    "initializer_range": 0.3,
                    "eos_token_id": None,
                    "pad_token_id": tokenizer.pad_token_id,
                    "rope_parameters": {
                        "rope_type": "default",
                        "rope_theta": 10000.0,
                        "mrope_section": (4, 2, 2),
                    },
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": WIDTH,
                    "intermediate_size": WIDTH,
                    "num_heads": 2,
                    "image_size": 32,
                    "patch_size": 8,
                },
                vq_config={"embed_dim": WIDTH, "num_embeddings": 128, "latent_channels": WIDTH},
            )
        ),
        vae=kl_vae((8, 8, 8, 8), latents_mean=[0.0] * 4, latents_std=[1.0] * 4),
        transformer=stirred(
            GlmImageTransformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                text_embed_dim=WIDTH,
                time_embed_dim=16,
                condition_dim=8,
                prior_vq_quantizer_codebook_size=128,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def _chatglm_tokenizer() -> PreTrainedTokenizer:
    # Only this family needs the package.
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
    from sentencepiece import SentencePieceTrainer

    letters = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog", "a red fox"]),
        model_writer=letters,
        model_type="char",
        vocab_size=64,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    folder = mkdtemp()
    path = Path(folder, "tokenizer.model")
    path.write_bytes(letters.getvalue())
    tokenizer = ChatGLMTokenizer(str(path))
    # The tokenizer copies this file when it is saved, so the folder lives as long as it does.
    weakref.finalize(tokenizer, shutil.rmtree, folder)
    return tokenizer
