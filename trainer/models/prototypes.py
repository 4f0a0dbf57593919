"""Prototypes: tokens as distributions over learned directions, and the loss between two towers.

Source: DINO, arXiv:2104.14294, sections 3.1 and 3.2; for patches iBOT, arXiv:2111.07832, equation
2; with Sinkhorn's targets as SynCLR has them, arXiv:2312.17742, section 3.3.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.collectives import gather
from trainer.losses import exact_products, unit
from trainer.models.head import draw_narrow

CHUNK_TOKENS = 1024
"""Rows of logits that exist at a time: 268 MB of them for 65,536 prototypes."""

SINKHORN_ITERATIONS = 3


class PrototypeHead(nn.Module):
    """Three layers with GELU down to a bottleneck, and prototypes that it is compared with.

    Prototypes have length one, so logits are cosines; the reference code also learns their lengths.

    Source: DINOHead of SynCLR/train_pytorch/models/head.py in google-research/syn-rep-learn.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, num_prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        draw_narrow(self.layers)
        self.prototypes = nn.Linear(bottleneck, num_prototypes, bias=False)

    def forward(self, tokens: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens bottleneck"]:
        """Tokens in the bottleneck, of length one."""
        return unit(self.layers(tokens))

    def directions(self) -> Float[Tensor, "prototypes bottleneck"]:
        """The prototypes, of length one."""
        return unit(self.prototypes.weight)


def prototype_loss(
    tokens: Float[Tensor, "tokens bottleneck"],
    directions: Float[Tensor, "prototypes bottleneck"],
    teacher_tokens: Float[Tensor, "tokens bottleneck"],
    teacher_directions: Float[Tensor, "prototypes bottleneck"],
    *,
    temperature: float,
    teacher_temperature: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Mean cross-entropy between what a teacher sees in tokens and what the student gives for them.

    All logits never exist: they are computed a few tokens at a time, and again for the gradients.

    Args:
        tokens: This rank's, of length one.
        directions: The prototypes, of length one.
        teacher_tokens: The teacher's, in the same order, without a gradient.
        teacher_directions: The teacher's prototypes.
        temperature: The student's cosines are divided by it.
        teacher_temperature: The teacher's cosines are divided by it.
    """
    with torch.no_grad():
        shifts = sinkhorn_shifts(teacher_tokens, teacher_directions, teacher_temperature)

    def part_loss(part: Tensor, directions: Tensor, teacher_part: Tensor) -> Tensor:
        with exact_products(part.device):
            with torch.no_grad():
                cosines = teacher_part @ teacher_directions.T
                targets = (cosines / teacher_temperature + shifts).softmax(1)
            log_shares = (part @ directions.T / temperature).log_softmax(1)
            return -(targets * log_shares).sum()

    total = tokens.new_zeros(())
    parts = zip(
        torch.split(tokens, CHUNK_TOKENS), torch.split(teacher_tokens, CHUNK_TOKENS), strict=True
    )
    for part, teacher_part in parts:
        total = total + checkpoint(part_loss, part, directions, teacher_part, use_reentrant=False)
    return total / len(tokens)


def sinkhorn_shifts(
    tokens: Float[Tensor, "tokens bottleneck"],
    directions: Float[Tensor, "prototypes bottleneck"],
    temperature: Float[Tensor, ""],
) -> Float[Tensor, " prototypes"]:
    """What is added to a teacher's logits so that their softmax uses all prototypes alike.

    Sinkhorn and Knopp's iteration scales the rows of the matrix exp(logits), of prototypes by
    tokens, to equal sums and then its columns. Scaling a row is a shift of its logits, and scaling
    columns a softmax over prototypes; so all that has to be kept is one shift for each prototype.

    Args:
        tokens: This rank's; every rank has equally many. Tokens of all ranks are counted.
        directions: The prototypes.
        temperature: Cosines are divided by it.

    Source: sinkhorn_knopp_teacher of mask_losses.py, which this equals up to rounding.
    """

    def logits() -> Iterator[Tensor]:
        for part in torch.split(tokens, CHUNK_TOKENS):
            with exact_products(part.device):
                yield part @ directions.T / temperature

    log_sums = directions.new_full((len(directions),), -torch.inf)
    for part in logits():
        log_sums = torch.logaddexp(log_sums, part.logsumexp(0))
    shifts = -gather(log_sums[None]).logsumexp(0)
    for _ in range(SINKHORN_ITERATIONS - 1):
        sums = torch.zeros_like(shifts)
        for part in logits():
            sums += (part + shifts).softmax(1).sum(0)
        shifts = shifts - gather(sums[None]).sum(0).log()
    return shifts
