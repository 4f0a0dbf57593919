"""Any text-to-image pipeline of diffusers; the stock call is the law.

A view is what `pipe(prompt, generator=[torch.Generator().manual_seed(seed)], ...)` gives in a batch
of the recipe's size. The noise is drawn on the CPU, so a seed means the same noise on any device.
A safety checker is never run: it would replace pictures silently.
"""

import inspect
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import diffusers
import numpy as np
import torch
import transformers
from pydantic import Field, field_validator

from manifests.canonical import canonical_json
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line
from manifests.foundation.plugins import did_you_mean
from manifests.foundation.settings import Table
from pipeline.batching import batches, fill_up
from pipeline.errors import ModelError, RenderError, RenderMemoryError
from pipeline.models import EMBEDDED, ModelFiles, find_model
from pipeline.views import Provenance, RenderedView, ViewRequest

log = logging.getLogger(__name__)

MAX_AUTO_BATCH = 256
ENOUGH_GAIN = 1.1
"""A batch twice as large must be this much faster per view, or the search for one ends."""

_SWITCHED_OFF = {"clean_caption": False, "use_resolution_binning": False}
"""Arguments of some calls that would change the text or the size that was asked for."""


class TextToImageConfig(Table):
    """Table [renderer] of a recipe."""

    name: Literal["text-to-image"] = "text-to-image"
    model: str = EMBEDDED
    """`embedded`, the folder of a diffusers pipeline, or a hub id with an optional @revision."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Denoising steps; the pipeline's own default if not given."""
    scheduler: str | None = None
    """Class name of a diffusers scheduler; the model's own if not given."""
    negative_prompt: str = ""
    """Steers guided views away from it, where a prompt has none of its own."""
    size_px: int | None = Field(default=None, ge=8, le=8192)
    """Width and height as rendered; the model's own if not given."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto is float32 on the CPU and bfloat16 elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    """Views computed at once. It decides the last bits of the pixels, so it is frozen."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of a renderer on the CPU; more cores are used by more workers. Floats change with the
    number of threads, so it is frozen too."""

    @field_validator("model")
    @classmethod
    def _absolute(cls, model: str) -> str:
        """A folder means the same to a worker that was started elsewhere."""
        folder = Path(model).expanduser()
        return str(folder.absolute()) if folder.is_dir() else model


class TextToImage:
    """Renderer `text-to-image`. The laws are in `pipeline.renderers`."""

    Config = TextToImageConfig

    def __init__(self, config: TextToImageConfig) -> None:
        self.config = config
        self.model: ModelFiles = find_model(config.model)
        self.device = _device(config.device)
        self.dtype: str = config.dtype
        if config.dtype == "auto":
            self.dtype = "float32" if self.device == "cpu" else "bfloat16"
        if config.batch_size != "auto" and not 1 <= config.batch_size <= 65_536:
            raise ConfigError(
                f"batch size {config.batch_size}: expected auto or a number of 1 or more"
            )
        self._call = inspect.signature(self._pipeline_class.__call__).parameters
        for needed in ("prompt", "guidance_scale", "generator", "num_inference_steps"):
            if needed not in self._call:
                raise ModelError(
                    f"{self.model.folder}: {self._pipeline_class.__name__} takes no {needed}; "
                    "a text-to-image pipeline does"
                )
        self.steps: int = config.steps or self._call["num_inference_steps"].default
        self.scheduler_class = self._scheduler_class()
        self.size_px = config.size_px or self._own_size()
        if self.size_px % self._downsampling:
            raise ConfigError(
                f"size {self.size_px} px: this model renders multiples of {self._downsampling} px"
            )

    @cached_property
    def _pipeline_class(self) -> Any:
        name = self.model.index.get("_class_name", "")
        found = getattr(diffusers, name, None)
        if found is None:
            raise ModelError(
                f"{self.model.folder}: {name!r} is no pipeline of diffusers {diffusers.__version__}"
                "; install a version that knows it"
            )
        return found

    def _scheduler_class(self) -> Any:
        own = self.model.index["scheduler"][1]
        name = self.config.scheduler or own
        known = [each for each in dir(diffusers) if each.endswith("Scheduler")]
        if name not in known:
            raise ConfigError(f"no scheduler {name!r} in diffusers{did_you_mean(name, known)}")
        compatible = set(getattr(getattr(diffusers, own), "_compatibles", ()))
        if name != own and name not in compatible:
            raise ConfigError(
                f"scheduler {name} does not fit a model made for {own}; these do: "
                f"{', '.join(sorted(compatible)) or own}"
            )
        return getattr(diffusers, name)

    @property
    def _downsampling(self) -> int:
        vae = self.model.part_config("vae")
        widths = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [1] * 4
        return int(2 ** (len(widths) - 1))

    def _own_size(self) -> int:
        network = self.model.part_config("unet") or self.model.part_config("transformer")
        sample_size = network.get("sample_size")
        if not isinstance(sample_size, int):
            raise ConfigError(f"{self.model.folder}: does not say its size; give --size")
        return sample_size * self._downsampling

    @property
    def batch_size(self) -> int:
        """Views computed at once."""
        assert self.config.batch_size != "auto", "find it first: with_batch_size"
        return self.config.batch_size

    def check(self, guidance_scales: Sequence[float], has_negative_prompts: bool) -> None:
        """Refuse what this model would ignore. Raises ConfigError."""
        for scale in guidance_scales:
            if 0 < scale < 1:
                raise ConfigError(
                    f"guidance {scale:g}: at or below 1 diffusers computes no guidance at all; "
                    "give 1 for none"
                )
        network = self.model.part_config("unet") or self.model.part_config("transformer")
        name = self._pipeline_class.__name__
        if network.get("guidance_embeds") is False and any(each > 1 for each in guidance_scales):
            raise ConfigError(f"guidance: {name} with this model ignores it; give --guidance 0")
        if not (has_negative_prompts or self.config.negative_prompt):
            return
        if not any(scale > 1 for scale in guidance_scales):
            raise ConfigError(
                "a negative prompt steers nothing without guidance; give a --guidance above 1 or "
                "drop the negative prompt"
            )
        embedded = network.get("time_cond_proj_dim") is not None or "guidance_embeds" in network
        if "negative_prompt" not in self._call or embedded:
            raise ConfigError(f"a negative prompt: {name} with this model ignores it; drop it")

    def identity(self) -> Mapping[str, Any]:
        """All that decides the pixels besides the requests."""
        return {
            "model": self.model.name,
            "revision": self.model.revision,
            "files": dict(self.model.files),
            "pipeline": self._pipeline_class.__name__,
            "scheduler": self.scheduler_class.__name__,
            "steps": self.steps,
            "negative_prompt": self.config.negative_prompt,
            "size_px": self.size_px,
            "dtype": self.dtype,
            "device_type": self.device,
            "batch_size": self.batch_size,
            "safety_checker": "not run",
            "call": self._switched_off,
            **({"threads": self.config.threads} if self.device == "cpu" else {}),
        }

    @property
    def _switched_off(self) -> dict[str, bool]:
        return {name: off for name, off in _SWITCHED_OFF.items() if name in self._call}

    def provenance(self) -> Provenance:
        """What the rows say."""
        return Provenance(
            renderer="text-to-image",
            model=self.model.name,
            revision=self.model.revision,
            scheduler=self.scheduler_class.__name__,
            steps=self.steps,
            width_px=self.size_px,
            height_px=self.size_px,
            negative_prompt=self.config.negative_prompt,
            params=canonical_json(
                {"pipeline": self._pipeline_class.__name__, "dtype": self.dtype}
                | self._switched_off
            ),
        )

    @cached_property
    def _pipe(self) -> Any:
        """The loaded pipeline."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ModelError(
                "device cuda: no CUDA device can be used here; give renderer.device cpu, or "
                "--batch-size a number if only the workers have one"
            )
        _be_quiet()
        accepted = inspect.signature(self._pipeline_class.__init__).parameters
        never_run = {
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
            "add_watermarker": False,
        }
        try:
            with _keep_random_state():
                pipe = diffusers.DiffusionPipeline.from_pretrained(
                    self.model.folder,
                    dtype=getattr(torch, self.dtype),
                    use_safetensors=True,
                    local_files_only=True,
                    **{name: value for name, value in never_run.items() if name in accepted},
                )
                if self.config.scheduler is not None:
                    pipe.scheduler = self.scheduler_class.from_config(pipe.scheduler.config)
                pipe.to(self.device)
        except (torch.OutOfMemoryError, MemoryError) as exc:
            raise ModelError(
                f"{self.model.folder}: its weights do not fit into the memory of {self.device}; "
                "give a smaller renderer.dtype or another device"
            ) from exc
        except Exception as exc:  # whatever a damaged file makes the libraries raise
            raise ModelError(
                f"{self.model.folder}: cannot be loaded ({one_line(exc)}); copy the model again"
            ) from exc
        pipe.set_progress_bar_config(disable=True)
        if self.device == "cuda":
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        return pipe

    def with_batch_size(self, requests: Sequence[ViewRequest]) -> "TextToImage":
        """The renderer with its batch size found: doubled while it fits and pays."""
        if self.config.batch_size != "auto":
            return self
        best: TextToImage | None = None
        best_s, size = float("inf"), 8
        while size <= MAX_AUTO_BATCH:
            config = self.config.model_copy(update={"batch_size": size})
            candidate = TextToImage(config)
            candidate.__dict__["_pipe"] = self._pipe
            batch = fill_up(requests[:1], size)
            try:
                candidate._render_batch(batch)
                start = time.perf_counter()
                candidate._render_batch(batch)
            except (RenderMemoryError, MemoryError):
                break
            each_s = (time.perf_counter() - start) / size
            if best is not None and each_s * ENOUGH_GAIN > best_s:
                break
            best, best_s, size = candidate, each_s, 2 * size
        del self._pipe  # a worker on this device needs the memory
        if best is not None:
            del best._pipe
        if self.device == "cuda":
            torch.cuda.empty_cache()
        if best is None:
            raise ModelError(
                f"{self.model.folder}: does not fit into the memory of {self.device} even in "
                "batches of 8; give --batch-size 1, a smaller --size or a smaller dtype"
            )
        log.info("batch size %d: %.1f views/s", best.batch_size, 1 / best_s)
        return best

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        """Pixels of requests, in their order."""
        rendered: dict[str, RenderedView] = {}
        for batch in batches(requests, self.batch_size):
            views = self._render_batch(fill_up(batch, self.batch_size))
            rendered.update(zip((each.key for each in batch), views, strict=False))
        return [rendered[request.key] for request in requests]

    def _render_batch(self, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        try:
            try:
                return self._call_pipeline(batch)
            except (torch.OutOfMemoryError, MemoryError):
                if self.device == "cuda":
                    torch.cuda.empty_cache()
                return self._call_pipeline(batch)
        except (torch.OutOfMemoryError, MemoryError) as exc:
            raise RenderMemoryError(
                f"{batch[0].key}: out of memory on {self.device} at batch size {len(batch)}, twice;"
                " begin a set with a smaller --batch-size"
            ) from exc
        except ModelError:
            raise
        except Exception as exc:
            raise RenderError(
                f"{batch[0].key} to {batch[-1].key}: {type(exc).__name__}: {one_line(exc)}"
            ) from exc

    def _call_pipeline(self, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        scale = batch[0].guidance_scale
        prompts = [request.prompt.prompt for request in batch]
        arguments: dict[str, Any] = dict(self._switched_off)
        negatives = [
            request.prompt.negative_prompt or self.config.negative_prompt for request in batch
        ]
        if scale > 1 and any(negatives):
            arguments["negative_prompt"] = negatives
        pipe = self._pipe
        if self.device == "cpu" and torch.get_num_threads() != self.config.threads:
            torch.set_num_threads(self.config.threads)
        with _keep_random_state(), torch.inference_mode():
            images = pipe(
                prompt=prompts,
                height=self.size_px,
                width=self.size_px,
                num_inference_steps=self.steps,
                guidance_scale=scale,
                generator=[torch.Generator().manual_seed(request.seed) for request in batch],
                output_type="np",
                **arguments,
            ).images
        finite = np.isfinite(images).all(axis=(1, 2, 3))
        pixels = (np.nan_to_num(images) * 255).round().clip(0, 255).astype(np.uint8)
        cut = self._count_cut_tokens(prompts)
        return [
            RenderedView(pixels=each, is_finite=bool(ok), num_tokens_cut=num_cut)
            for each, ok, num_cut in zip(pixels, finite, cut, strict=True)
        ]

    def _count_cut_tokens(self, prompts: Sequence[str]) -> list[int]:
        """How many tokens of each prompt lie beyond the limit of the model's text encoders."""
        counts = dict.fromkeys(prompts, 0)
        for name, tokenizer in self._pipe.components.items():
            if not name.startswith("tokenizer") or tokenizer is None:
                continue
            limit = tokenizer.model_max_length
            if "max_sequence_length" in self._call and "t5" in type(tokenizer).__name__.lower():
                limit = min(limit, self._call["max_sequence_length"].default)
            for prompt in counts:
                length = len(tokenizer(prompt, verbose=False).input_ids)
                counts[prompt] = max(counts[prompt], length - limit)
        return [counts[prompt] for prompt in prompts]


def _device(wanted: str) -> str:
    """A driver without a GPU may ask for workers that have one: `cuda` is taken at its word."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


@contextmanager
def _keep_random_state() -> Iterator[None]:
    """Libraries draw from the global generator, even to load a model; leave it as it was."""
    state = torch.random.get_rng_state()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def _be_quiet() -> None:
    """Progress bars and hints of the libraries would hide our own lines."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
