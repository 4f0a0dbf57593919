"""The judge of the generator: a classifier of digit, ink and ground, trained on real glyphs.

`python -m benchmarks.embedded_model.judge` prints its accuracy on the held-out handwriting.
"""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.embedded_model.augment import jitter_glyphs
from pipeline.embedded import world

HEADS = ("digit", "ink", "ground")
STEPS = 1500
BATCH = 128


class Judge(nn.Module):
    """A small convolutional net with three heads of ten classes each.

    It takes pictures [n, 3, 32, 32] from 0 to 1.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96)
        layers: list[nn.Module] = [nn.AvgPool2d(2)]  # 32 px are enlarged from 8: little is lost
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if after != widths[-1] else []
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3))
        self.heads = nn.ModuleList(nn.Linear(widths[-1] * 16, 10) for _ in HEADS)

    def features(self, pictures: Tensor) -> Tensor:
        """Activations before the heads, [n, features]."""
        return self.body(pictures - 0.5)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Logits of digit, ink and ground, each [n, 10]."""
        features = self.features(pictures)
        return [head(features) for head in self.heads]


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 [n, height, width, 3] -> float [n, 3, height, width] in 0 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def train_judge(seed: int) -> Judge:
    """A judge trained on the split `train` alone, in about a minute on one core."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    real, pairs = world.glyphs("train"), world.legible_pairs()
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        rows = rng.integers(len(real.digit), size=BATCH)
        colours = pairs[rng.integers(len(pairs), size=BATCH)]
        ink = jitter_glyphs(rng, real.ink[rows])
        pictures = world.show(world.paint(ink, *world.draw_colours(rng, colours)))
        targets = (real.digit[rows], colours[:, 0], colours[:, 1])
        logits = judge(to_tensor(pictures))
        loss = sum(
            F.cross_entropy(head_logits, torch.from_numpy(target), label_smoothing=0.05)
            for head_logits, target in zip(logits, targets, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return judge.eval()


@torch.inference_mode()
def real_accuracy(judge: Judge, split: world.Split) -> dict[str, float]:
    """Accuracy of each head, from 0 to 1, on three paintings of each real glyph of a split."""
    pictures, pairs, descriptions = world.paint_split(split, paintings_per_glyph=3, seed=0)
    digit = np.array([description.digit for description in descriptions])
    logits = judge(to_tensor(pictures))
    truth = (digit, pairs[:, 0], pairs[:, 1])
    return {
        name: float((head_logits.argmax(1).numpy() == target).mean())
        for name, head_logits, target in zip(HEADS, logits, truth, strict=True)
    }


if __name__ == "__main__":
    for seed in range(3):
        trained = train_judge(seed)
        for split in ("select", "report"):
            print(f"judge {seed} on {split}: {real_accuracy(trained, split)}")
