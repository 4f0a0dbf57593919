"""Load a diffusers pipeline: from safetensors only, quietly, without a safety checker."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
import transformers

from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.renderers.text_to_image.architecture import Architecture
from pipeline.renderers.text_to_image.overrides import Lora, add_loras, load_vae
from pipeline.renderers.text_to_image.single_file import SingleFile, replace_networks

_NEVER_RUN = {
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
    "add_watermarker": False,
}
"""Arguments of pipeline classes that turn off what would replace or mark a picture; the feature
extractor serves the safety checker alone."""


def load_pipeline(
    architecture: Architecture,
    *,
    scheduler_class: Any | None,
    single_file: SingleFile | None,
    loras: Sequence[Lora],
    vae: str,
    vae_decoding: str,
    is_fast: bool,
    dtype: str,
    device: str,
    gpus: int,
    is_offloaded: bool,
) -> Any:
    """The pipeline with its weights on the device.

    Args:
        scheduler_class: Replaces the model's own scheduler; None to keep that.
        single_file: Its networks replace the model's own; None to keep those.
        is_fast: Let the last bits of floats differ from the stock pipeline.
        vae: Folder of the VAE that replaces the model's own; empty to keep that.
        vae_decoding: `batch`, `view` or `tile`, as in the configuration.
        gpus: GPUs that the parts of the model are spread over.
        is_offloaded: A part is on the GPU only while it computes.

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
    model_vae = architecture.model.part_config("vae")
    other_vae = {"vae": load_vae(vae, model_vae, dtype)} if vae else {}
    spread = {"device_map": "balanced"} if gpus > 1 else {}
    try:
        with keep_random_state():
            pipeline = diffusers.DiffusionPipeline.from_pretrained(
                folder,
                # Nothing is fetched and no pickle is read: a set's model is the files that were
                # hashed, and pickles can run code.
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=True,
                variant=architecture.model.variant or None,
                **other_vae,
                **spread,
                **{name: value for name, value in _NEVER_RUN.items() if name in accepted},
            )
            if single_file is not None:
                replace_networks(pipeline, single_file, folder, dtype)
            if scheduler_class is not None:
                pipeline.scheduler = scheduler_class.from_config(pipeline.scheduler.config)
            add_loras(pipeline, loras)
            if is_offloaded:
                pipeline.enable_model_cpu_offload()
            elif not spread:
                pipeline.to(device)
    except ModelError:
        raise
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
    if vae_decoding != "batch":
        _decode_in_parts(pipeline, vae_decoding)
    if is_fast:
        _speed_up(pipeline, device)
    return pipeline


def _decode_in_parts(pipeline: Any, vae_decoding: str) -> None:
    method = {"view": "enable_slicing", "tile": "enable_tiling"}[vae_decoding]
    vae = getattr(pipeline, "vae", None)
    try:
        getattr(vae, method)()
    except (AttributeError, NotImplementedError) as exc:
        raise ModelError(
            f"renderer.vae_decoding {vae_decoding}: {type(vae).__name__} of "
            f"{type(pipeline).__name__} cannot do it; leave it out"
        ) from exc


def _speed_up(pipeline: Any, device: str) -> None:
    """Convolutions without a change of memory format between them; on a GPU, compiled networks.

    On one CPU core the format makes the embedded model 1.02 to 1.09 times as fast
    (`python -m benchmarks.embedded_model.options`). Compiling waits for a GPU: there it takes the
    place of many small kernels.
    """
    networks = [getattr(pipeline, name, None) for name in ("unet", "transformer", "vae")]
    for network in networks:
        # Networks for videos have weights of five axes, which have another format of this kind.
        if network is not None and not any(weight.ndim == 5 for weight in network.parameters()):
            network.to(memory_format=torch.channels_last)
    if device != "cuda":
        return
    for network in networks[:2]:
        if network is not None:
            # In place, so that the pipeline's own checks of its parts still see the class.
            network.compile(dynamic=False)
    if networks[2] is not None:
        networks[2].decode = torch.compile(networks[2].decode, dynamic=False)


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
