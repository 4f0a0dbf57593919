"""The multi-positive loss beside its dense form: time, memory, and how near the gradients are.

    python -m benchmarks.loss_speed [--rows 8196] [--dim 256] [--views 6] [--rounds 5]

Dense is the form of the reference code: one-hot targets, logits with the diagonal masked, and
`log_softmax`, each a matrix of rows x rows. Both forms run in turn on one thread, in CPU time.
Memory is the growth of the peak resident set, each form in a process of its own.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import machine
from trainer.losses import multi_positive_loss

SCALE = 10.0


def dense(embeddings: Tensor, ids: Tensor) -> Tensor:
    """Cross-entropy against a uniform target over the positives, with whole matrices.

    Args:
        embeddings: Unit vectors, [rows, dim].
        ids: Group of each row, [rows]; rows of one group are positives of each other.
    """
    is_self = torch.eye(len(ids), dtype=torch.bool)
    mask = (ids[:, None] == ids[None, :]).float().masked_fill(is_self, 0)
    targets = mask / mask.sum(1, keepdim=True)
    logits = (embeddings @ embeddings.T * SCALE).masked_fill(is_self, -1e9)
    return -(targets * F.log_softmax(logits, dim=1)).sum(1).mean()


def chunked(embeddings: Tensor, ids: Tensor) -> Tensor:
    """The same loss as the trainer computes it, without a matrix of rows x rows."""
    return multi_positive_loss(embeddings, embeddings, ids, ids, scale=SCALE, first_self=0)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"dense": dense, "chunked": chunked}


def inputs(rows: int, dim: int, views: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random unit embeddings [rows, dim], as in an early step, and their groups [rows]."""
    rng = torch.Generator().manual_seed(0)
    # Drawn in float64 and then rounded, so that both precisions have the same numbers.
    embeddings = torch.nn.functional.normalize(
        torch.randn(rows, dim, generator=rng, dtype=torch.float64), dim=1
    )
    return embeddings.to(dtype).requires_grad_(), torch.arange(rows) // views


def seconds(form: str, embeddings: Tensor, ids: Tensor) -> float:
    """CPU seconds of forward and backward; leaves the gradient in `embeddings.grad`."""
    embeddings.grad = None
    start = time.process_time()
    FORMS[form](embeddings, ids).backward()  # type: ignore[no-untyped-call]
    return time.process_time() - start


def peak_bytes(form: str, rows: int, dim: int, views: int) -> int:
    """Growth of the peak memory of this process. Call it once, in a process of its own."""
    torch.set_num_threads(1)
    embeddings, ids = inputs(rows, dim, views, torch.float32)
    seconds(form, *inputs(2 * views, dim, views, torch.float32))  # loads the libraries
    before = machine.resident_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    seconds(form, embeddings, ids)
    return machine.resident_bytes("VmHWM") - before


@click.command()
@click.option("--rows", default=8196)
@click.option("--dim", default=256)
@click.option("--views", default=6)
@click.option("--rounds", default=5)
def main(rows: int, dim: int, views: int, rounds: int) -> None:
    """Print one table."""
    torch.set_num_threads(1)
    print(machine.describe())
    embeddings, ids = inputs(rows, dim, views, torch.float32)
    times: dict[str, list[float]] = {"dense": [], "chunked": [], "dense again": []}
    for _ in range(rounds):
        for name, values in times.items():
            values.append(seconds(name.split()[0], embeddings, ids))
    gradients = {}
    for name in FORMS:
        seconds(name, embeddings, ids)
        assert embeddings.grad is not None
        gradients[name] = embeddings.grad.double()
    exact, _ = inputs(rows, dim, views, torch.float64)
    seconds("dense", exact, ids)
    assert exact.grad is not None
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak_bytes, (name, rows, dim, views)) for name in FORMS}
    print(f"\n{rows} rows, {dim} dimensions, groups of {views}, float32, {rounds} rounds")
    print("| form | CPU s, median | peak memory, MB | gradient against float64 |")
    print("|---|---|---|---|")
    for name in FORMS:
        error = float((gradients[name] - exact.grad).norm() / exact.grad.norm())
        median = statistics.median(times[name])
        print(f"| {name} | {median:.2f} | {memory[name] / 1e6:,.0f} | {error:.1e} |")
    ratios = [a / b for a, b in zip(times["dense"], times["chunked"], strict=True)]
    itself = [a / b for a, b in zip(times["dense"], times["dense again"], strict=True)]
    for name, values in (("dense / chunked", ratios), ("dense / dense", itself)):
        print(f"{name}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    print(f"memory: {memory['chunked'] / memory['dense']:.1%} of dense")


if __name__ == "__main__":
    main()
