"""One call of a pipeline for the requests of one batch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch

from manifests.columns import Value
from manifests.ids import NUM_SEEDS
from pipeline.renderers.text_to_image.architecture import Architecture
from pipeline.renderers.text_to_image.config import WHOLE, TextToImageConfig
from pipeline.renderers.text_to_image.feature_cache import cached_features
from pipeline.renderers.text_to_image.guidance_interval import guided_within
from pipeline.renderers.text_to_image.loading import keep_random_state
from pipeline.renderers.text_to_image.neighbourhood import mixed_noise
from pipeline.renderers.text_to_image.pixels import output_type, to_pixels
from pipeline.renderers.text_to_image.text_encoding import TextEncodings
from pipeline.renderers.text_to_image.tokens import count_cut_tokens
from pipeline.views import RenderedView, ViewRequest


@dataclass(frozen=True, kw_only=True)
class PipelineCall:
    """What all calls of a renderer share."""

    architecture: Architecture
    config: TextToImageConfig
    """With nothing left to be chosen but the batch size."""
    size_of: Callable[[Mapping[str, Value]], tuple[int, int]]
    """Width and height of the pictures of a variation."""
    _encodings: TextEncodings = field(default_factory=TextEncodings)

    def __call__(self, pipe: Any, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        """Views of requests of one `batch_key`.

        Raises:
            ModelError: The model does not do what its rows would say.
        """
        captions = [request.subject.text for request in batch]
        scale = batch[0].variation["guidance_scale"]
        assert isinstance(scale, float)
        width_px, height_px = self.size_of(batch[0].variation)
        arguments = self._arguments(pipe, scale)
        arguments |= {"width": width_px, "height": height_px}
        negatives = self._negatives(scale, batch)
        if self.config.captions_per_batch == "many":
            arguments["prompt"] = captions
            if negatives is not None:
                arguments["negative_prompt"] = negatives
        else:
            arguments |= {"prompt": captions[0], "num_images_per_prompt": len(batch)}
            if negatives is not None:
                arguments["negative_prompt"] = negatives[0]
        # Set at each call, because other code of the process may have changed it, and floats
        # depend on it.
        if self.config.device == "cpu" and torch.get_num_threads() != self.config.threads:
            torch.set_num_threads(self.config.threads)
        generators = [torch.Generator().manual_seed(request.seed) for request in batch]
        with ExitStack() as stack:
            stack.enter_context(keep_random_state())
            stack.enter_context(torch.inference_mode())
            if self.config.captions_per_batch == "many":
                stack.enter_context(self._encodings.of(pipe))
            if self.config.feature_cache > 1:
                stack.enter_context(cached_features(pipe.unet, self.config.feature_cache))
            is_guided = self.architecture.guidance.is_guided(scale)
            if is_guided and self.config.guidance_interval != WHOLE:
                interval = self.config.guidance_interval
                stack.enter_context(guided_within(pipe, interval, len(batch)))
            sigma = batch[0].variation.get("sigma")
            if isinstance(sigma, float):
                # Of the caption alone, so that its anchor is the same in every set.
                anchors = [request.subject.group_id % NUM_SEEDS for request in batch]
                stack.enter_context(mixed_noise(pipe, generators, anchors, sigma))
            output = pipe(generator=generators, **arguments)
        images = output.images if hasattr(output, "images") else output.image
        name = self.architecture.model.name
        views = to_pixels(images, width_px=width_px, height_px=height_px, name=name)
        limit = self.config.max_sequence_length
        cut = count_cut_tokens(pipe, self.architecture.call, captions, limit)
        return [
            RenderedView(pixels=pixels, is_finite=is_finite, values={"num_tokens_cut": num_cut})
            for (pixels, is_finite), num_cut in zip(views, cut, strict=True)
        ]

    def forget(self) -> None:
        """Give back the memory of encodings."""
        self._encodings.clear()

    def _arguments(self, pipe: Any, scale: float) -> dict[str, Any]:
        """Arguments that are the same for every view of a guidance scale, of whatever size."""
        optional = {
            "max_sequence_length": self.config.max_sequence_length,
            "clip_skip": self.config.clip_skip,
        }
        arguments: dict[str, Any] = {k: v for k, v in optional.items() if v is not None}
        if self.config.steps != 2 and "intermediate_timesteps" in self.architecture.call:
            # Sana-Sprint has a default of its call that fits two steps alone.
            arguments["intermediate_timesteps"] = None
        return {
            **self.architecture.switched_off,
            **arguments,
            self.architecture.guidance.argument: scale,
            "num_inference_steps": self.config.steps,
            "output_type": output_type(pipe),
        }

    def _negatives(self, scale: float, batch: Sequence[ViewRequest]) -> list[str] | None:
        """The negative prompt of each view; None where the call gets none.

        Guided views only: without guidance a negative prompt steers nothing.
        """
        guidance = self.architecture.guidance
        if not guidance.is_guided(scale):
            return None
        texts = [
            str(request.subject.values["negative_prompt"] or self.config.negative_prompt)
            for request in batch
        ]
        if any(texts):
            return texts
        if guidance.empty_negative is not None:
            return [guidance.empty_negative] * len(batch)
        return None
