"""Classifiers on frozen features, and the confidence interval of their accuracy.

No function that predicts or chooses receives a test label: choices are made on a part of the
training images that is held out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PAPER_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Base learning rates of StableRep's linear probe; a rate is base x batch / 256."""
NORMAL_975 = 1.959963984540054
"""97.5 % point of the normal distribution: two of them make a 95 % interval."""

NUM_RANKED = 5
"""Classes of an image that a ranking holds: enough for top-5."""

_BATCH_NORM_EPS = 1e-6
_SMALLEST_SLOPE = 1e-30


def rank_classes(
    scores: Float[Tensor, "images classes"],
) -> Int[Tensor, "images ranks"]:
    """The NUM_RANKED most likely classes, or all if there are fewer, the most likely first.

    Of two classes with equal scores the lower one comes first.
    """
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :NUM_RANKED]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRecipe:
    """How a linear probe is trained: like StableRep's main_linear.py, but on fixed features."""

    epochs: int = 90
    batch_size: int = 1024
    """Largest batch; the images are divided into batches of nearly equal size."""
    momentum: float = 0.9
    batch_norm: bool = True
    """Standardize features by their statistics in the training part (the paper's --use_bn)."""
    held_out: float = 0.2
    """Fraction of the groups of each class on which the rate is chosen."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Linear heads, one for each rate."""

    rates: tuple[float, ...]
    mean: Float[Tensor, " embed_dim"]
    scale: Float[Tensor, " embed_dim"]
    weight: Float[Tensor, "embed_dim heads classes"]
    bias: Float[Tensor, "heads classes"]

    def logits(
        self, values: Float[Tensor, "images embed_dim"]
    ) -> Float[Tensor, "images heads classes"]:
        """Scores of every head, before the softmax."""
        standard = (values.float() - self.mean) * self.scale
        return torch.einsum("nd,dhc->nhc", standard, self.weight) + self.bias

    def predict(
        self, values: Float[Tensor, "images embed_dim"], *, chunk: int = 4096
    ) -> Int[Tensor, "images ranks"]:
        """The most likely classes according to the first head, the most likely first."""
        parts = [rank_classes(self.logits(part)[:, 0]) for part in torch.split(values, chunk)]
        return torch.cat(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The rate that did best on the held-out part."""

    rate: float
    head: int
    """Which of the heads has it."""
    num_held_out: int
    held_out_metric: dict[float, float]
    """By rate; 0 for a head that diverged."""


def choose_rate(
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"],
    groups: Int[Tensor, " images"],
    *,
    num_classes: int,
    rates: Sequence[float] = PAPER_RATES,
    recipe: ProbeRecipe,
    weigh: Callable[[Int[Tensor, " images"]], Float[Tensor, " images"]] | None = None,
    on_epoch: Callable[[], None] = lambda: None,
) -> Choice | None:
    """Train a head for each rate on one part of train and choose by accuracy on the other part.

    If two rates have the same accuracy, the one with the lower cross-entropy is chosen. The paper
    chooses rate and epoch on the very images whose accuracy it reports; here the choice never sees
    them.

    Args:
        weigh: What each image with these labels counts for in the choice; all the same if None.

    Returns:
        None if no class has two groups, so that nothing can be held out.
    """
    held_out = hold_out(labels, groups, fraction=recipe.held_out, seed=recipe.seed)
    if not held_out.any():
        return None
    part = ~held_out
    probe = fit_probe(
        values[part],
        labels[part],
        num_classes=num_classes,
        rates=rates,
        recipe=recipe,
        on_epoch=on_epoch,
    )
    return best_head(
        probe.logits,
        values[held_out],
        labels[held_out],
        rates=rates,
        weights=None if weigh is None else weigh(labels[held_out]),
    )


def best_head(
    logits: Callable[[Float[Tensor, "images embed_dim"]], Float[Tensor, "images heads classes"]],
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"],
    *,
    rates: Sequence[float],
    weights: Float[Tensor, " images"] | None = None,
) -> Choice:
    """The head with the best accuracy; of equally good ones that with the lowest cross-entropy.

    Args:
        logits: Scores of every head, one for each rate.
        values: Features of images that no head has learned from.
        weights: What each image counts for; the same for all if None.
    """
    num_images = len(labels)
    if weights is None:
        weights = torch.ones(num_images, dtype=torch.float64)
    right = torch.zeros(len(rates), dtype=torch.float64)
    loss = torch.zeros(len(rates), dtype=torch.float64)
    for rows in torch.split(torch.arange(num_images), 4096):
        own = rows.to(values.device)
        log_probs = logits(values[own]).log_softmax(dim=2).double().cpu()
        truth = labels[own.to(labels.device)].cpu()
        hit = log_probs.argmax(dim=2) == truth[:, None]  # [images, heads]
        right += (hit * weights[rows, None]).sum(dim=0)
        loss -= log_probs.gather(2, truth[:, None, None].expand(-1, len(rates), 1)).sum(dim=(0, 2))
    # A head that diverged predicts some class, too. Neither its accuracy nor its loss may win.
    finite = loss.isfinite()
    accuracy = torch.where(finite, right / weights.sum(), 0.0).tolist()
    loss = torch.where(finite, loss, math.inf)
    best = max(range(len(rates)), key=lambda head: (accuracy[head], -float(loss[head])))
    return Choice(
        rate=rates[best],
        head=best,
        num_held_out=num_images,
        held_out_metric=dict(zip(rates, accuracy, strict=True)),
    )


def hold_out(
    labels: Int[Tensor, " images"], groups: Int[Tensor, " images"], *, fraction: float, seed: int
) -> Bool[Tensor, " images"]:
    """Choose groups of each class to hold out; a group is never split.

    A class with two groups or more has at least one group held out and at least one left; a class
    with a single group keeps it. A group belongs to the class of its first image.

    Returns:
        True for the images of the groups that are held out.
    """
    generator = torch.Generator().manual_seed(seed)
    # The inner dict is used as a set that keeps the order in which groups were added.
    by_class: dict[int, dict[int, None]] = {}
    seen: set[int] = set()
    for label, group in zip(labels.tolist(), groups.tolist(), strict=True):
        if group not in seen:
            seen.add(group)
            by_class.setdefault(label, {})[group] = None
    chosen: list[int] = []
    for label in sorted(by_class):
        of_class = list(by_class[label])
        count = min(max(round(fraction * len(of_class)), 1), len(of_class) - 1)  # 0 of one group
        order = torch.randperm(len(of_class), generator=generator).tolist()
        chosen += [of_class[position] for position in order[:count]]
    return torch.isin(groups, torch.tensor(chosen, dtype=groups.dtype, device=groups.device))


def fit_probe(
    values: Float[Tensor, "images embed_dim"],
    labels: Int[Tensor, " images"],
    *,
    num_classes: int,
    rates: Sequence[float],
    recipe: ProbeRecipe,
    on_epoch: Callable[[], None] = lambda: None,
) -> Probe:
    """Train one linear head for each rate, all at once; each learns as if it were alone.

    This is softmax regression by SGD with momentum and without weight decay. All heads start from
    the same weights, drawn from N(0, 0.01), and see the same batches. The rate falls to 0 along
    half a cosine, step by step. The result depends on the arguments alone.

    Source: StableRep's main_linear.py, which adds random crops and flips to each epoch; here an
    image has one feature.
    """
    values = values.float()
    device, (num_images, num_dims), heads = values.device, values.shape, len(rates)
    mean, scale = torch.zeros_like(values[0]), torch.ones_like(values[0])
    if recipe.batch_norm:
        variance, mean = torch.var_mean(values, dim=0, correction=0)
        scale = (variance + _BATCH_NORM_EPS).rsqrt()
    batch = min(recipe.batch_size, num_images)
    num_batches = math.ceil(num_images / batch)
    generator = torch.Generator().manual_seed(recipe.seed)  # on the CPU: the same on every device
    initial = 0.01 * torch.randn(num_dims, num_classes, generator=generator)
    weight = initial[:, None, :].repeat(1, heads, 1).to(device)  # [D, heads, C]
    bias = torch.zeros(heads, num_classes, device=device)
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    peak = torch.tensor(rates, device=device)[:, None] * (batch / 256)
    for step in range(recipe.epochs * num_batches):
        if step % num_batches == 0:
            order = torch.randperm(num_images, generator=generator).tensor_split(num_batches)
        rows = order[step % num_batches].to(device)
        standard = (values[rows] - mean) * scale  # [B, D]
        logits = (standard @ weight.flatten(1)).view(-1, heads, num_classes) + bias
        # The gradient of the cross-entropy, written out: probabilities minus one-hot labels.
        slope = logits.softmax(dim=2)
        slope[torch.arange(len(rows), device=device), :, labels[rows]] -= 1
        slope /= len(rows)
        # Numbers below 1e-38 would make a CPU many times slower, and move no weight.
        slope[slope.abs() < _SMALLEST_SLOPE] = 0
        weight_grad = (standard.T @ slope.flatten(1)).view_as(weight)
        weight_step = recipe.momentum * weight_step + weight_grad
        bias_step = recipe.momentum * bias_step + slope.sum(dim=0)
        rate = peak * 0.5 * (1 + math.cos(math.pi * step / (recipe.epochs * num_batches)))
        weight -= rate * weight_step
        bias -= rate * bias_step
        if (step + 1) % num_batches == 0:
            on_epoch()
    return Probe(rates=tuple(rates), mean=mean, scale=scale, weight=weight, bias=bias)


def enough_epochs(num_images: int, *, batch_size: int, epochs: int, min_steps: int) -> int:
    """`epochs`, or as many as it takes for `min_steps` batches.

    A set of fewer images than a batch has one step in an epoch: 90 epochs are then 90 steps, after
    which a probe is still on its way, where ImageNet gives it 112,590.

    Example: 1,000 images in batches of 1,024 take 1,000 epochs for 1,000 steps, not 90.
    """
    num_batches = math.ceil(num_images / min(batch_size, num_images))
    return max(epochs, math.ceil(min_steps / num_batches))


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value such as an accuracy with its 95 % confidence interval, all from 0 to 1."""

    value: float
    low: float
    high: float


def accuracy_interval(correct: Bool[Tensor, " images"], groups: Int[Tensor, " images"]) -> Interval:
    """Accuracy over images, with an interval that allows for the likeness of images of one group.

    It is Wilson's interval for an effective number of images. If every group has one image, that is
    the number n of images. Otherwise it is the number of independent images that would leave the
    same uncertainty: p (1 - p) / v, but at most n. Here v is the cluster-robust variance of a mean
    over G groups, G / (G - 1) * sum_g (sum_i (c_i - p))^2 / n^2; if v is 0, the effective number is
    G. With fewer than about thirty groups v is too small, and so is the interval.

    Source: Wilson 1927; effective size: Korn and Graubard 1998; v: Cameron and Miller 2015.
    Example: 8 correct of 10 images, each a group of its own, give 0.8 with 0.490 to 0.943.
    """
    assert len(correct) > 0
    hits = correct.double()
    num_images, p = len(hits), float(hits.mean())
    members = torch.unique(groups, return_inverse=True)[1]
    num_groups = int(members.max()) + 1
    size = float(num_images)
    if num_groups < num_images:
        sums = torch.zeros(num_groups, dtype=torch.float64, device=hits.device)
        sums.index_add_(0, members, hits - p)
        variance = float(sums.square().sum()) / num_images**2
        variance *= num_groups / max(num_groups - 1, 1)
        size = p * (1 - p) / variance if variance > 0 else float(num_groups)
        size = min(size, float(num_images))
    return wilson_interval(p, size)


def wilson_interval(p: float, size: float) -> Interval:
    """Wilson's 95 % interval of a part p of `size` independent trials."""
    z = NORMAL_975
    middle = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z * math.sqrt(p * (1 - p) / size + (z / (2 * size)) ** 2) / (1 + z**2 / size)
    # In exact arithmetic the interval holds p; the bounds keep rounding from moving it past p.
    return Interval(
        value=p, low=min(max(middle - half, 0.0), p), high=min(max(middle + half, p), 1.0)
    )
