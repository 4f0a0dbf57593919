"""The projection head of StableRep, and the contrastive loss of what it projects."""

from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.collectives import gather
from trainer.distributed import rank
from trainer.losses import multi_positive_loss, unit
from trainer.models.batch_norms import PositionBatchNorm
from trainer.models.specs import HeadConfig


class PlainHead(nn.Sequential):
    """Linear, ReLU, Linear.

    Source: the heads of MoCo v2, arXiv:2003.04297, and of HobbitLong/SupContrast.
    """

    def __init__(self, num_features: int, hidden: int, out: int) -> None:
        super().__init__(nn.Linear(num_features, hidden), nn.ReLU(), nn.Linear(hidden, out))


class ProjectionHead(nn.Module):
    """Linear-BN-ReLU, Linear-BN-ReLU, Linear with bias and without a last batch norm.

    Source: StableRep, models/models_stablerep.py of google-research/syn-rep-learn.
    """

    def __init__(self, num_features: int, hidden: int, out: int) -> None:
        super().__init__()
        # No bias where a batch norm follows: the norm subtracts it, and has one of its own.
        self.first = nn.Linear(num_features, hidden, bias=False)
        self.first_norm = PositionBatchNorm(hidden)
        self.second = nn.Linear(hidden, hidden, bias=False)
        self.second_norm = PositionBatchNorm(hidden)
        self.last = nn.Linear(hidden, out)

    def forward(
        self, features: Float[Tensor, "crops features"], num_positions: int
    ) -> Float[Tensor, "crops embed_dim"]:
        """Embeddings that are not L2-normalised yet; the rows of a group are adjacent."""
        hidden = F.relu(self.first_norm(self.first(features), num_positions))
        hidden = F.relu(self.second_norm(self.second(hidden), num_positions))
        embeddings: Tensor = self.last(hidden)
        return embeddings


class LayerNormHead(nn.Sequential):
    """Linear-LN-GELU some times, then Linear without bias and LN without weights.

    Each row is projected by itself, so crops of any size may be projected in any parts.

    Source: MLPHead of SynCLR/train_pytorch/models/head.py in google-research/syn-rep-learn.
    """

    def __init__(self, num_layers: int, num_in: int, hidden: int, out: int) -> None:
        widths = [num_in, *[hidden] * (num_layers - 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.GELU()]
        layers += [
            nn.Linear(widths[-1], out, bias=False),
            nn.LayerNorm(out, elementwise_affine=False),
        ]
        super().__init__(*layers)
        draw_narrow(self)


def draw_narrow(head: nn.Module) -> None:
    """Draw the weights of the linear layers from a normal distribution of deviation 0.02, in place.

    Biases become 0. The weights are drawn from the global generator of torch.
    """
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class ContrastiveHead(nn.Module):
    """A projection head, and the multi-positive loss of its embeddings over all ranks."""

    def __init__(self, config: HeadConfig, num_features: int) -> None:
        super().__init__()
        self.temperature = config.temperature
        kind = ProjectionHead if config.head == "normed" else PlainHead
        self.head: nn.Module = kind(num_features, config.head_hidden, config.head_out)

    def forward(
        self,
        features: Float[Tensor, "crops features"],
        row_ids: Int[Tensor, " crops"],
        num_positions: int,
    ) -> Float[Tensor, ""]:
        """Mean loss over this rank's rows against the rows of all ranks."""
        has_norms = isinstance(self.head, ProjectionHead)
        projected = self.head(features, num_positions) if has_norms else self.head(features)
        anchors = unit(projected)
        return multi_positive_loss(
            anchors,
            gather(anchors),
            row_ids,
            gather(row_ids),
            scale=1 / self.temperature,
            first_self=rank() * len(anchors),
        )
