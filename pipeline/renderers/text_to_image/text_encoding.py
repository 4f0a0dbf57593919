"""Texts are encoded alone, each once, whatever other texts are in a call.

In some families a text is padded to the longest of its call, and everywhere a text encoder computes
other floats in another batch. Here the class's own `encode_prompt` is called for one text at a
time, so that what the network reads is what it reads in the stock call of that prompt alone.
"""

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pipeline.errors import ModelError

MAX_CACHED_BYTES = 256 << 20
"""Of encodings that are kept, on the device: those of about 60 prompts of FLUX, 1,700 of SD 1.5."""


class TextEncodings:
    """Encodings of prompts, kept for the next views of a caption."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._num_bytes = 0

    @contextmanager
    def of(self, pipe: Any) -> Iterator[None]:
        """Within it, a call of the pipeline encodes each of its prompts alone.

        Raises:
            ModelError: Encodings of two prompts differ in length, so that no batch holds both.
        """
        encode = pipe.encode_prompt
        signature = inspect.signature(encode)

        def encode_alone(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            # The prompts, those for a second encoder and the negative ones: a text for each view.
            texts = {
                name: value for name, value in bound.arguments.items() if _are_prompts(name, value)
            }
            others = repr({k: v for k, v in bound.arguments.items() if k not in texts})
            encodings = []
            for row in zip(*texts.values(), strict=True):
                key = (*texts, row, others)
                if key not in self._kept:
                    bound.arguments.update({name: [text] for name, text in zip(texts, row)})  # noqa: B905
                    self._keep(key, encode(*bound.args, **bound.kwargs))
                self._kept.move_to_end(key)
                encodings.append(self._kept[key])
            self._forget()
            return _joined(type(pipe).__name__, encodings)

        pipe.encode_prompt = encode_alone
        try:
            yield
        finally:
            del pipe.encode_prompt  # the method of the class is there again

    def clear(self) -> None:
        """Give back the memory of all encodings."""
        self._kept.clear()
        self._num_bytes = 0

    def _keep(self, key: Any, encoding: Any) -> None:
        self._kept[key] = encoding
        self._num_bytes += _num_bytes(encoding)

    def _forget(self) -> None:
        """Drop what was not read for the longest time."""
        while self._num_bytes > MAX_CACHED_BYTES and len(self._kept) > 1:
            self._num_bytes -= _num_bytes(self._kept.popitem(last=False)[1])


def _are_prompts(name: str, value: Any) -> bool:
    # By name, because some classes also take lines of an instruction, which is the same for all.
    is_named = name.startswith(("prompt", "negative_prompt"))
    return is_named and isinstance(value, list) and all(isinstance(item, str) for item in value)


def _num_bytes(encoding: Any) -> int:
    if isinstance(encoding, torch.Tensor):
        return encoding.nbytes
    if isinstance(encoding, Mapping):
        encoding = list(encoding.values())
    return sum(map(_num_bytes, encoding)) if isinstance(encoding, list | tuple) else 0


def _joined(pipeline: str, encodings: Sequence[Any]) -> Any:
    """One encoding of all prompts, as the class itself gives it for a list of them."""
    first = encodings[0]
    if isinstance(first, tuple):
        return tuple(_joined(pipeline, parts) for parts in zip(*encodings, strict=True))
    if isinstance(first, list):
        return [item for encoding in encodings for item in encoding]
    if not isinstance(first, torch.Tensor):
        return first  # None, where there is no negative prompt
    if len({encoding.shape for encoding in encodings}) > 1:
        raise ModelError(
            f"{pipeline}: encodings of two prompts have different lengths; give "
            "renderer.captions_per_batch one"
        )
    if first.shape[0] == 1:
        return torch.cat(list(encodings))
    # Without an axis for prompts, such as the places of tokens: the same for all.
    if not all(torch.equal(first, encoding) for encoding in encodings[1:]):
        raise ModelError(
            f"{pipeline}: encodings of prompts cannot be joined; give "
            "renderer.captions_per_batch one"
        )
    return first
