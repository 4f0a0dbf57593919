"""What a user sets of the renderer `text-to-image`, and the columns that its rows have."""

import itertools
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from manifests.columns import DeclaredColumn
from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table
from pipeline.models import EMBEDDED

COLUMNS = (
    DeclaredColumn("pipeline", "string", "class of the diffusers pipeline", scope="set"),
    DeclaredColumn("scheduler", "string", "class of the scheduler", scope="set"),
    DeclaredColumn("steps", "int64", "denoising steps", "steps", scope="set"),
    DeclaredColumn("dtype", "string", "type of the numbers that are computed with", scope="set"),
    DeclaredColumn(
        "default_negative_prompt",
        "string",
        "steers guided views away from it, where the caption has no negative prompt of its own",
        scope="set",
    ),
    DeclaredColumn(
        "negative_prompt",
        "string",
        "the caption's own negative prompt, which steers its guided views; empty for none",
        scope="subject",
    ),
    DeclaredColumn(
        "guidance_scale",
        "double",
        "guidance w; for most models at most 1 is none",
        scope="variation",
    ),
    DeclaredColumn(
        "num_tokens_cut",
        "int64",
        "tokens of the caption beyond the model's limit",
        "tokens",
        scope="view",
    ),
)

SIGMA = DeclaredColumn(
    "sigma",
    "double",
    "share of the view's own noise; the rest is the caption's, and 1 is an independent view",
    scope="variation",
)
"""Of sets with views around a latent alone."""

SIZE = DeclaredColumn("size", "string", "width x height as rendered", "px", scope="variation")
"""Of sets with pictures of several sizes alone."""

WHOLE = (0.0, 1.0)
"""The guidance interval of every step."""


LORA = DeclaredColumn("lora", "string", "LoRA files, each with its weight", scope="set")
"""Of sets with LoRA alone."""


def _absolute_path(text: str) -> str:
    """A path of a file, with a weight or without, made absolute: a worker may have another working
    directory."""
    return str(Path(text).expanduser().absolute())


