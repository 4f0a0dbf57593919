"""GradCache on two ranks, whose gradients torch averages while the passes are still under way."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from trainer.testing.objectives import NUM_GROUPS, PATCHES, make_batch, make_learner, take
from trainer.testing.ranks import run_ranks

SETTINGS = {"head_hidden": 12, "head_out": 8}


def learn_in_rank(rank: int, world: int, grad_cache: int | None, folder: str) -> None:
    learner = make_learner("stablerep", SETTINGS, PATCHES, grad_cache=grad_cache)
    module: Any = (
        DistributedDataParallel(learner, broadcast_buffers=False) if world > 1 else learner
    )
    groups = torch.arange(NUM_GROUPS).chunk(world)[rank]
    module(take(make_batch(learner), groups)).total.backward()
    gradients = [p.grad.flatten() for p in learner.parameters() if p.grad is not None]
    torch.save(torch.cat(gradients), Path(folder) / f"{rank}.pt")


def test_two_ranks_in_parts_have_the_gradient_of_one_with_all(tmp_path: Path) -> None:
    learn_in_rank(0, 1, None, str(tmp_path))
    expected = torch.load(tmp_path / "0.pt", weights_only=True)
    run_ranks(learn_in_rank, 2, 5, str(tmp_path))
    for rank in range(2):
        gradients = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert float((gradients - expected).norm()) <= 1e-5 * float(expected.norm())
