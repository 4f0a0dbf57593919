"""Softmax cross-entropy: the label of a group is predicted, or which group it is."""

from collections.abc import Sequence
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from trainer.errors import DataError
from trainer.objective_settings.cross_entropy import CrossEntropyConfig, CrossEntropySettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers

MAX_CLASSES = 1_000_000
"""Weights of the classifier grow with its classes."""


class CrossEntropy(CrossEntropySettings, ObjectiveModule):
    """A linear classifier on the features, learned together with the tower; then dropped.

    Source of the smoothing: Szegedy et al., arXiv:1512.00567, section 7; of groups as classes:
    Baradad et al., arXiv:2211.16412, section 4.1.
    """

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

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        assert batch.labels is not None
        labels = batch.labels.repeat_interleave(crops.per_group)
        logits = self.classifier(towers.image(crops.images)).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return LossTerms(total=loss, parts={"accuracy": accuracy})
