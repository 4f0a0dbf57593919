"""How much of a caption the text encoders of a pipeline do not read."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any


def count_cut_tokens(
    pipe: Any,
    call: Mapping[str, inspect.Parameter],
    captions: Sequence[str],
    max_sequence_length: int | None,
) -> list[int]:
    """Tokens of each caption beyond the limit, 0 or more.

    Where a model has several text encoders, the one that cuts most counts.

    Args:
        pipe: A loaded pipeline.
        call: Arguments of its call.
        max_sequence_length: What the call is given; None for its default.
    """
    counts = dict.fromkeys(captions, 0)
    for name, tokenizer in pipe.components.items():
        if not name.startswith(("tokenizer", "processor")) or tokenizer is None:
            continue
        if not hasattr(tokenizer, "model_max_length"):
            tokenizer = tokenizer.tokenizer  # that of a processor of pictures
        limit = tokenizer.model_max_length
        # Pipelines cut the text of any encoder but CLIP's at an argument of the call, often below
        # what the tokenizer states.
        if "max_sequence_length" in call and "clip" not in type(tokenizer).__name__.lower():
            limit = min(limit, max_sequence_length or call["max_sequence_length"].default or limit)
        for caption in counts:
            length = len(tokenizer(caption, verbose=False).input_ids)
            counts[caption] = max(counts[caption], length - limit)
    return [counts[caption] for caption in captions]
