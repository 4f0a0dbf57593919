"""Any text-to-image pipeline of diffusers, called as its own documentation calls it.

A view is, bit for bit, what `pipe(prompt, num_images_per_prompt=N, generator=[...], ...)` gives for
its caption alone, where N is the recipe's batch size and the view's generator is
`torch.Generator().manual_seed(seed)`; unless the recipe asks for `sigma`, `guidance_interval` or
`speed = "fast"`. The noise is drawn on the CPU, so a seed means the same noise
on any device. A safety checker is never run: it would replace pictures silently (docs/adr/0007).
"""

import gc
import itertools
import logging
import time
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from manifests.columns import DeclaredColumn, Value
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line
from manifests.rows import SubjectRow
from pipeline.batching import fill_up, render_in_batches
from pipeline.devices import has_gpu
from pipeline.embedded import vocabulary
from pipeline.errors import ModelError, RenderError, RenderMemoryError
from pipeline.models import find_model
from pipeline.renderers import Renderer
from pipeline.renderers.text_to_image.architecture import ONE_VIEW, Architecture
from pipeline.renderers.text_to_image.batch_size import (
    LARGEST_BATCH,
    choose_batch_size,
    largest_batch,
)
from pipeline.renderers.text_to_image.config import (
    COLUMNS,
    LORA,
    SIGMA,
    SIZE,
    WHOLE,
    TextToImageConfig,
    check_placement,
)
from pipeline.renderers.text_to_image.feature_cache import check_feature_cache
from pipeline.renderers.text_to_image.guidance import Guidance, is_known
from pipeline.renderers.text_to_image.neighbourhood import can_mix
from pipeline.renderers.text_to_image.overrides import open_loras, vae_files
from pipeline.renderers.text_to_image.single_file import open_single_file
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest

if TYPE_CHECKING:
    from pipeline.renderers.text_to_image.calling import PipelineCall

log = logging.getLogger(__name__)

BATCHES_TIMED = LARGEST_BATCH.bit_length()
"""Sizes of batches that are timed: 1, 2, 4, up to the largest that `auto` chooses."""