class TextToImageConfig(Table):
    """Table [renderer] of a recipe."""

    name: Literal["text-to-image"] = "text-to-image"
    model: str = EMBEDDED
    """`embedded`, the folder of a diffusers pipeline, or a hub id with an optional @revision."""
    variant: str = Field(default="", pattern=r"^\w*$")
    """Copy of the weights to read, such as `fp16`; the one without a name if not given."""
    guidance: tuple[float, ...] = ()
    """Scales that are dealt over the views of each caption in turn. None given: 2 where guidance is
    classifier-free, else the pipeline's own."""
    guidance_interval: tuple[float, float] = WHOLE
    """Shares of the steps after which guidance begins and ends; without guidance a step costs
    half."""
    feature_cache: int = Field(default=1, ge=1, le=50)
    """Steps from one whole computation of a U-Net to the next; between them only its outermost
    level is computed. 1 computes all of every step."""
    sigma: tuple[float, ...] = ()
    """Views around one latent of each caption: shares of a view's own noise, from 0 to 1, dealt
    with the guidance scales; empty for views with noise of their own."""
    lora: tuple[str, ...] = ()
    """Files of LoRA weights, each with its weight behind a colon or none for 1:
    `style.safetensors:0.8`."""
    weights: str = ""
    """One file of safetensors whose networks replace those of the model, as fine-tuned models are
    shared; the model is then the one that it was made from."""
    vae: str = ""
    """Folder of another VAE of diffusers; the model's own if not given."""
    steps: int | None = Field(default=None, ge=1, le=1000)
    """Denoising steps; the pipeline's own default if not given."""
    scheduler: str | None = None
    """Class name of a diffusers scheduler; the model's own if not given."""
    negative_prompt: str = ""
    """What guided views are steered away from, where a caption has no negative prompt itself."""
    size_px: int | tuple[int, int] | tuple[tuple[int, int], ...] | None = None
    """Width and height of a rendered picture, one number if they are equal; the model's own if not
    given. Several such pairs are dealt over the views of each caption with the guidance scales."""
    max_sequence_length: int | None = Field(default=None, ge=1, le=65_536)
    """Tokens of a caption that a text encoder such as T5 reads; the pipeline's own if not given.
    CLIP always reads 77. What is beyond is cut, and rows count it."""
    clip_skip: int | None = Field(default=None, ge=0, le=48)
    """Layers of CLIP left out at its end, where a pipeline can do it; none if not given."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """`auto` is float32 on the CPU and bfloat16 on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is a GPU where the machine that begins the set has one."""
    batch_size: int | Literal["auto"] = "auto"
    """Views computed at once. Floats change with it, so it is part of the set's identity
    (docs/adr/0004)."""
    gpu_memory_gib: float | None = Field(default=None, gt=0, le=4096)
    """Memory of the workers' GPUs, for a batch size of `auto`; that of this machine's GPU if not
    given."""
    gpus: int = Field(default=1, ge=1, le=64)
    """GPUs of one worker: more than one spreads the parts of a model that does not fit into one."""
    offload: bool = False
    """Whether a part of the model is on the GPU only while it computes, and else in the memory of
    the machine: slower, and takes the memory of the largest part alone."""
    speed: Literal["exact", "fast"] = "exact"
    """`exact` is the stock pipeline to the bit. `fast` has its networks in the memory format that
    convolutions like best and, on a GPU, compiles them: its floats differ in their last bits."""
    vae_decoding: Literal["batch", "view", "tile"] = "batch"
    """What a VAE decodes at once: a whole batch, one view after the other (less memory), or tiles
    of a view that overlap (least memory, for pictures larger than the VAE was trained on)."""
    captions_per_batch: Literal["auto", "one", "many"] = "auto"
    """`many` fills batches across captions; `one` does not, for models whose pixels change with
    the other texts of a call. `auto` is `many` for the classes that are proven to bear it
    (docs/families.md)."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of one worker on the CPU. Floats change with it as well, so it is part of the
    identity; to use more cores, start more workers."""

    @field_validator("guidance", "sigma", "lora", mode="before")
    @classmethod
    def _only_one(cls, value: Any) -> Any:
        """A single value means a list of one."""
        return (value,) if isinstance(value, int | float | str) else value

    @field_validator("guidance")
    @classmethod
    def _meaningful(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        for scale in scales:
            if scale < 0:
                raise ValueError(f"a scale of {scale:g}; give 0 or 1 for no guidance")
        return scales

    @field_validator("size_px", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        """Only numbers in bounds, for a message that does not speak of all that a size can be."""
        sizes = value if isinstance(value, list | tuple) else (value,)
        pairs = [size for size in sizes if isinstance(size, list | tuple)]
        if pairs and len({tuple(pair) for pair in pairs}) < len(sizes):
            raise ValueError("several sizes are pairs of width and height, each given once")
        for side in itertools.chain(*pairs) if pairs else sizes:
            if isinstance(side, int) and not 8 <= side <= 8192:
                raise ValueError(f"a side of {side} px; expected 8 to 8,192")
        return value

    @field_validator("guidance_interval")
    @classmethod
    def _ordered(cls, interval: tuple[float, float]) -> tuple[float, float]:
        start, stop = interval
        if not 0 <= start < stop <= 1:
            raise ValueError(f"{start:g} to {stop:g}; expected 0 to 1, the first below the second")
        return interval

    @field_validator("sigma")
    @classmethod
    def _shares(cls, sigmas: tuple[float, ...]) -> tuple[float, ...]:
        for sigma in sigmas:
            if not 0 <= sigma <= 1:
                raise ValueError(f"a sigma of {sigma:g}; expected 0 to 1, and 1 is independent")
        return sigmas

    @field_validator("batch_size")
    @classmethod
    def _countable(cls, size: int | str) -> int | str:
        if isinstance(size, int) and not 1 <= size <= 65_536:
            raise ValueError("expected auto or a number of 1 or more")
        return size

    @field_validator("model", "vae", "weights")
    @classmethod
    def _absolute(cls, model: str) -> str:
        path = Path(model).expanduser()
        return str(path.absolute()) if model and path.exists() else model

    @field_validator("lora")
    @classmethod
    def _absolute_files(cls, settings: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_absolute_path, settings))


def check_placement(config: TextToImageConfig) -> None:
    """Refuse what cannot be placed on the devices as it is asked for. Raises ConfigError."""
    if config.device == "cpu" and (config.gpus > 1 or config.offload):
        name = "offload" if config.offload else "gpus"
        raise ConfigError(f"renderer.{name}: there is no GPU with device cpu; leave it out")
    if config.gpus > 1:
        # Parts that are spread may not be replaced, and hooks of diffusers move what they read.
        clashing = {
            "offload": config.offload,
            "speed": config.speed == "fast",
            "weights": bool(config.weights),
        }
        if names := [name for name, is_set in clashing.items() if is_set]:
            raise ConfigError(f"renderer.{names[0]}: not with renderer.gpus above 1; leave one out")
    if config.offload and config.speed == "fast":
        raise ConfigError("renderer.offload: not with renderer.speed fast; leave one out")
