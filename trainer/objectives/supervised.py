"""Supervised: softmax cross-entropy on the labels of the groups."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from manifests.foundation.settings import Table
from trainer.errors import DataError
from trainer.objectives import Arrangement, Batch, LossTerms, ObjectiveModule, Towers


class SupervisedConfig(Table):
    """Table [objective]."""

    name: Literal["supervised"] = "supervised"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that is spread evenly over all classes."""


class Supervised(ObjectiveModule):
    """A linear classifier on the features, learned together with the tower; then dropped.

    Source of the smoothing: Szegedy et al., arXiv:1512.00567, section 7.
    """

    Config: ClassVar[type[SupervisedConfig]] = SupervisedConfig
    uses_ids: ClassVar[bool] = False

    def __init__(self, config: SupervisedConfig, towers: Towers, classes: Sequence[str]) -> None:
        super().__init__()
        if len(classes) < 2:
            raise DataError(
                f"supervised: the labels name {len(classes)} class, expected at least two; choose "
                "an objective that reads no labels, such as stablerep"
            )
        self.label_smoothing = config.label_smoothing
        self.classifier = nn.Linear(towers.num_features, len(classes))

    @classmethod
    def arrangement(cls, config: SupervisedConfig) -> Arrangement:
        return Arrangement(min_groups=1, reads=frozenset({"labels"}))

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        assert batch.labels is not None
        labels = batch.labels.repeat_interleave(crops.per_group)
        logits = self.classifier(towers.image(crops.images)).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return LossTerms(total=loss, parts={"accuracy": accuracy})
