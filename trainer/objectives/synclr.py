"""SynCLR: StableRep with a teacher, small crops, and patches that the student does not see."""

import copy
from collections.abc import Mapping
from math import cos, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from manifests.foundation.errors import ConfigError
from trainer.collectives import gather
from trainer.distributed import rank
from trainer.grad_cache import in_parts, unwrapped
from trainer.losses import multi_positive_loss, unit
from trainer.models.head import LayerNormHead
from trainer.models.masked_patches import (
    choose_masks,
    features_and_patches,
    num_patches,
    require_patches,
)
from trainer.models.prototypes import PrototypeHead, prototype_loss
from trainer.objective_settings.synclr import SynclrConfig, SynclrSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class Synclr(SynclrSettings, ObjectiveModule):
    """L = L_large + local_weight L_small + patch_weight L_patches, equation 4 with stated weights.

    L_large and L_small are StableRep's loss of the student's crops against the teacher's embeddings
    of the large crops of all ranks: those of the same group are positives, other than the very crop
    that a large one is. L_patches is iBOT's: what the teacher sees at patches that are hidden from
    the student, as a distribution over prototypes.

    As in the authors' code the heads have layer norms; the paper takes the design of MoCo v3, which
    has batch norms. Different from that code: crops are masked in equal number in each group, not
    the first of a rank; prototypes have length one; and positives come from the ids of each batch.

    Source: SynCLR, arXiv:2312.17742, section 3.3 and equation 4; train_pytorch of its folder in
    google-research/syn-rep-learn.
    """

    has_teacher: ClassVar[bool] = True
    teacher_temperature: Tensor

    def __init__(self, config: SynclrConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        if any(isinstance(module, _BatchNorm) for module in towers.image.modules()):
            raise ConfigError(
                f"synclr: {type(towers.image).__name__} has batch norms, whose statistics its "
                "teacher does not follow; choose a tower without them, such as a vit"
            )
        self.config = config
        hidden, out = config.head_hidden, config.head_out
        self.projector = LayerNormHead(3, towers.num_features, hidden, out)
        self.predictor = LayerNormHead(2, out, hidden, out)
        self.patch_head: PrototypeHead | None = None
        if config.patch_weight:
            width = require_patches(towers.image, key="objective.patch_weight")
            self.patch_head = PrototypeHead(
                width, config.patch_hidden, config.patch_bottleneck, config.prototypes
            )
            self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(width), std=0.02))
        self.teacher = _Teacher(towers.image, self.projector, self.patch_head)
        self.register_buffer("teacher_temperature", torch.zeros(()))
        self._warm_teacher(0)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        config = self.config
        large, *small = batch.crops
        ids = batch.row_ids(large)
        if self.patch_head is None:
            features, teacher_features = self._features(towers, large.images)
            patches = None
        else:
            assert large.draws is not None
            masks = choose_masks(
                large.draws,
                ids,
                per_group=large.per_group,
                num_patches=num_patches(self.teacher.tower, large.images),
                crop_part=config.masked_crops,
                patch_part=config.masked_patches,
            )
            ids = ids[masks.order]
            images = large.images[masks.order]
            features, teacher_features, patches = self._masked(towers, images, masks.patches)

        with torch.no_grad():
            targets = gather(unit(self.teacher.projector(teacher_features)))
        target_ids = gather(ids)
        anchors = self._embedded(features)
        contrast = multi_positive_loss(
            anchors,
            targets,
            ids,
            target_ids,
            scale=1 / config.temperature,
            first_self=rank() * len(anchors),
        )
        total, parts = contrast, {"large": contrast}
        for crops in small:
            local = multi_positive_loss(
                self._embedded(towers.image(crops.images)),
                targets,
                batch.row_ids(crops),
                target_ids,
                scale=1 / config.temperature,
            )
            total = total + config.local_weight * local
            parts["small"] = local
        if patches is not None:
            total = total + config.patch_weight * patches
            parts["patches"] = patches
        return LossTerms(total=total, parts=parts)

    def _embedded(self, features: Tensor) -> Float[Tensor, "crops embed_dim"]:
        return unit(self.predictor(self.projector(features)))

    def _features(self, towers: Towers, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of student and teacher, without hidden patches."""
        teacher, rows = self.teacher.tower, unwrapped(towers.image)[1]
        with torch.no_grad():
            (targets,) = in_parts(lambda some: (teacher(some),), rows, images)
        return towers.image(images), targets

    def _masked(
        self, towers: Towers, images: Tensor, patches: Tensor
    ) -> tuple[Tensor, Tensor, Float[Tensor, ""]]:
        """Features of student and teacher, and the loss of hidden patches of the first images."""
        assert self.patch_head is not None
        assert self.teacher.patch_head is not None
        tower, rows = unwrapped(towers.image)
        features, tokens = features_and_patches(tower, images, patches, self.mask_token, rows=rows)
        with torch.no_grad():
            targets, teacher_tokens = features_and_patches(
                self.teacher.tower, images, patches, None, rows=rows
            )
            teacher_tokens = self.teacher.patch_head(teacher_tokens.flatten(0, 1))
            teacher_directions = self.teacher.patch_head.directions()
        loss = prototype_loss(
            self.patch_head(tokens.flatten(0, 1)),
            self.patch_head.directions(),
            teacher_tokens,
            teacher_directions,
            temperature=self.config.patch_temperature,
            teacher_temperature=self.teacher_temperature,
        )
        return features, targets, loss

    def after_step(self, towers: Towers, step: int, num_steps: int) -> None:
        momentum = 1 - (1 - self.config.momentum) * (cos(pi * step / num_steps) + 1) / 2
        # In the order in which `_Teacher` copied them: tower, projector, head of the patches.
        followed = [*towers.image.parameters(), *self.projector.parameters()]
        if self.patch_head is not None:
            followed += self.patch_head.parameters()
        with torch.no_grad():
            for teacher, student in zip(self.teacher.parameters(), followed, strict=True):
                teacher.lerp_(student, 1 - momentum)
        self._warm_teacher(step + 1)

    def _warm_teacher(self, step: int) -> None:
        """Set the temperature of a step, counted from 0; a buffer, so that a resumed run has it."""
        first, last = self.config.teacher_temperature
        warmup = self.config.teacher_warmup_steps
        done = min(step / warmup, 1.0) if warmup else 1.0
        self.teacher_temperature.fill_(first + done * (last - first))

    def exports(self) -> Mapping[str, nn.Module]:
        return {"image": self.teacher.tower} if self.config.exported == "teacher" else {}


class _Teacher(nn.Module):
    """Copies of tower and heads, always in evaluation mode: without dropout and dropped paths."""

    def __init__(self, tower: nn.Module, projector: nn.Module, patch_head: Any) -> None:
        super().__init__()
        self.tower = copy.deepcopy(tower)
        self.projector = copy.deepcopy(projector)
        self.patch_head: PrototypeHead | None = copy.deepcopy(patch_head)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "_Teacher":
        return super().train(False)
