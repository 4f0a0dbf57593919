"""StableRep, SimCLR and SupCon: one contrastive loss, and three answers to what is positive."""

from typing import Any, ClassVar

from torch import Tensor, nn

from trainer.models.head import ContrastiveHead
from trainer.models.specs import HeadConfig
from trainer.objective_settings.contrastive import SimCLRSettings, StableRepSettings, SupConSettings
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers


class _Contrastive(ObjectiveModule):
    """Rows with equal ids are positives, all other rows of the step are negatives."""

    def __init__(self, config: HeadConfig, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.contrast: nn.Module = ContrastiveHead(config, towers.num_features)

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        (crops,) = batch.crops
        features = towers.image(crops.images)
        loss = self.contrast(features, self.row_ids(batch), crops.per_group)
        return LossTerms(total=loss)

    def row_ids(self, batch: Batch) -> Tensor:
        """What makes rows positives of each other: the group, unless a subclass says otherwise."""
        return batch.row_ids(batch.crops[0])


class StableRep(StableRepSettings, _Contrastive):
    """The views of one group are positives of each other.

    Source: StableRep, arXiv:2306.00984, section 3.1.
    """


class SimCLR(SimCLRSettings, _Contrastive):
    """Two crops of one view are positives of each other; every other view is a negative.

    With `pairs = "views"` the two positives are views of one group, and with more than two of them
    in a step the loss is StableRep's. Source: NT-Xent of SimCLR, arXiv:2002.05709, equation 1; of
    pairs of views: GenRep, arXiv:2106.05258, section 3.3.
    """


class SupCon(SupConSettings, _Contrastive):
    """The crops of all views of one class are positives of each other.

    The mean over the positives stands outside the logarithm (the paper's L_out), so the loss is
    StableRep's with classes in place of captions. The paper's code multiplies it by
    temperature / 0.07, which scales the gradient and moves no optimum.

    Source: SupCon, arXiv:2004.11362, equation 2; GenRep, arXiv:2106.05258, trains with it.
    """

    uses_ids: ClassVar[bool] = False

    def row_ids(self, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return batch.labels.repeat_interleave(batch.crops[0].per_group)
