"""The recipe of a training as a user writes it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from manifests.foundation.settings import Table, check, read_settings
from trainer.recipes import merged, read_recipe

DEFAULT_OBJECTIVE = "stablerep"
DEFAULT_TOWER = "vit_base_patch16_224"
"""Name of a timm model."""

Precision = Literal["fp32", "tf32", "bf16"]
"""What towers compute in; see trainer.precision."""
_Beta = Annotated[float, Field(ge=0, lt=1)]


class BatchTable(Table):
    """Table [batch]. Counts are global: over all ranks."""

    groups: int = Field(default=64, ge=1)
    """Groups of a step."""
    views_per_group: int | None = Field(default=None, ge=1)
    """Views of each group in a step; the default is the fewest that the objective takes."""


class DataTable(Table):
    """Table [data]. No value changes what is learned, unless groups are unreadable."""

    workers: int | None = Field(default=None, ge=0)
    """Loader processes of each rank; 0 loads in the training process. Without the key, none beside
    a CPU that trains, and beside a GPU what cores and shared memory of the machine allow."""
    prefetch: int = Field(default=4, ge=1)
    """Batches that each loader process holds ready, in shared memory."""
    max_bad_groups: int = Field(default=0, ge=0)
    """Distinct groups that may be unreadable before the run ends; each is replaced and named."""
    cache_dir: str = ""
    """Folder of a disk of each machine that keeps tars of the source; empty keeps none."""
    cache_gb: float = Field(default=100.0, gt=0)
    """All that is kept there takes no more, in 10^9 bytes, for any number of runs and ranks."""

    @model_validator(mode="after")
    def _has_folder(self) -> "DataTable":
        if "cache_gb" in self.model_fields_set and not self.cache_dir:
            raise ValueError("cache_gb is given without cache_dir, the folder of the cache")
        return self


class OptimizerTable(Table):
    """Table [optimizer]. Defaults of StableRep."""

    lr_per_256: float = Field(default=1e-4, gt=0)
    """Learning rate for 256 crops a step; it grows in proportion to the crops of a step."""
    name: Literal["adamw", "sgd"] = "adamw"
    betas: tuple[_Beta, _Beta] = (0.9, 0.98)
    """Of adamw."""
    momentum: _Beta = 0.9
    """Of sgd."""
    weight_decay: float = Field(default=0.1, ge=0)
    final_weight_decay: float | None = Field(default=None, ge=0)
    """Decay at the end, to which half a cosine leads over all steps; None keeps `weight_decay`."""
    decay_all: bool = False
    """Biases and norms decay as well."""
    clip_norm: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _used(self) -> "OptimizerTable":
        unused = {"adamw": "momentum", "sgd": "betas"}[self.name]
        if unused in self.model_fields_set:
            raise ValueError(f"{unused} is given, and {self.name} does not use it; leave it out")
        return self


class ScheduleTable(Table):
    """Table [schedule]: linear warm-up, then half a cosine down to `final`."""

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the groups; give this or steps."""
    warmup_steps: int | None = Field(default=None, ge=0)
    warmup_epochs: float | None = Field(default=None, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)
    """Rate at the end, as a part of the peak."""

    @model_validator(mode="after")
    def _one_way(self) -> "ScheduleTable":
        if self.steps is not None and self.epochs is not None:
            raise ValueError("steps and epochs are both given; give one")
        if self.warmup_steps is not None and self.warmup_epochs is not None:
            raise ValueError("warmup_steps and warmup_epochs are both given; give one")
        return self


