"""Softmax regression with an L2 penalty, solved to its optimum by L-BFGS.

No function here receives a test label: the penalty is chosen on a part of train that is held out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

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

    def predict(self, values: Float[Tensor, "images embed_dim"]) -> Int[Tensor, "images ranks"]:
        """The most likely classes, the most likely first."""
        parts = torch.split(values, _chunk_rows(len(self.bias)))
        return torch.cat([rank_classes(self.logits(part)) for part in parts])


def fit_logistic(
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"],
    *,
    num_classes: int,
    penalty: float,
    recipe: LogisticRecipe,
    start: LogisticModel | None = None,
) -> LogisticModel:
    """Minimise sum_i cross-entropy_i + penalty / 2 * |W|^2; the bias is not penalised.

    This is scikit-learn's LogisticRegression with C = 1 / penalty. The whole set is one batch, of
    which a part at a time is in memory as doubles. The problem is convex: `start`, the solution for
    a penalty nearby, saves iterations and does not move the optimum. Nothing is random.

    Args:
        values: On the device that is to compute.
        labels: From 0 and below `num_classes`.
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
            truth = labels[first : first + chunk, None]
            standard = (values[first : first + chunk].double() - mean) * scale
            log_probs = torch.log_softmax(standard @ point[:-1] + point[-1], dim=1)
            total -= log_probs.gather(1, truth).sum()
            # The gradient of the cross-entropy: probabilities minus one-hot labels.
            excess = log_probs.exp_().scatter_add_(
                1, truth, torch.full_like(truth, -1, dtype=torch.float64)
            )
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
    held_out_accuracy: dict[float, float]
    """By penalty."""
    model: LogisticModel
    """The solution for it on the other part, to start from."""


def choose_penalty(
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"],
    groups: Int[Tensor, " images"],
    *,
    num_classes: int,
    penalties: Sequence[float] = PAPER_PENALTIES,
    recipe: LogisticRecipe,
    on_fit: Callable[[], None] = lambda: None,
) -> PenaltyChoice | None:
    """Solve for each penalty on one part of train and choose by accuracy on the other part.

    If two penalties have the same accuracy, the one with the lower cross-entropy is chosen. Each
    solution begins at the one of the next larger penalty.

    Returns:
        None if no class has two groups, so that nothing can be held out.
    """
    held_out = hold_out(labels, groups, fraction=recipe.held_out, seed=recipe.seed)
    if not held_out.any():
        return None
    learned = values[~held_out], labels[~held_out]
    judged, truth = values[held_out], labels[held_out]
    accuracy: dict[float, float] = {}
    best: tuple[tuple[float, float], float, LogisticModel] | None = None
    model: LogisticModel | None = None
    for penalty in sorted(penalties, reverse=True):
        model = fit_logistic(
            *learned, num_classes=num_classes, penalty=penalty, recipe=recipe, start=model
        )
        accuracy[penalty], loss = _judge(model, judged, truth)
        if best is None or (accuracy[penalty], -loss) > best[0]:
            best = (accuracy[penalty], -loss), penalty, model
        on_fit()
    assert best is not None
    return PenaltyChoice(
        penalty=best[1], num_held_out=len(truth), held_out_accuracy=accuracy, model=best[2]
    )


def _judge(model: LogisticModel, values: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""
    rows = _chunk_rows(len(model.bias))
    correct, loss = 0, 0.0
    for part, truth in zip(torch.split(values, rows), torch.split(labels, rows), strict=True):
        log_probs = model.logits(part).log_softmax(dim=1)
        correct += int((log_probs.argmax(dim=1) == truth).sum())
        loss -= float(log_probs.gather(1, truth[:, None]).sum())
    return correct / len(labels), loss / len(labels)


def _chunk_rows(num_classes: int) -> int:
    return max(1, math.ceil(_CHUNK_NUMBERS / num_classes))
