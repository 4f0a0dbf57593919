"""What is trained: an image tower and an objective, as one module."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from open_clip.transformer import TextTransformer
from timm.layers import DropPath, PatchDropout
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from manifests.foundation.errors import ConfigError
from trainer.data.batches import LoadedBatch
from trainer.data.colours import colour, copied
from trainer.grad_cache import GradCached
from trainer.models.batch_norms import synchronize_batch_norms
from trainer.models.encoder import build_encoder, normalize, num_features
from trainer.models.specs import EncoderSpec
from trainer.models.text import ImageText
from trainer.objectives import Batch, Crops, LossTerms, Objective, Towers
from trainer.planning import Plan
from trainer.precision import autocast_type


class Learner(nn.Module):
    """An image tower with an objective: from a loaded batch to the loss of this rank's rows.

    Args:
        spec: Describes the image tower.
        objective: Class of the objective.
        config: Instance of the objective's `Config`.
        classes: Names of the classes that labels are indices into; empty if labels are not read.
        dtype: Type in which autocast computes; None for float32 throughout.
        grad_cache: Rows that pass a tower at once (`trainer.grad_cache`); None for all of them.
        weights: What the image tower begins with; None for random weights.

    Raises:
        ConfigError: timm has no such tower, or the tower does not take crops of the sizes that the
            objective wants.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        objective: type,
        config: object,
        *,
        classes: Sequence[str] = (),
        dtype: torch.dtype | None = None,
        grad_cache: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        encoder = build_encoder(spec)
        if weights is not None:  # before the objective copies the tower as its teacher
            encoder.load_state_dict(weights, strict=True)
        self.encoder = synchronize_batch_norms(encoder)
        # A dataclass and no module, so that the state has the tower once, as `encoder`.
        self._towers = Towers(image=self.encoder, num_features=num_features(self.encoder, spec))
        self.objective: Objective = objective(config, self._towers, classes)
        self.arrangement = self.objective.arrangement(config)
        self._dtype = dtype
        if grad_cache is not None:
            image = GradCached(self.encoder, grad_cache)
            self._towers = Towers(image=image, num_features=self._towers.num_features)
            for module in self.modules():
                if isinstance(module, ImageText):
                    module.read_in_parts(grad_cache)
        # Small crops must fit the tower, too: tried now, and not in the first step.
        for crops in self.arrangement.crops:
            side_px = crops.side_px(spec.input_px)
            if side_px != spec.input_px:
                num_features(self.encoder, spec.model_copy(update={"input_px": side_px}))

    def forward(self, loaded: LoadedBatch) -> LossTerms:
        """The mean loss of this rank's rows.

        Crops are coloured and normalised here, on the device
        (docs/adr/0012-colours-on-the-device.md).
        """
        batch = self._batch(loaded)  # outside of autocast: colours are computed in float32
        if self._dtype is None:
            return self.objective(self._towers, batch)
        with torch.autocast(loaded.ids.device.type, self._dtype):
            return self.objective(self._towers, batch)

    def _batch(self, loaded: LoadedBatch) -> Batch:
        reads, num_groups = self.arrangement.reads, len(loaded.ids)
        crops = []
        for images, colours, boxes in zip(loaded.images, loaded.colours, loaded.boxes, strict=True):
            draws = None
            if "draws" in reads:
                draws = torch.cat([boxes, copied(colours, boxes.device)], dim=1)
            with torch.no_grad():
                pixels: Tensor = normalize(colour(images, colours), self.spec)
            crops.append(Crops(images=pixels, per_group=len(images) // num_groups, draws=draws))
        return Batch(
            crops=tuple(crops),
            ids=loaded.ids,
            captions=loaded.captions if "captions" in reads else (),
            labels=loaded.labels if reads & {"labels", "group_labels"} else None,
            latents=self._latents(loaded) if "latents" in reads else None,
        )

    def _latents(self, loaded: LoadedBatch) -> Tensor:
        """The latent of each crop's view, for the first crop set."""
        count = self.arrangement.crops[0].count
        return loaded.latents.repeat_interleave(count, dim=0)

    def recompute_activations(self) -> None:
        """Hold for the backward pass what enters each block, and compute the rest again.

        Gradients stay the same. Source: Chen et al., Training Deep Nets with Sublinear Memory Cost,
        arXiv 1604.06174.

        Raises:
            ConfigError: The tower has no blocks to do it by, or batch norms in them, which would
                count each batch twice.
        """
        key = f"run.activation_checkpointing: {self.spec.model}"
        if not hasattr(self.encoder, "set_grad_checkpointing"):
            raise ConfigError(f"{key} cannot do it; leave it out")
        if any(isinstance(module, _BatchNorm) for module in self.encoder.modules()):
            raise ConfigError(f"{key} has batch norms, which would count twice; leave it out")
        module: Any
        for module in self.modules():  # of the objective, too: a tower for texts
            if hasattr(module, "set_grad_checkpointing"):
                module.set_grad_checkpointing(True)

    def compile_towers(self) -> None:
        """Let torch compile the towers when they are first called; names of the state stay."""
        for module in self.modules():
            if module is self.encoder or isinstance(module, TextTransformer):
                module.compile()

    def after_step(self, step: int, num_steps: int) -> None:
        """Let the objective follow a step; see `Objective.after_step`."""
        self.objective.after_step(self._towers, step, num_steps)

    def exports(self) -> Mapping[str, Any]:
        """The modules that a finished run keeps, by part: `image`, and what the objective adds."""
        return {"image": self.encoder, **self.objective.exports()}

    def drops(self) -> bool:
        """Whether values, patches or paths are dropped at random while the learner trains."""
        names = ("p", "prob", "drop_prob")  # of torch's dropouts, and of patches and paths in timm
        kinds = (_DropoutNd, DropPath, PatchDropout)
        return any(
            isinstance(module, kinds) and any(vars(module).get(name) for name in names)
            for module in self.modules()
        )

    def exported_tower(self) -> str:
        """What the names of the exported image tower's tensors begin with in the state.

        Empty if the tower is no module of the learner, so that no tensor stands for it.
        """
        image = self.exports()["image"]
        places = [f"{name}." for name, module in self.named_modules() if module is image]
        return next(iter(places), "")


def make_learner(plan: Plan, weights: Mapping[str, Tensor] | None = None) -> Learner:
    """The learner of a run, with weights that are drawn from the global generator of torch.

    Args:
        plan: The run.
        weights: What the image tower begins with in place of these.

    Raises:
        ConfigError: The tower does not do what the recipe wants of it.
    """
    run = plan.config.run
    learner = Learner(
        plan.spec,
        plan.objective,
        plan.objective_config,
        classes=plan.stream.classes,
        dtype=autocast_type(run.precision),
        grad_cache=run.grad_cache,
        weights=weights,
    )
    if run.activation_checkpointing:
        learner.recompute_activations()
    return learner