class RunTable(Table):
    """Table [run]. Only seed, precision and `init_from` change what is learned, and where towers
    drop, `grad_cache`."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    precision: Literal["auto"] | Precision = "auto"
    """`auto`: bf16 on a GPU that has it, else fp32; a run keeps what it was begun with. `tf32`:
    products and convolutions of the towers take numbers of 10 bits where the device can. Losses are
    computed in float32 in any case."""
    activation_checkpointing: bool = False
    """Take less memory and more time: activations are computed again for the backward pass."""
    grad_cache: int | None = Field(default=None, ge=1)
    """Take less memory and about a third more time: so many images of a rank are in the tower at
    once, and pass it twice. The gradient is that of the whole batch. A tower that drops paths or
    values draws them for so many images at a time, so that they are others than without the key."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """`fsdp`: each rank has a part of every tensor of the towers, its gradient and its moments."""
    compile: bool = False
    """Let torch compile the towers; the first steps take minutes longer, the others less."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    timeout_s: float = Field(default=300.0, gt=0)
    """A rank that waits longer than this for another one ends with an error."""
    init_from: str = ""
    """A finished run, its encoder.safetensors or a checkpoint of a run: the tower begins with these
    weights in place of random ones. They are part of what decides what is learned."""
    wandb: str = ""
    """Project of Weights & Biases to which the numbers go as well; empty for none."""
    log_every: int = Field(default=10, ge=1)
    """Steps."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """Steps."""
    keep_checkpoints: int = Field(default=2, ge=1)
    keep_every: int | None = Field(default=None, ge=1)
    """Steps: after each multiple of it a checkpoint is written that stays besides the newest."""
    knn_on: str = ""
    """Labelled set on which the encoder is scored by k-NN before the first step, with each
    checkpoint that `keep_every` keeps, and at the end; empty for none."""
    exports: tuple[str, ...] = ("timm", "text")
    """Exports of a finished run; one whose parts the objective does not have is left out."""

    @model_validator(mode="after")
    def _together(self) -> "RunTable":
        if self.compile and self.strategy == "fsdp":
            raise ValueError("compile is given, and strategy fsdp cannot do it; leave one out")
        if self.knn_on and self.keep_every is None:
            raise ValueError("knn_on is given without keep_every, the steps between its scores")
        return self


class TrainConfig(Table):
    """A whole recipe. [objective], [model] and [augment] are checked by their owners."""

    objective: dict[str, Any] = Field(default={})
    model: dict[str, Any] = Field(default={})
    augment: dict[str, Any] = Field(default={})
    batch: BatchTable = BatchTable()
    data: DataTable = DataTable()
    optimizer: OptimizerTable = OptimizerTable()
    schedule: ScheduleTable = ScheduleTable()
    run: RunTable = RunTable()


def load_config(
    *, recipe: Path | None, overrides: Sequence[str], flags: Mapping[str, Any]
) -> TrainConfig:
    """Merge file, overrides and flags, and check the whole; arguments as of `read_settings`.

    The recipe may extend another one; see `trainer.recipes`.

    Raises:
        ConfigError: Not TOML, an unknown key, a wrong type; names file, key and nearest name.
    """
    tree = {} if recipe is None else read_recipe(recipe)
    changes = read_settings(recipe=None, overrides=overrides, flags=flags)
    tree = merged(tree, changes, origin="--set or a flag")
    schedule = tree.get("schedule")
    if isinstance(schedule, dict):  # a flag replaces what the recipe says in the other unit
        for flag, other in (("steps", "epochs"), ("epochs", "steps")):
            if flags.get(f"schedule.{flag}") is not None and flags.get(f"schedule.{other}") is None:
                schedule.pop(other, None)
    config = check(TrainConfig, tree, origin=str(recipe or "recipe"))
    return config.model_copy(update={"objective": {"name": DEFAULT_OBJECTIVE} | config.objective})


def default_of(key: str) -> Any:
    """The default of a key such as `batch.groups`; None where it has none that could be typed."""
    of_owners = {"objective.name": DEFAULT_OBJECTIVE, "model.model": DEFAULT_TOWER}
    table, name = key.split(".")
    return of_owners[key] if key in of_owners else getattr(getattr(TrainConfig(), table), name)
