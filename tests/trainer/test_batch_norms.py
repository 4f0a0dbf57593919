"""Batch norm over ranks does what torch does; the laws of objectives compare two ranks with one."""

import copy

import pytest
import torch
from torch import nn

from trainer.models.batch_norms import RankBatchNorm2d


@pytest.mark.parametrize("momentum", [0.1, 0.3, None])
@pytest.mark.parametrize("affine", [True, False])
def test_outputs_gradients_and_running_statistics_are_those_of_torch(
    momentum: float | None, affine: bool
) -> None:
    torch.manual_seed(0)
    reference = nn.BatchNorm2d(3, momentum=momentum, affine=affine)
    ours = copy.deepcopy(reference)
    ours.__class__ = RankBatchNorm2d
    for _ in range(3):
        features = 5 + 2 * torch.randn(4, 3, 6, 5)
        ours_in, reference_in = (features.clone().requires_grad_() for _ in range(2))
        outputs = ours(ours_in), reference(reference_in)
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
        for output in outputs:
            (output**3).sum().backward()
        torch.testing.assert_close(ours_in.grad, reference_in.grad, rtol=1e-4, atol=1e-4)
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)
