"""Logistic regression with an L2 penalty, solved to its optimum by L-BFGS.

Where an image has one class it is a softmax; where it may have several, a sigmoid for each class.

No function here receives a test label: the penalty is chosen on a part of train that is held out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from trainer.classifiers import hold_out, rank_classes

PAPER_PENALTIES = tuple(10 ** (-6 + 11 * step / 44) for step in range(45))
"""45 values at equal distances of their logarithms, from 1e-6 to 1e5: the sweep of Kornblith et al.
(arXiv:1805.08974), which SimCLR, StableRep and SynCLR take over for their tables of transfer."""

_EPS = 1e-6
_CHUNK_NUMBERS = 1 << 23
"""Logits that are in memory at once, as doubles of eight bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticRecipe:
    """How a softmax regression is solved."""

    standardize: bool = True
    """Whether features are standardized by their statistics in the training part."""
    max_iterations: int = 1000
    """Of L-BFGS, for each penalty."""
    tolerance: float = 1e-6
    """The optimum is reached when no component of the gradient of the mean loss is larger."""
    held_out: float = 0.2
    """Fraction of the groups of each class on which the penalty is chosen."""
    seed: int = 0
    """Decides which groups are held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticModel:
    """A solved regression; all tensors are doubles."""

    mean: Float[Tensor, " embed_dim"]
    scale: Float[Tensor, " embed_dim"]
    weight: Float[Tensor, "embed_dim classes"]
    bias: Float[Tensor, " classes"]
    iterations: int
    is_optimal: bool
    """Whether the tolerance was reached before the iterations ended."""

    def logits(self, values: Float[Tensor, "images embed_dim"]) -> Float[Tensor, "images classes"]:
        """Scores before the softmax."""
        standard = (values.double() - self.mean) * self.scale
        return standard @ self.weight + self.bias

    def scores(self, values: Float[Tensor, "images embed_dim"]) -> Float[Tensor, "images classes"]:
        """`logits` of many images, a part of them at a time."""
        parts = torch.split(values, _chunk_rows(len(self.bias)))
        return torch.cat([self.logits(part) for part in parts])

    def predict(self, values: Float[Tensor, "images embed_dim"]) -> Int[Tensor, "images ranks"]:
        """The most likely classes, the most likely first."""
        parts = torch.split(values, _chunk_rows(len(self.bias)))
        return torch.cat([rank_classes(self.logits(part)) for part in parts])


def fit_logistic(
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"] | Bool[Tensor, "images classes"],
    *,
    num_classes: int,
    penalty: float,
    recipe: LogisticRecipe,
    start: LogisticModel | None = None,
) -> LogisticModel:
    """Minimise sum_i cross-entropy_i + penalty / 2 * |W|^2; the bias is not penalised.

    Where an image may have several classes, the cross-entropies of all classes, each against the
    rest, are added up: these are as many independent regressions as there are classes.

    This is scikit-learn's LogisticRegression with C = 1 / penalty. The whole set is one batch, of
    which a part at a time is in memory as doubles. The problem is convex: `start`, the solution for
    a penalty nearby, saves iterations and does not move the optimum. Nothing is random.

    Args:
        values: On the device that is to compute.
        labels: From 0 and below `num_classes`, or which classes each image has.
        penalty: Larger than 0.
    """
    (num_images, num_dims), device = values.shape, values.device
    mean = torch.zeros(num_dims, dtype=torch.float64, device=device)
    scale = torch.ones_like(mean)
    if recipe.standardize:
        variance, centre = torch.var_mean(values.float(), dim=0, correction=0)
        mean, scale = centre.double(), (variance.double() + _EPS).rsqrt()
    # The last row is the bias.
    point = torch.zeros(num_dims + 1, num_classes, dtype=torch.float64, device=device)
    if start is not None:
        point[:-1], point[-1] = start.weight, start.bias
    slope = torch.empty_like(point)
    chunk = _chunk_rows(num_classes)

    def objective() -> float:
        """The mean loss at `point`, and its gradient in `slope`."""
        slope[:-1] = penalty * point[:-1]
        slope[-1] = 0
        total = 0.5 * penalty * point[:-1].square().sum()
        for first in range(0, num_images, chunk):
            truth = labels[first : first + chunk]
            standard = (values[first : first + chunk].double() - mean) * scale
            logits = standard @ point[:-1] + point[-1]
            total += _cross_entropy(logits, truth)
            # The gradient of the cross-entropy: probabilities minus what they ought to be.
            if truth.dim() == 2:
                excess = logits.sigmoid() - truth.double()
            else:
                excess = logits.softmax(dim=1)
                excess[torch.arange(len(truth), device=device), truth] -= 1
            slope[:-1] += standard.T @ excess
            slope[-1] += excess.sum(dim=0)
        slope.div_(num_images)
        return float(total) / num_images

    point.grad = slope
    optimizer = torch.optim.LBFGS(
        [point],
        max_iter=recipe.max_iterations,
        max_eval=2 * recipe.max_iterations,
        tolerance_grad=recipe.tolerance,
        tolerance_change=1e-14,  # a step that changes nothing any more, as doubles
        line_search_fn="strong_wolfe",
    )
    optimizer.step(objective)  # type: ignore[no-untyped-call]
    objective()  # the last point of a line search is not always the one that is kept
    return LogisticModel(
        mean=mean,
        scale=scale,
        weight=point[:-1].detach(),
        bias=point[-1].detach(),
        iterations=int(optimizer.state[point].get("n_iter", 0)),
        is_optimal=bool(slope.abs().max() <= recipe.tolerance),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyChoice:
    """The penalty that did best on the held-out part."""

    penalty: float
    num_held_out: int
    held_out_metric: dict[float, float]
    """By penalty."""
    model: LogisticModel
    """The solution for it on the other part, to start from."""


def choose_penalty(
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"] | Bool[Tensor, "images classes"],
    groups: Int[Tensor, " images"],
    *,
    num_classes: int,
    judge: Callable[[Tensor, Tensor], float],
    penalties: Sequence[float] = PAPER_PENALTIES,
    recipe: LogisticRecipe,
    on_fit: Callable[[], None] = lambda: None,
) -> PenaltyChoice | None:
    """Solve for each penalty on one part of train and choose by a metric on the other part.

    If two penalties are equally good, the one with the lower cross-entropy is chosen. Each solution
    begins at the one of the next larger penalty.

    Args:
        labels: As `fit_logistic` takes them. An image of several classes is held out as one of the
            first of them.
        judge: From what is predicted, and labels, to the metric, higher being better. Predicted
            is the most likely class of each image, or the logits of all classes if there may be
            several.

    Returns:
        None if no class has two groups, so that nothing can be held out.
    """
    # `argmax` gives the first of equal numbers; an image of no class counts as a class of its own.
    classes = labels if labels.dim() == 1 else torch.where(
        labels.any(dim=1), labels.int().argmax(dim=1), num_classes
    )  # fmt: skip
    held_out = hold_out(classes, groups, fraction=recipe.held_out, seed=recipe.seed)
    if not held_out.any():
        return None
    learned = values[~held_out], labels[~held_out]
    judged, truth = values[held_out], labels[held_out]
    metric: dict[float, float] = {}
    best: tuple[tuple[float, float], float, LogisticModel] | None = None
    model: LogisticModel | None = None
    for penalty in sorted(penalties, reverse=True):
        model = fit_logistic(
            *learned, num_classes=num_classes, penalty=penalty, recipe=recipe, start=model
        )
        metric[penalty], loss = _judged(model, judged, truth, judge)
        if best is None or (metric[penalty], -loss) > best[0]:
            best = (metric[penalty], -loss), penalty, model
        on_fit()
    assert best is not None
    return PenaltyChoice(
        penalty=best[1], num_held_out=len(truth), held_out_metric=metric, model=best[2]
    )


def _judged(
    model: LogisticModel, values: Tensor, labels: Tensor, judge: Callable[[Tensor, Tensor], float]
) -> tuple[float, float]:
    """The metric, and the mean cross-entropy."""
    rows = _chunk_rows(len(model.bias))
    predicted, loss = [], 0.0
    for part, truth in zip(torch.split(values, rows), torch.split(labels, rows), strict=True):
        logits = model.logits(part)
        predicted.append((logits if labels.dim() == 2 else logits.argmax(dim=1)).cpu())
        loss += float(_cross_entropy(logits, truth))
    return judge(torch.cat(predicted), labels.cpu()), loss / len(labels)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed over images, and over classes where an image may have several."""
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="sum")
    return F.cross_entropy(logits, labels, reduction="sum")


def _chunk_rows(num_classes: int) -> int:
    return max(1, math.ceil(_CHUNK_NUMBERS / num_classes))
