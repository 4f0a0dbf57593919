"""Nearest neighbours by cosine similarity, in bounded memory, and the vote of their classes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from trainer.classifiers import rank_classes

_LOW_32_BITS = 0xFFFFFFFF
_BANK_NUMBERS = 1 << 26
"""Numbers of a part of the bank, as float32 of four bytes."""


def predict_knn(
    queries: Float[Tensor, "queries embed_dim"],
    bank: Float[Tensor, "images embed_dim"],
    bank_labels: Int[Tensor, " images"],
    *,
    num_classes: int,
    num_neighbours: int = 20,
    temperature: float = 0.07,
    device: torch.device | str | None = None,
    chunk_queries: int = 256,
    chunk_bank: int = 16_384,
) -> Int[Tensor, "queries ranks"]:
    """Classes of each query by a weighted vote of its nearest neighbours in the bank.

    A neighbour of cosine similarity s votes with exp(s / temperature). If images of the bank are
    equally near, the ones that come first in it are taken. Classes are ranked by `rank_classes`;
    those without a vote come last.

    Memory: besides the arguments and the result, `num_neighbours` integers of 8 bytes a query, and
    on the device thirty bytes for each of `chunk_queries` x `chunk_bank` similarities and up to
    three copies of a part of the bank, of 256 MB at most, however large the bank is. Each part is
    moved to the device once.

    Args:
        queries: On any device; half precision is computed with in float32.
        bank: Likewise.
        bank_labels: From 0 and below `num_classes`.
        device: Where to compute; that of the bank if None. The result is on the CPU.

    Source: Wu et al. 2018, arXiv:1805.01978, section 3.4; DINO's eval_knn.py, whose k is 20.
    """
    assert 1 <= num_neighbours <= len(bank)
    similarity, rows_of_bank = nearest(
        queries,
        bank,
        num_neighbours=num_neighbours,
        device=bank.device if device is None else torch.device(device),
        chunk_queries=chunk_queries,
        chunk_bank=chunk_bank,
    )
    labels = bank_labels.cpu()
    parts = torch.split(similarity, chunk_queries), torch.split(rows_of_bank, chunk_queries)
    predicted = []
    for near, rows in zip(*parts, strict=True):
        votes = neighbour_votes(near, temperature)
        totals = votes.new_zeros(len(near), num_classes).scatter_add_(1, labels[rows], votes)
        predicted.append(rank_classes(totals))
    return torch.cat(predicted) if len(queries) else bank_labels.new_empty((0, 1))


def neighbour_votes(
    similarity: Float[Tensor, "queries neighbours"], temperature: float
) -> Float[Tensor, "queries neighbours"]:
    """exp(similarity / temperature), in double precision: at a low temperature it overflows
    float32."""
    return (similarity.double() / temperature).exp()


def nearest(
    queries: Float[Tensor, "queries embed_dim"],
    bank: Float[Tensor, "rows embed_dim"],
    *,
    num_neighbours: int,
    device: torch.device | str,
    chunk_queries: int = 256,
    chunk_bank: int = 16_384,
) -> tuple[Float[Tensor, "queries neighbours"], Int[Tensor, "queries neighbours"]]:
    """Cosine similarities and rows of the nearest of the bank, nearest first; both on the CPU.

    If rows of the bank are equally near, the ones that come first in it are taken. Memory: see
    `predict_knn`.

    Args:
        num_neighbours: At most the rows of the bank.
    """
    chunk_bank = min(chunk_bank, max(1, _BANK_NUMBERS // max(bank.shape[1], 1)))
    starts = range(0, len(queries), chunk_queries)
    best = torch.empty(len(queries), 0, dtype=torch.int64)
    for first in range(0, len(bank), chunk_bank):
        unit_bank = F.normalize(bank[first : first + chunk_bank].to(device).float(), dim=1)
        width = min(num_neighbours, best.shape[1] + len(unit_bank))
        better = best.new_empty(len(queries), width)
        for start in starts:
            rows = slice(start, start + chunk_queries)
            unit = F.normalize(queries[rows].to(device).float(), dim=1)
            better[rows] = _nearest(unit, unit_bank, first, best[rows].to(device), num_neighbours)
        best = better
    return _unpack(best)


def _nearest(
    unit: Tensor, unit_bank: Tensor, first: int, best: Tensor, num_neighbours: int
) -> Tensor:
    """The nearest images so far, nearest first, packed, [queries, neighbours].

    Similarity and row are packed into one integer, which is larger for a nearer image and, of two
    that are equally near, for the one that comes earlier. `topk` does not say which of two equal
    values it takes, but no two packed integers are equal.

    Args:
        unit: Unit queries.
        unit_bank: A part of the bank, unit.
        first: Row of the bank at which the part begins.
        best: What was nearest in the parts before it.
    """
    # Adding 0.0 turns -0.0 into 0.0: the two are equal, but their bits are not.
    bits = (unit @ unit_bank.T + 0.0).view(torch.int32)
    # As integers, the bits of negative floats are in the wrong order: more negative is larger.
    # Flipping all but the sign bit of those puts all bits into the order of the floats.
    packed = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32
    rows = torch.arange(first, first + len(unit_bank), device=unit.device)
    packed |= _LOW_32_BITS - rows  # an earlier row is a larger integer
    best = torch.cat([best, packed], dim=1)
    return best.topk(min(num_neighbours, best.shape[1]), dim=1).values


def _unpack(best: Tensor) -> tuple[Tensor, Tensor]:
    """Similarities and rows of the bank that `_nearest` packed."""
    ordered = (best >> 32).int()  # flipping the same bits again restores the floats
    similarity = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    return similarity, _LOW_32_BITS - (best & _LOW_32_BITS)
