"""Load a diffusers pipeline: from safetensors only, quietly, without a safety checker."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
import transformers

from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.renderers.text_to_image.architecture import Architecture

_NEVER_RUN = {
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
    "add_watermarker": False,
}
"""Arguments of pipeline classes that turn off what would replace or mark a picture; the feature
extractor serves the safety checker alone."""


def load_pipeline(
    architecture: Architecture, *, scheduler_class: Any | None, dtype: str, device: str
) -> Any:
    """The pipeline with its weights on the device.

    Args:
        scheduler_class: Replaces the model's own scheduler; None to keep that.

    Raises:
        ModelError: There is no such device here, its memory is too small, or a file is damaged.
    """
    folder = architecture.model.folder
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device cuda: no CUDA device can be used here; give renderer.device cpu, or "
            "--batch-size a number if only the workers have one"
        )
    _silence_libraries()
    accepted = inspect.signature(architecture.pipeline_class.__init__).parameters
    try:
        with keep_random_state():
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                folder,
                # Nothing is fetched and no pickle is read: a set's model is the files that were
                # hashed, and pickles can run code.
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=True,
                **{name: value for name, value in _NEVER_RUN.items() if name in accepted},
            )
            if scheduler_class is not None:
                pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
            pipeline.to(device)
    except (torch.OutOfMemoryError, MemoryError) as exc:
        raise ModelError(
            f"{folder}: its weights do not fit into the memory of {device}; "
            "give a smaller renderer.dtype or another device"
        ) from exc
    except Exception as exc:  # a damaged file can make the libraries raise anything
        raise ModelError(
            f"{folder}: cannot be loaded ({one_line(exc)}); copy the model again"
        ) from exc
    pipeline.set_progress_bar_config(disable=True)
    if device == "cuda":
        # A view must not depend on which kernel happened to be fastest when it was rendered, nor
        # lose bits to TF32 where the recipe says float32.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return pipeline


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Leave torch's global generator as it was: libraries draw from it, even to load a model."""
    state = torch.random.get_rng_state()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def _silence_libraries() -> None:
    """Turn off progress bars and hints of the libraries, which would hide our own lines."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
