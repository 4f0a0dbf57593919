"""Small tokenizers of the kinds that text encoders read, made of letters and a few words."""

import json
from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    CLIPTokenizer,
    GemmaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5TokenizerFast,
)

CLIP_TOKENS = 16

# Pipelines cut a fixed number of tokens off the instruction that they put before a prompt, so
# these words have to be single tokens, as they are in the vocabularies of real models.
_WORDS = (
    "Describe the image by detailing color shape size texture quantity text spatial relationships "
    "of objects and background system user assistant You are a prompt engineer As an captioning "
    "expert generate descriptive based on content suitable for input to model designed superior "
    "images with degree alignment textual prompts or User Prompt Enhanced Start think that as "
    "structured precise coherent reason about each object its attributes red fox blue car in"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
_CHAT_TOKENS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
_VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def clip_tokenizer(length: int = CLIP_TOKENS) -> CLIPTokenizer:
    """Bytes, each with and without the end of a word."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokens = sorted(letters) + sorted(f"{letter}</w>" for letter in letters)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    vocabulary |= {"<|startoftext|>": len(tokens), "<|endoftext|>": len(tokens) + 1}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=length)


def t5_tokenizer(length: int = 120) -> T5TokenizerFast:
    """Letters, as a Unigram model."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(code), -4.0) for code in range(ord("a"), ord("z") + 1)]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=2))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    return T5TokenizerFast(tokenizer_object=unigram, extra_ids=0, model_max_length=length)


def bert_tokenizer() -> BertTokenizer:
    """Letters, at the start and inside of words."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    tokens += [f"##{letter}" for letter in letters]
    return BertTokenizer(vocab={token: index for index, token in enumerate(tokens)})


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes and words, with the tokens of a chat, as the Qwen models read them."""
    vocabulary, merges = _bytes_and_words()
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, extra_special_tokens=_CHAT_TOKENS + _VISION_TOKENS
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def gemma_tokenizer(length: int = 512) -> GemmaTokenizer:
    """Letters and words with a token at the start of every text."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    vocabulary, merges = _bytes_and_words()
    tokens = [*special, *(token.replace("\u0120", "\u2581") for token in vocabulary)]
    tokenizer = GemmaTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[tuple(part.replace("\u0120", "\u2581") for part in pair) for pair in merges],
        model_max_length=length,
        add_bos_token=True,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def byte_tokenizer(
    start: tuple[str, ...] = ("<s>",), end: str = "</s>", **more: Any
) -> PreTrainedTokenizerFast:
    """Bytes and words with tokens at the start of every text, as Llama, GLM and Mistral do."""
    vocabulary, merges = _bytes_and_words()
    tokens = {token: len(vocabulary) + index for index, token in enumerate((*start, end))}
    bpe = Tokenizer(models.BPE(vocab=vocabulary | tokens, merges=merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.TemplateProcessing(
        single=[*start, "$A"],
        pair=[*start, "$A", "$B"],
        special_tokens=[(token, tokens[token]) for token in start],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=end,
        pad_token=end,
        extra_special_tokens=[*start, *_CHAT_TOKENS],
        **more,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@cache
def _bytes_and_words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges that make a token of every byte and of every word."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([f"{word} {word}" for word in _WORDS.split()], trainer)
    model = json.loads(bpe.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]
