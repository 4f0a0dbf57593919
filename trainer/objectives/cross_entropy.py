"""Softmax cross-entropy: the label of a group is predicted, or which group it is."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from manifests.foundation.settings import Table
from trainer.errors import DataError
from trainer.objectives import Arrangement, Batch, CropSpec, LossTerms, ObjectiveModule, Towers

MAX_CLASSES = 1_000_000
"""Weights of the classifier grow with its classes."""


class CrossEntropyConfig(Table):
    """Table [objective]."""

    name: Literal["cross-entropy"] = "cross-entropy"
    classes: Literal["labels", "groups"] = "labels"
    """`groups`: each group is a class of its own, as programs are in Shaders21k."""
    crops: int = Field(default=1, ge=1)
    """Crops of each view."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of the target that is spread evenly over all classes."""


class CrossEntropy(ObjectiveModule):
    """A linear classifier on the features, learned together with the tower; then dropped.

    Source of the smoothing: Szegedy et al., arXiv:1512.00567, section 7; of groups as classes:
    Baradad et al., arXiv:2211.16412, section 4.1.
    """

    Config: ClassVar[type[CrossEntropyConfig]] = CrossEntropyConfig
    uses_ids: ClassVar[bool] = False

    def __init__(self, config: CrossEntropyConfig, towers: Towers, classes: Sequence[str]) -> None:
        super().__init__()
        if not 2 <= len(classes) <= MAX_CLASSES:
            raise DataError(
                f"cross-entropy: the {config.classes} are {len(classes):,} classes, expected 2 to "
                f"{MAX_CLASSES:,}; choose an objective without classes, such as stablerep"
            )
        self.label_smoothing = config.label_smoothing
        self.classifier = nn.Linear(towers.num_features, len(classes))

    @classmethod
    def arrangement(cls, config: CrossEntropyConfig) -> Arrangement:
        labels = "labels" if config.classes == "labels" else "group_labels"
        crops = (CropSpec(count=config.crops),)
        return Arrangement(crops=crops, min_groups=1, reads=frozenset({labels}))

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        assert batch.labels is not None
        labels = batch.labels.repeat_interleave(crops.per_group)
        logits = self.classifier(towers.image(crops.images)).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return LossTerms(total=loss, parts={"accuracy": accuracy})
