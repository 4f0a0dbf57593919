"""Sinkhorn's targets and the loss over prototypes, beside slow loops in float64."""

import math

import pytest
import torch
from torch import Tensor

from trainer.losses import unit
from trainer.models import prototypes
from trainer.models.prototypes import PrototypeHead, prototype_loss, sinkhorn_shifts


def drawn(count: int, seed: int) -> Tensor:
    return unit(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)))


def slow_targets(tokens: Tensor, directions: Tensor, temperature: float) -> list[list[float]]:
    """Three rounds on the matrix: rows of prototypes sum to 1 / K, columns of tokens to 1 / B."""
    cosines = (directions.double() @ tokens.double().T).tolist()
    matrix = [[math.exp(cosine / temperature) for cosine in row] for row in cosines]
    num_prototypes, num_tokens = len(matrix), len(matrix[0])
    for _ in range(3):
        for row in matrix:
            total = sum(row)
            row[:] = [value / total / num_prototypes for value in row]
        for column in range(num_tokens):
            total = sum(row[column] for row in matrix)
            for row in matrix:
                row[column] /= total * num_tokens
    return [[row[column] * num_tokens for row in matrix] for column in range(num_tokens)]


@pytest.mark.parametrize("chunk", [3, 1024])
@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
def test_targets_are_those_of_sinkhorn(
    chunk: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prototypes, "CHUNK_TOKENS", chunk)
    tokens, directions = drawn(8, 0), drawn(6, 1)
    shifts = sinkhorn_shifts(tokens, directions, torch.tensor(temperature))
    targets = (tokens @ directions.T / temperature + shifts).softmax(1)
    expected = torch.tensor(slow_targets(tokens, directions, temperature))
    torch.testing.assert_close(targets, expected, atol=2e-5, rtol=1e-4)


def test_all_prototypes_are_used_though_tokens_prefer_one() -> None:
    tokens = unit(drawn(64, 2) * 0.3 + torch.tensor([1.0, 0, 0, 0, 0]))
    directions = drawn(4, 3)
    shifts = sinkhorn_shifts(tokens, directions, torch.tensor(0.07))
    plain = (tokens @ directions.T / 0.07).softmax(1).mean(0)
    shifted = (tokens @ directions.T / 0.07 + shifts).softmax(1).mean(0)
    assert float(plain.max()) > 0.9
    assert float(shifted.min()) > 0.15


@pytest.mark.parametrize("chunk", [3, 1024])
def test_loss_and_gradients_are_those_of_the_slow_loop(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prototypes, "CHUNK_TOKENS", chunk)
    tokens, directions = drawn(8, 4).requires_grad_(), drawn(6, 5).requires_grad_()
    teacher, teacher_directions = drawn(8, 6), drawn(6, 7)
    loss = prototype_loss(
        tokens,
        directions,
        teacher,
        teacher_directions,
        temperature=0.1,
        teacher_temperature=torch.tensor(0.05),
    )
    targets = slow_targets(teacher, teacher_directions, 0.05)
    exact = [tensor.detach().double().requires_grad_() for tensor in (tokens, directions)]
    total = torch.zeros((), dtype=torch.float64)
    for token, target in zip(exact[0], targets, strict=True):
        logits = [direction @ token / 0.1 for direction in exact[1]]
        log_sum = torch.logsumexp(torch.stack(logits), 0)
        for share, logit in zip(target, logits, strict=True):
            total = total - share * (logit - log_sum)
    expected = total / len(tokens)
    assert loss.item() == pytest.approx(expected.item(), abs=2e-5)
    grads = torch.autograd.grad(loss, [tokens, directions])
    for grad, slow in zip(grads, torch.autograd.grad(expected, exact), strict=True):
        torch.testing.assert_close(grad.double(), slow, atol=2e-5, rtol=1e-3)


def test_head_gives_directions_whatever_the_length_of_its_weights() -> None:
    torch.manual_seed(0)
    head = PrototypeHead(7, 12, 5, 6)
    tokens, directions = head(torch.randn(3, 7)), head.directions()
    torch.testing.assert_close(tokens.norm(dim=1), torch.ones(3))
    with torch.no_grad():
        head.prototypes.weight.mul_(3)
    torch.testing.assert_close(head.directions(), directions)
