"""Any text-to-image pipeline of diffusers, called as its own documentation calls it.

A view is, bit for bit, what `pipe(prompt, generator=[torch.Generator().manual_seed(seed)], ...)`
gives in a batch of the recipe's size. The noise is drawn on the CPU, so a seed means the same noise
on any device. A safety checker is never run: it would replace pictures silently (docs/adr/0007).
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch

from manifests.columns import DeclaredColumn, Value
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line
from manifests.ids import NUM_SEEDS
from manifests.rows import SubjectRow
from pipeline.batching import fill_up, render_in_batches
from pipeline.embedded import vocabulary
from pipeline.errors import ModelError, RenderError, RenderMemoryError
from pipeline.models import find_model
from pipeline.renderers import Renderer
from pipeline.renderers.text_to_image.architecture import Architecture
from pipeline.renderers.text_to_image.batch_size import find_batch_size
from pipeline.renderers.text_to_image.config import COLUMNS, SIGMA, TextToImageConfig
from pipeline.renderers.text_to_image.loading import keep_random_state, load_pipeline
from pipeline.renderers.text_to_image.neighbourhood import can_mix, mixed_noise
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest

log = logging.getLogger(__name__)


class TextToImage(Renderer):
    """Renderer `text-to-image`. The laws are in `pipeline.renderers`."""

    Config = TextToImageConfig
    kinds = ("caption",)

    def __init__(self, config: TextToImageConfig) -> None:
        self.config: TextToImageConfig = config
        self.model = find_model(config.model)
        self._architecture = Architecture(model=self.model)
        self.device = _device(config.device)
        self.dtype: str = config.dtype
        if config.dtype == "auto":
            self.dtype = "float32" if self.device == "cpu" else "bfloat16"
        self.steps: int = config.steps or self._architecture.call["num_inference_steps"].default
        self.scheduler_class = self._architecture.scheduler_class(config.scheduler)
        self.size_px = self._architecture.size_px(config.size_px)

    @property
    def batch_size(self) -> int:
        """Views computed at once."""
        assert self.config.batch_size != "auto", "probe the renderer first"
        return self.config.batch_size

    def resources(self) -> Resources:
        """One GPU, or as many cores as it has threads."""
        return Resources(device_type=self.device, threads=self.config.threads)

    def columns(self) -> Sequence[DeclaredColumn]:
        """Columns of a diffusion pipeline, in the rows after those that every set has."""
        return (*COLUMNS, SIGMA) if self.config.sigma else COLUMNS

    def variations(self) -> Sequence[Mapping[str, Value]]:
        """The guidance scales, each with each sigma."""
        scales: list[Mapping[str, Value]] = [{"guidance_scale": w} for w in self.config.guidance]
        if not self.config.sigma:
            return scales
        return [{**scale, "sigma": sigma} for scale in scales for sigma in self.config.sigma]

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse what this model would ignore, warn of unknown words. Raises ConfigError."""
        of_subjects = any(subject.values["negative_prompt"] for subject in subjects)
        has_negative_prompts = of_subjects or bool(self.config.negative_prompt)
        if self.config.sigma and not can_mix(self._architecture.pipeline_class):
            raise ConfigError(
                f"renderer.sigma: {self._architecture.pipeline_name} draws its noise where it "
                "cannot be mixed; leave sigma out"
            )
        self._architecture.check_guidance(self.config.guidance, has_negative_prompts)
        unknown = vocabulary.warning(self.model.folder, (subject.text for subject in subjects))
        if unknown:
            log.warning("%s: %s", self.model.name, unknown)

    def frozen(self) -> TextToImageConfig:
        """The configuration with the device and dtype that `auto` stands for here."""
        return self.config.model_copy(update={"device": self.device, "dtype": self.dtype})

    def batch_key(self, request: ViewRequest) -> Hashable:
        """Guidance scale, sigma, and whether the caption has a negative prompt of its own.

        A call takes one guidance scale. And some models treat no negative prompt and an empty one
        differently, so a caption without one must not be in a call with captions that have one:
        a view must not depend on its neighbours.
        """
        return (
            request.variation["guidance_scale"],
            request.variation.get("sigma"),
            bool(request.subject.values["negative_prompt"]),
        )

    def identity(self) -> Mapping[str, Any]:
        """All that decides the pixels besides the requests."""
        return {
            "files": dict(self.model.files),
            "device_type": self.device,
            "batch_size": self.batch_size,
            "safety_checker": "not run",
            "call": self._architecture.switched_off,
            **({"noise": "mixed"} if self.config.sigma else {}),
            # On a GPU the threads of the CPU compute no float of a picture.
            **({"threads": self.config.threads} if self.device == "cpu" else {}),
        }

    def provenance(self) -> Provenance:
        """What the rows say."""
        return Provenance(
            model=self.model.name,
            revision=self.model.revision,
            width_px=self.size_px,
            height_px=self.size_px,
            constants={
                "pipeline": self._architecture.pipeline_name,
                "scheduler": self.scheduler_class.__name__,
                "steps": self.steps,
                "dtype": self.dtype,
                "default_negative_prompt": self.config.negative_prompt,
            },
        )

    @cached_property
    def _pipe(self) -> Any:
        """The loaded pipeline; loaded at the first use, because the driver often needs none."""
        return load_pipeline(
            self._architecture,
            scheduler_class=None if self.config.scheduler is None else self.scheduler_class,
            dtype=self.dtype,
            device=self.device,
        )

    def probe(self, requests: Sequence[ViewRequest]) -> "TextToImage":
        """The renderer with its batch size found, if that is `auto`."""
        if self.config.batch_size != "auto":
            return self
        # Guidance above 1 computes every step twice, so the highest scale decides what fits.
        request = max(requests, key=lambda request: request.variation["guidance_scale"])
        measured = find_batch_size(lambda size: self._render_batch(fill_up([request], size)))
        if measured is None:
            raise ModelError(
                f"{self.model.folder}: does not fit into the memory of {self.device} even in "
                "batches of 8; give --batch-size 1, a smaller --size or a smaller dtype"
            )
        log.info("batch size %d: %.1f views/s", measured.batch_size, 1 / measured.view_s)
        settled = TextToImage(self.config.model_copy(update={"batch_size": measured.batch_size}))
        settled.__dict__["_pipe"] = self._pipe  # which is loaded, and serves this one as well
        return settled

    def release(self) -> None:
        self.__dict__.pop("_pipe", None)
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        """Pixels of requests, in their order."""
        return render_in_batches(requests, self.batch_size, self.batch_key, self._render_batch)

    def _render_batch(self, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        try:
            try:
                return self._call_pipeline(batch)
            except (torch.OutOfMemoryError, MemoryError):
                # Once more at the same size, with the allocator's cache given back: the batches of
                # another guidance scale may have fragmented it. A smaller batch would change the
                # pixels.
                if self.device == "cuda":
                    torch.cuda.empty_cache()
                return self._call_pipeline(batch)
        except (torch.OutOfMemoryError, MemoryError) as exc:
            raise RenderMemoryError(
                f"{batch[0].key}: out of memory on {self.device} at batch size {len(batch)}, twice;"
                " begin a set with a smaller --batch-size"
            ) from exc
        except ModelError:
            raise  # the model cannot be loaded; other requests would fail as well
        except Exception as exc:
            raise RenderError(
                f"{batch[0].key} to {batch[-1].key}: {type(exc).__name__}: {one_line(exc)}"
            ) from exc

    def _call_pipeline(self, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        """One call of the pipeline for requests of one `batch_key`."""
        scale = batch[0].variation["guidance_scale"]
        assert isinstance(scale, float)
        captions = [request.subject.text for request in batch]
        arguments: dict[str, Any] = dict(self._architecture.switched_off)
        negatives = [
            request.subject.values["negative_prompt"] or self.config.negative_prompt
            for request in batch
        ]
        guidance = self._architecture.guidance
        arguments[guidance.argument] = scale
        # Guided views only: without guidance a negative prompt steers nothing.
        if guidance.is_guided(scale):
            if any(negatives):
                arguments["negative_prompt"] = negatives
            elif guidance.empty_negative is not None:
                arguments["negative_prompt"] = [guidance.empty_negative] * len(batch)
        pipe = self._pipe
        # Set at each call, because other code of the process may have changed it, and floats
        # depend on it.
        if self.device == "cpu" and torch.get_num_threads() != self.config.threads:
            torch.set_num_threads(self.config.threads)
        generators = [torch.Generator().manual_seed(request.seed) for request in batch]
        sigma = batch[0].variation.get("sigma")
        mixing: AbstractContextManager[None] = nullcontext()
        if isinstance(sigma, float):
            # Of the caption alone, so that its anchor is the same in every set.
            anchors = [request.subject.group_id % NUM_SEEDS for request in batch]
            mixing = mixed_noise(pipe, generators, anchors, sigma)
        with keep_random_state(), torch.inference_mode(), mixing:
            images = pipe(
                prompt=captions,
                height=self.size_px,
                width=self.size_px,
                num_inference_steps=self.steps,
                generator=generators,
                output_type="np",
                **arguments,
            ).images
        if images.shape[1:3] != (self.size_px, self.size_px):
            raise ModelError(
                f"{self.model.name}: renders {images.shape[2]} x {images.shape[1]} px where "
                f"{self.size_px} x {self.size_px} are asked for; give --size {images.shape[2]}, or "
                "another that it renders"
            )
        # [views, height, width, 3], 0 to 1. To 8 bits as diffusers does it for its own pictures;
        # NaN has no 8-bit value, and `is_finite` says that such pixels mean nothing.
        finite = np.isfinite(images).all(axis=(1, 2, 3))
        pixels = (np.nan_to_num(images) * 255).round().clip(0, 255).astype(np.uint8)
        cut = self._count_cut_tokens(captions)
        return [
            RenderedView(pixels=view, is_finite=bool(ok), values={"num_tokens_cut": num_cut})
            for view, ok, num_cut in zip(pixels, finite, cut, strict=True)
        ]

    def _count_cut_tokens(self, captions: Sequence[str]) -> list[int]:
        """How many tokens of each caption the model's text encoders do not read, 0 or more.

        Where a model has several text encoders, the one that cuts most counts.
        """
        counts = dict.fromkeys(captions, 0)
        call = self._architecture.call
        for name, tokenizer in self._pipe.components.items():
            if not name.startswith("tokenizer") or tokenizer is None:
                continue
            limit = tokenizer.model_max_length
            # Pipelines cut the text of any encoder but CLIP's at an argument of the call, often
            # below what the tokenizer states.
            if "max_sequence_length" in call and "clip" not in type(tokenizer).__name__.lower():
                limit = min(limit, call["max_sequence_length"].default)
            for caption in counts:
                length = len(tokenizer(caption, verbose=False).input_ids)
                counts[caption] = max(counts[caption], length - limit)
        return [counts[caption] for caption in captions]


def _device(setting: str) -> str:
    """The device type that a setting means on this machine.

    `cuda` is not checked here: a driver without a GPU may begin a set for workers that have one.
    """
    return ("cuda" if torch.cuda.is_available() else "cpu") if setting == "auto" else setting