class TextToImage(Renderer):
    """Renderer `text-to-image`. The laws are in `pipeline.renderers`."""

    Config = TextToImageConfig
    kinds = ("caption",)

    def __init__(self, config: TextToImageConfig) -> None:
        self.model = find_model(config.model, config.variant)
        self._architecture = architecture = Architecture(model=self.model)
        device = config.device
        if device == "auto":
            # Not checked where it is given: a driver without a GPU may begin a set for workers
            # that have one.
            device = "cuda" if has_gpu() else "cpu"
        dtype = config.dtype
        if dtype == "auto":
            dtype = "float32" if device == "cpu" else "bfloat16"
        self.config: TextToImageConfig = config.model_copy(
            update={
                "device": device,
                "dtype": dtype,
                "guidance": config.guidance or (architecture.usual_scale,),
                "steps": config.steps or architecture.call["num_inference_steps"].default,
                "variant": self.model.variant,
                "captions_per_batch": architecture.captions_per_batch(config.captions_per_batch),
            }
        )
        self._single_file = open_single_file(config.weights)
        self._loras = open_loras(config.lora)
        self._vae_files = vae_files(config.vae)
        self.sizes_px = architecture.sizes_px(config.size_px)
        self.scheduler_name = architecture.scheduler_name(config.scheduler)

    @property
    def guidance(self) -> Guidance:
        """How the model is guided."""
        return self._architecture.guidance

    @property
    def arguments(self) -> Collection[str]:
        """Names of what a call of the pipeline takes."""
        return self._architecture.call.keys()

    @property
    def batch_size(self) -> int:
        """Views computed at once."""
        assert self.config.batch_size != "auto", "probe the renderer first"
        return self.config.batch_size

    def resources(self) -> Resources:
        """The GPUs of one worker, or as many cores as it has threads."""
        config = self.config
        return Resources(device_type=config.device, gpus=config.gpus, threads=config.threads)

    def columns(self) -> Sequence[DeclaredColumn]:
        """Columns of a diffusion pipeline, in the rows after those that every set has."""
        more = {LORA: self.config.lora, SIGMA: self.config.sigma, SIZE: len(self.sizes_px) > 1}
        return (*COLUMNS, *(column for column, is_used in more.items() if is_used))

    def variations(self) -> Sequence[Mapping[str, Value]]:
        """The guidance scales, each with each sigma and each size."""
        values: dict[str, Sequence[Value]] = {"guidance_scale": self.config.guidance}
        if self.config.sigma:
            values["sigma"] = self.config.sigma
        if len(self.sizes_px) > 1:
            values["size"] = [*self._size_by_name]
        return [
            dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
        ]

    @cached_property
    def _size_by_name(self) -> Mapping[Value, tuple[int, int]]:
        """Width and height by the value of column `size`."""
        return {f"{width}x{height}": (width, height) for width, height in self.sizes_px}

    def size_of(self, variation: Mapping[str, Value]) -> tuple[int, int]:
        """Width and height of the pictures of a variation."""
        if len(self.sizes_px) == 1:
            return self.sizes_px[0]
        return self._size_by_name[variation["size"]]

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse what this model would ignore, warn of what it does badly. Raises ConfigError."""
        architecture, config = self._architecture, self.config
        of_subjects = any(subject.values["negative_prompt"] for subject in subjects)
        has_negative_prompts = of_subjects or bool(config.negative_prompt)
        if config.sigma and not can_mix(architecture.pipeline_class):
            raise ConfigError(
                f"renderer.sigma: {architecture.pipeline_name} draws its noise where it "
                "cannot be mixed; leave sigma out"
            )
        check_placement(config)
        architecture.check_batch_size(config.batch_size)
        architecture.check_guidance(config.guidance, has_negative_prompts)
        if config.guidance_interval != WHOLE:
            architecture.check_guidance_interval(config.guidance)
        if config.feature_cache > 1:
            check_feature_cache(self.model)
            if config.speed == "fast" and config.device == "cuda":
                raise ConfigError(
                    "renderer.feature_cache: not with renderer.speed fast on a GPU, where networks "
                    "are compiled whole; leave one out"
                )
        architecture.check_taken("max_sequence_length", config.max_sequence_length)
        architecture.check_taken("clip_skip", config.clip_skip)
        assert config.steps is not None
        warnings = (
            architecture.advice(config.guidance, config.steps),
            vocabulary.warning(self.model.folder, (subject.text for subject in subjects)),
        )
        for warning in filter(None, warnings):
            log.warning("%s: %s", self.model.name, warning)

    def frozen(self) -> TextToImageConfig:
        """The configuration with what its `auto` values and absent ones stand for here."""
        return self.config

    def batch_key(self, request: ViewRequest) -> Hashable:
        """The variation, whether the caption has a negative prompt of its own, and, where texts of
        one call change each other's pixels, the caption.

        A call takes one guidance scale. And some models treat no negative prompt and an empty one
        differently, so a caption without one must not be in a call with captions that have one:
        a view must not depend on its neighbours.
        """
        is_alone = self.config.captions_per_batch == "one"
        return (
            *request.variation.values(),
            bool(request.subject.values["negative_prompt"]),
            request.subject.group_id if is_alone else None,
        )

    def identity(self) -> Mapping[str, Any]:
        """All that decides the pixels besides the requests."""
        config = self.config
        given = {
            name: getattr(config, name)
            for name in ("max_sequence_length", "clip_skip")
            if getattr(config, name) is not None
        }
        return {
            "files": dict(self.model.files),
            "device_type": config.device,
            "batch_size": self.batch_size,
            "captions_per_batch": config.captions_per_batch,
            "speed": config.speed,
            "safety_checker": "not run",
            "call": {**self._architecture.switched_off, **given},
            **({"noise": "mixed"} if config.sigma else {}),
            **({"feature_cache": config.feature_cache} if config.feature_cache > 1 else {}),
            **({"vae_decoding": config.vae_decoding} if config.vae_decoding != "batch" else {}),
            **(
                {"guidance_interval": list(config.guidance_interval)}
                if config.guidance_interval != WHOLE
                else {}
            ),
            **({"weights": self._single_file.sha256} if self._single_file else {}),
            **({"lora": [[one.sha256, one.weight] for one in self._loras]} if self._loras else {}),
            **({"vae": dict(self._vae_files)} if self._vae_files else {}),
            # On a GPU the threads of the CPU compute no float of a picture.
            **({"threads": config.threads} if config.device == "cpu" else {}),
        }

    def provenance(self) -> Provenance:
        """What the rows say."""
        width_px, height_px = self.sizes_px[0]
        assert self.config.steps is not None
        model, file = self.model, self._single_file
        return Provenance(
            model=model.name if file is None else file.name_with(model),
            revision=model.revision if file is None else file.revision_with(model),
            width_px=width_px,
            height_px=height_px,
            constants={
                "pipeline": self._architecture.pipeline_name,
                "scheduler": self.scheduler_name,
                "steps": self.config.steps,
                "dtype": self.config.dtype,
                "default_negative_prompt": self.config.negative_prompt,
                **({"lora": ", ".join(one.name for one in self._loras)} if self._loras else {}),
            },
        )

    @cached_property
    def _call(self) -> "PipelineCall":
        from pipeline.renderers.text_to_image.calling import PipelineCall  # imports torch

        return PipelineCall(
            architecture=self._architecture, config=self.config, size_of=self.size_of
        )

    @cached_property
    def _pipe(self) -> Any:
        """The loaded pipeline; loaded at the first use, because the driver often needs none."""
        from pipeline.renderers.text_to_image.loading import load_pipeline  # imports diffusers

        scheduler = self.config.scheduler
        return load_pipeline(
            self._architecture,
            scheduler_class=None
            if scheduler is None
            else self._architecture.scheduler_class(scheduler),
            single_file=self._single_file,
            loras=self._loras,
            vae=self.config.vae,
            vae_decoding=self.config.vae_decoding,
            is_fast=self.config.speed == "fast",
            dtype=self.config.dtype,
            device=self.config.device,
            gpus=self.config.gpus,
            is_offloaded=self.config.offload,
        )

    def _weight_bytes(self) -> int:
        """Of what is on a GPU at once."""
        by_part = self.model.weight_bytes(self.config.dtype)
        return max(by_part.values()) if self.config.offload else sum(by_part.values())

    def probe(self, requests: Sequence[ViewRequest]) -> "TextToImage":
        """The renderer with its batch size chosen, if that is `auto`."""
        if self.config.batch_size != "auto":
            return self
        if self._architecture.pipeline_name in ONE_VIEW:
            return TextToImage(self.config.model_copy(update={"batch_size": 1}))
        limit = largest_batch(
            device=self.config.device,
            pixels=max(width * height for width, height in self.sizes_px),
            weight_bytes=self._weight_bytes,
            memory_gib=self.config.gpu_memory_gib,
            gpus=self.config.gpus,
        )
        if limit is None:
            raise ModelError(
                f"{self.model.folder}: by estimate no view fits into the memory of the GPU beside "
                "its weights; give --batch-size 1 to try it, a smaller --size or a smaller dtype"
            )
        counts = Counter(self.batch_key(request) for request in requests)
        size = choose_batch_size([*counts.values()], limit)
        log.info("batch size %d of at most %d", size, limit)
        return TextToImage(self.config.model_copy(update={"batch_size": size}))

    def time_batches(self, request: ViewRequest) -> Iterator[tuple[int, float]]:
        """Powers of 2 until memory ends."""
        num_sizes = 1 if self._architecture.pipeline_name in ONE_VIEW else BATCHES_TIMED
        for size in (1 << power for power in range(num_sizes)):
            try:
                self._render_batch(fill_up([request], size))  # also pays for what is prepared once
                self._call.forget()  # texts are encoded in the time that is taken
                start = time.perf_counter()
                self._render_batch(fill_up([request], size))
            except RenderMemoryError:
                if size == 1:
                    raise
                return
            yield size, size / (time.perf_counter() - start)

    def try_request(self, request: ViewRequest) -> None:
        """For a class whose guidance is not known: does the scale change pixels?"""
        scale = max(self.config.guidance)
        if is_known(self._architecture.pipeline_name) or not self.guidance.is_guided(scale):
            return
        views = [
            self.render([replace(request, variation={**request.variation, "guidance_scale": w})])[0]
            for w in (self.guidance.none, scale)
        ]
        if np.array_equal(views[0].pixels, views[1].pixels):
            raise ModelError(
                f"{self.model.name}: a guidance scale of {scale:g} changes no pixel, so rows would "
                f"say what {self._architecture.pipeline_name} ignores; give --guidance 0"
            )

    def release(self) -> None:
        if "_pipe" not in self.__dict__:
            return  # nothing was rendered
        import torch

        del self._pipe
        self._call.forget()
        gc.collect()  # compiled networks refer to themselves
        if self.config.device == "cuda":
            torch.cuda.empty_cache()

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        """Pixels of requests, in their order."""
        return render_in_batches(requests, self.batch_size, self.batch_key, self._render_batch)

    def _render_batch(self, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        import torch

        pipe = self._pipe
        try:
            try:
                return self._call(pipe, batch)
            except (torch.OutOfMemoryError, MemoryError):
                pass  # and not here, where the error still holds what the failed call computed
            # Once more at the same size, with the allocator's cache given back: the batches of
            # another guidance scale may have fragmented it. A smaller batch would change pixels.
            if self.config.device == "cuda":
                torch.cuda.empty_cache()
            return self._call(pipe, batch)
        except (torch.OutOfMemoryError, MemoryError) as exc:
            raise RenderMemoryError(
                f"{batch[0].key}: out of memory on {self.config.device} at batch size "
                f"{len(batch)}, twice; begin a set with a smaller --batch-size"
            ) from exc
        except ModelError:
            raise  # other requests would fail as well
        except Exception as exc:
            raise RenderError(
                f"{batch[0].key} to {batch[-1].key}: {type(exc).__name__}: {one_line(exc)}"
            ) from exc
