"""The loss against a slow loop in float64, and against what the papers say it must be."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.sets import refused
from trainer import losses
from trainer.errors import NoPositivesError
from trainer.losses import multi_positive_loss, unit


def slow_loss(
    anchors: Tensor,
    candidates: Tensor,
    anchor_groups: Tensor,
    candidate_groups: Tensor,
    scale: Tensor,
    first_self: int | None,
) -> Tensor:
    """Equations of the paper, one anchor at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for i, anchor in enumerate(anchors):
        others = [j for j in range(len(candidates)) if first_self is None or j != first_self + i]
        logits = scale * candidates[others] @ anchor
        log_q = logits - torch.logsumexp(logits, 0)
        matches = [bool(candidate_groups[j] == anchor_groups[i]) for j in others]
        p = torch.tensor(matches, dtype=torch.float64)
        total = total - (p / p.sum() * log_q).sum()
    return total / len(anchors)


def embeddings(count: int, dim: int, seed: int) -> Tensor:
    return unit(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)))


@given(
    groups=st.lists(st.integers(0, 4), min_size=2, max_size=12),
    has_self=st.booleans(),
    temperature=st.sampled_from([0.07, 0.1, 1.0]),
    chunk=st.sampled_from([1, 3, 128]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_loss_and_gradients_are_those_of_the_slow_loop(
    groups: list[int], has_self: bool, temperature: float, chunk: int, seed: int
) -> None:
    ids = torch.tensor([*groups, *groups]) - (1 << 40)  # each group at least twice, any order
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    ids = ids[order]
    first, count = (1, len(ids) - 2) if has_self else (None, len(groups))
    candidates = embeddings(len(ids), 5, seed).requires_grad_()
    apart = embeddings(count, 5, seed + 1).requires_grad_()
    anchors = candidates[1 : 1 + count] if has_self else apart
    anchor_ids = ids[1 : 1 + count] if has_self else ids[torch.arange(count)]
    scale = torch.tensor(1 / temperature, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "CHUNK_ROWS", chunk)
        fast = multi_positive_loss(
            anchors, candidates, anchor_ids, ids, scale=scale, first_self=first
        )
    inputs = [candidates, scale] + ([] if has_self else [apart])
    grads = torch.autograd.grad(fast, inputs)

    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    slow_anchors = exact[0][1 : 1 + count] if has_self else exact[2]
    slow = slow_loss(slow_anchors, exact[0], anchor_ids, ids, exact[1], first)
    assert fast.item() == pytest.approx(slow.item(), abs=2e-5)
    for grad, expected in zip(grads, torch.autograd.grad(slow, exact), strict=True):
        torch.testing.assert_close(grad.double(), expected, atol=2e-5, rtol=1e-4)


def test_anchor_has_no_part_in_the_row_that_a_teacher_gives_for_it() -> None:
    ids = torch.tensor([4, 4, 9, 9, 4, 9])
    anchors, candidates = embeddings(3, 5, 0).requires_grad_(), embeddings(6, 5, 1).requires_grad_()
    fast = multi_positive_loss(anchors, candidates, ids[2:5], ids, scale=10.0, first_self=2)
    exact = [tensor.detach().double().requires_grad_() for tensor in (anchors, candidates)]
    slow = slow_loss(exact[0], exact[1], ids[2:5], ids, torch.tensor(10.0).double(), 2)
    assert fast.item() == pytest.approx(slow.item(), abs=1e-6)
    grads = torch.autograd.grad(fast, [anchors, candidates])
    for grad, expected in zip(grads, torch.autograd.grad(slow, exact), strict=True):
        torch.testing.assert_close(grad.double(), expected, atol=2e-6, rtol=1e-5)


def test_gradients_are_right_to_a_millionth_at_the_papers_size_of_embeddings() -> None:
    ids = torch.arange(60).repeat_interleave(6)
    fast = embeddings(360, 256, 0).requires_grad_()
    exact = fast.detach().double().requires_grad_()
    multi_positive_loss(fast, fast, ids, ids, scale=10.0, first_self=0).backward()
    slow_loss(exact, exact, ids, ids, torch.tensor(10.0).double(), 0).backward()
    assert fast.grad is not None
    assert exact.grad is not None
    error = (fast.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert float(error) < 1e-6


@pytest.mark.parametrize("views", [2, 4, 6])
def test_floor_is_the_log_of_the_number_of_positives(views: int) -> None:
    far = torch.eye(8).repeat_interleave(views, dim=0)  # groups are points, at right angles
    ids = torch.arange(8).repeat_interleave(views)
    loss = multi_positive_loss(far, far, ids, ids, scale=200.0, first_self=0)
    assert float(loss) == pytest.approx(math.log(views - 1), abs=2e-5)


def test_two_views_are_nt_xent() -> None:
    one, other = embeddings(7, 9, 0), embeddings(7, 9, 1)
    both = torch.stack([one, other], dim=1).reshape(14, 9)
    ids = torch.arange(7).repeat_interleave(2)
    logits = (both @ both.T / 0.1).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.arange(14) ^ 1)
    loss = multi_positive_loss(both, both, ids, ids, scale=10.0, first_self=0)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)


def test_one_caption_an_image_is_the_loss_of_clip() -> None:
    images, texts = embeddings(6, 9, 0), embeddings(6, 9, 1)
    ids = torch.tensor([5, 3, 9, 1, 7, 2])
    expected = F.cross_entropy(images @ texts.T * 14.0, torch.arange(6))
    assert float(multi_positive_loss(images, texts, ids, ids, scale=14.0)) == pytest.approx(
        float(expected), abs=1e-5
    )


def test_other_ids_at_the_same_size_are_another_loss() -> None:
    """The reference code caches its mask from the first batch."""
    views = embeddings(8, 4, 0)
    first = multi_positive_loss(
        views, views, torch.arange(4).repeat_interleave(2), torch.arange(4).repeat_interleave(2),
        scale=10.0, first_self=0,
    )  # fmt: skip
    ids = torch.tensor([1, 1, 1, 2, 2, 2, 3, 3])
    second = multi_positive_loss(views, views, ids, ids, scale=10.0, first_self=0)
    expected = slow_loss(views.double(), views.double(), ids, ids, torch.tensor(10.0).double(), 0)
    assert float(first) != float(second)
    assert float(second) == pytest.approx(float(expected), abs=1e-5)


def test_group_that_is_drawn_twice_is_its_own_positive() -> None:
    views = embeddings(6, 4, 0)
    ids = torch.tensor([1, 1, 2, 2, 1, 1])
    loss = multi_positive_loss(views, views, ids, ids, scale=10.0, first_self=0)
    exact = slow_loss(views.double(), views.double(), ids, ids, torch.tensor(10.0).double(), 0)
    assert float(loss) == pytest.approx(float(exact), abs=1e-5)


def test_half_precision_is_computed_in_float32() -> None:
    views = embeddings(8, 4, 0)
    ids = torch.arange(4).repeat_interleave(2)
    half = views.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = multi_positive_loss(half, half, ids, ids, scale=10.0, first_self=0)
    loss.backward()
    rounded = views.bfloat16().float()
    assert loss.dtype == torch.float32
    assert loss.item() == float(
        multi_positive_loss(rounded, rounded, ids, ids, scale=10.0, first_self=0)
    )


def test_equal_embeddings_give_a_finite_loss_and_gradient() -> None:
    views = unit(torch.ones(8, 4)).requires_grad_()
    ids = torch.arange(4).repeat_interleave(2)
    loss = multi_positive_loss(views, views, ids, ids, scale=100.0, first_self=0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(7), abs=1e-4)
    assert views.grad is not None
    assert bool(views.grad.isfinite().all())


@pytest.mark.parametrize(("ids", "first_self"), [([1, 2, 2], 0), ([9, 2, 2], None)])
def test_anchor_without_a_positive_is_refused(ids: list[int], first_self: int | None) -> None:
    views, groups = embeddings(3, 4, 0), torch.tensor(ids)
    candidates = groups if first_self is not None else torch.tensor([2, 2, 2])
    with refused(NoPositivesError, f"group {ids[0]}", "at least two views"):
        multi_positive_loss(views, views, groups, candidates, scale=10.0, first_self=first_self)
