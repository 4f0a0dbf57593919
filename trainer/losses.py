"""The multi-positive contrastive loss, in chunks: the full matrix of logits never exists.

Source: StableRep, arXiv:2306.00984, section 3.1: each anchor's softmax over all candidates is
pulled to the uniform distribution over its positives. With two views of each group and the anchor
itself left out it is NT-Xent (SimCLR, arXiv:2002.05709).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from trainer.errors import NoPositivesError

CHUNK_ROWS = 128
"""Rows of logits that exist at a time; chosen by benchmarks/loss_speed.py."""


def multi_positive_loss(
    anchors: Float[Tensor, "views embed_dim"],
    candidates: Float[Tensor, "candidates embed_dim"],
    anchor_groups: Int[Tensor, " views"],
    candidate_groups: Int[Tensor, " candidates"],
    *,
    scale: float | Float[Tensor, ""],
    first_self: int | None = None,
) -> Float[Tensor, ""]:
    """Mean over anchors of the cross-entropy between softmax and uniform positives.

    The ids of this very batch decide which candidates are positives; nothing is cached. The views
    of a group that is in the batch twice are all positives of each other. The loss can be
    differentiated once, in anchors, candidates and scale; its gradient is computed together with
    the loss.

    Args:
        anchors: L2-normalised embeddings of this rank.
        candidates: L2-normalised embeddings of all ranks.
        anchor_groups: Group of each anchor.
        candidate_groups: Group of each candidate.
        scale: Inverse temperature; a 0-dimensional tensor if it is learned.
        first_self: Row of `candidates` that is of the first anchor's crop, as the same embedding or
            as that of a teacher; those of the other anchors follow it. An anchor's own row is then
            no candidate. None if there are no such rows, as for images against texts.

    Returns:
        At least the mean log of the number of positives: ln(m - 1) for m views of each group.

    Raises:
        NoPositivesError: An anchor has no positive, and the tensors are on the CPU. On a device,
            which would have to be waited for, the loss is NaN then.

    Example: with anchor groups [7, 7, 9, 9], the same candidates and first_self=0, the target of
    the first anchor over the candidates is [0, 1, 0, 0].
    """
    if not isinstance(scale, Tensor):
        scale = torch.full((), float(scale), device=anchors.device)
    with exact_products(anchors.device):
        loss: Tensor = _MultiPositive.apply(
            anchors.float(),
            candidates.float(),
            scale.float(),
            anchor_groups,
            candidate_groups,
            first_self,
        )
    return loss


class _MultiPositive(torch.autograd.Function):
    """The loss and its gradient, without a mask of positives.

    Let S_g be the sum of the candidates of group g, and c_g their number. The positives of an
    anchor of that group then sum to S_g less its own row, and are c_g - 1, if it has a row of its
    own; otherwise they sum to S_g and are c_g.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        scale: Tensor,
        anchor_groups: Tensor,
        candidate_groups: Tensor,
        first_self: int | None,
    ) -> Tensor:
        num_anchors, has_self = len(anchors), first_self is not None
        # A group is named by its first place in the sorted ids. How many groups there are is not
        # asked, because the host would have to wait for the answer.
        places = candidate_groups.sort().values
        candidate_of = torch.searchsorted(places, candidate_groups)
        anchor_of = torch.searchsorted(places, anchor_groups)
        counts = torch.searchsorted(places, anchor_groups, right=True) - anchor_of
        num_positives = counts - int(has_self)
        if type(anchors) is Tensor and anchors.device.type == "cpu":  # tensors with values at hand
            _require_positives(num_positives, anchor_groups)
        anchor_of = anchor_of.clamp(max=len(places) - 1)  # of an unknown group it is one too many
        share = 1.0 / num_positives.float()  # [A]
        sums = torch.zeros_like(candidates)
        sums.index_add_(0, candidate_of, candidates)
        positives = sums[anchor_of]
        if first_self is not None:
            positives -= candidates[first_self : first_self + num_anchors]
        positives *= share[:, None]  # mean of the positives, [A, D]

        # The mean cosine of an anchor with its positives, and its gradient, need no matrix. Work
        # is done in place from here on, to save memory: neither `positives` nor `sums` is read
        # again.
        positive_cosines = torch.einsum("ad,ad->a", anchors, positives)
        grad_anchors = positives.neg_()
        shared = anchors * share[:, None]
        pulled = sums.zero_().index_add_(0, anchor_of, shared)
        grad_candidates = pulled[candidate_of].neg_()
        if first_self is not None:
            # An anchor is in the sum of its own group, but it does not pull itself.
            grad_candidates[first_self : first_self + num_anchors] += shared
        del shared

        # The normaliser needs the matrix, a few rows at a time: log(sum(exp)), then the softmax.
        log_sums = torch.empty(num_anchors, device=anchors.device)
        expected_cosine = torch.zeros((), device=anchors.device)
        for start in range(0, num_anchors, CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, num_anchors))
            part = anchors[rows]
            cosines = part @ candidates.T  # [rows, M]
            weights = cosines * scale
            if first_self is not None:
                # The anchor of row i is candidate first_self + start + i; exp(-inf) is no weight.
                weights.diagonal(first_self + start).fill_(-torch.inf)
            # A learned scale reaches 100, and exp(100) overflows float32.
            highest = weights.amax(1, keepdim=True)
            weights = weights.sub_(highest).exp_()
            total = weights.sum(1, keepdim=True)
            log_sums[rows] = (total.log() + highest).squeeze(1)
            weights.div_(total)
            attracted = weights @ candidates
            grad_anchors[rows] += attracted
            grad_candidates.addmm_(weights.T, part)
            expected_cosine += (attracted * part).sum()
        loss = (log_sums - scale * positive_cosines).mean()
        grad_scale = (expected_cosine - positive_cosines.sum()) / num_anchors
        ctx.save_for_backward(
            grad_anchors.mul_(scale / num_anchors),
            grad_candidates.mul_(scale / num_anchors),
            grad_scale,
        )
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_anchors, grad_candidates, grad_scale = ctx.saved_tensors
        return grad * grad_anchors, grad * grad_candidates, grad * grad_scale, None, None, None


def _require_positives(num_positives: Tensor, anchor_groups: Tensor) -> None:
    lonely = num_positives < 1
    if bool(lonely.any()):
        raise NoPositivesError(
            f"group {int(anchor_groups[lonely][0])}: a view has no positive in its batch; give at "
            "least two views or crops of each group"
        )


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Multiply in float32 inside the block, whatever autocast and the towers do."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    has_autocast = torch.amp.is_autocast_available(device.type)
    try:
        with torch.autocast(device.type, enabled=False) if has_autocast else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def unit(embeddings: Float[Tensor, "rows embed_dim"]) -> Float[Tensor, "rows embed_dim"]:
    """Rows of length one, in float32 even where autocast made half-precision embeddings."""
    return F.normalize(embeddings.float(), dim=-1)
