"""Text encoders of two narrow layers with random weights."""

from typing import Any

from transformers import (
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3VLConfig,
    Qwen3VLModel,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

WIDTH = 32
NARROW = 16


def clip_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text model of CLIP."""
    return CLIPTextModel(_clip_config(tokenizer))


def projected_clip_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """The text model of CLIP with its projection."""
    return CLIPTextModelWithProjection(_clip_config(tokenizer))


def t5_encoder(width: int = WIDTH) -> T5EncoderModel:
    """The encoder of T5, as wide as the CLIP one unless told otherwise."""
    return T5EncoderModel(_t5_config(T5Config, vocab_size=64, d_model=width))


def umt5_encoder() -> UMT5EncoderModel:
    """The encoder of UMT5."""
    return UMT5EncoderModel(_t5_config(UMT5Config, vocab_size=64))


def byt5_encoder() -> T5EncoderModel:
    """A T5 encoder that reads bytes."""
    return T5EncoderModel(_t5_config(T5Config, vocab_size=384))


def bert_encoder(tokenizer: PreTrainedTokenizerBase, positions: int) -> BertModel:
    """A BERT that reads so many tokens at most."""
    return BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=positions,
            initializer_range=0.3,
        )
    )


def language_model(
    model: type[PreTrainedModel],
    config: type[Any],
    tokenizer: PreTrainedTokenizerBase,
    **more: Any,
) -> PreTrainedModel:
    """A decoder of the shape that Gemma, GLM, Llama, Qwen and their like share."""
    return model(config(**(_decoder(len(tokenizer)) | _token_ids(tokenizer) | more)))


def gemma2_encoder(tokenizer: PreTrainedTokenizerBase) -> Gemma2Model:
    """The decoder of Gemma 2."""
    return language_model(Gemma2Model, Gemma2Config, tokenizer, query_pre_attn_scalar=8)


def glm_encoder(tokenizer: PreTrainedTokenizerBase) -> GlmModel:
    """The decoder of GLM."""
    return language_model(GlmModel, GlmConfig, tokenizer)


def llama_encoder(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """The language model of Llama."""
    return language_model(LlamaForCausalLM, LlamaConfig, tokenizer)


def qwen3_encoder(
    model: type[PreTrainedModel], tokenizer: PreTrainedTokenizerBase, **more: Any
) -> PreTrainedModel:
    """A model of Qwen 3."""
    return language_model(model, Qwen3Config, tokenizer, **more)


def smollm3_encoder(tokenizer: PreTrainedTokenizerBase, **more: Any) -> SmolLM3ForCausalLM:
    """The language model of SmolLM 3."""
    return language_model(SmolLM3ForCausalLM, SmolLM3Config, tokenizer, **more)


def t5gemma_encoder(tokenizer: PreTrainedTokenizerBase) -> T5GemmaEncoder:
    """The encoder of T5Gemma."""
    module = T5GemmaModuleConfig(
        **_decoder(len(tokenizer)), **_token_ids(tokenizer), query_pre_attn_scalar=8
    )
    both = T5GemmaConfig(encoder=module, decoder=module, is_encoder_decoder=False)
    encoder = T5GemmaEncoder(both.encoder)
    # What diffusers reads out of a folder is the configuration of both halves.
    encoder.config = both
    return encoder


_VISION = {
    "depth": 1,
    "hidden_size": NARROW,
    "intermediate_size": NARROW,
    "num_heads": 2,
    "out_hidden_size": NARROW,
    "patch_size": 4,
}
"""The part of a Qwen model that sees pictures; no picture is given to it here."""


def qwen2_5_vl_encoder(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLForConditionalGeneration:
    """The model of Qwen 2.5 for text and pictures."""
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=_decoder(len(tokenizer))
            | _token_ids(tokenizer)
            | {"rope_parameters": rope, "bos_token_id": None},
            vision_config=_VISION,
            **_vision_ids(tokenizer),
        )
    )


def qwen3_vl_encoder(tokenizer: PreTrainedTokenizerBase, layers: int) -> Qwen3VLModel:
    """The model of Qwen 3 for text and pictures."""
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    return Qwen3VLModel(
        Qwen3VLConfig(
            text_config=_decoder(len(tokenizer))
            | _token_ids(tokenizer)
            | {"rope_parameters": rope, "num_hidden_layers": layers},
            vision_config=_VISION
            | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
            **_vision_ids(tokenizer),
        )
    )


def mistral3_encoder(
    tokenizer: PreTrainedTokenizerBase, layers: int
) -> Mistral3ForConditionalGeneration:
    """The model of Mistral Small 3 for text and pictures."""
    return Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config=_decoder(len(tokenizer))
            | _token_ids(tokenizer)
            | {"model_type": "mistral", "num_hidden_layers": layers},
            vision_config={
                "model_type": "pixtral",
                "hidden_size": NARROW,
                "intermediate_size": NARROW,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
            },
        )
    )


def _clip_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=37,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _t5_config(config: type[Any], vocab_size: int, d_model: int = WIDTH) -> Any:
    return config(
        vocab_size=vocab_size,
        d_model=d_model,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
    )


def _decoder(vocab_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": NARROW,
        "intermediate_size": NARROW,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        # Wider than usual, so that the states between layers say something about the text.
        "initializer_range": 0.3,
    }


def _token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _vision_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    names = {
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
