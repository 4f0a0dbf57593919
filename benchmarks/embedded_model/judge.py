"""The judge of the pictogram model: a classifier of concept and ground, trained on real pictures.

    python -m benchmarks.embedded_model.judge --state STATE [--steps N] [--seed S]

It is trained on the training families in random poses and prints its accuracy, top-1 and top-5, on
the splits of `synth pictograms` whose pictures it has not seen, those of unseen artists included.
"""

from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.embedded_model.train_decoder import to_tensor
from benchmarks.embedded_model.training import Training
from pipeline.embedded.pictograms import PROTOCOL, scenes_of
from pipeline.embedded.scenes import GROUNDS, draw_scenes, paint
from pipeline.embedded.sprites import TRAINING_FAMILIES, concepts

BATCH = 64
WIDTHS = (3, 32, 64, 128, 192)


class Judge(nn.Module):
    """A small convolutional net with a head for concepts and one for grounds.

    It takes pictures [n, 3, 32, 32] from -1 to 1.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(WIDTHS):
            stride = 1 if before == 3 else 2
            layers += [
                nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            if before != 3:
                layers += [
                    nn.Conv2d(after, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                ]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        features = WIDTHS[-1] * 16
        self.concept = nn.Linear(features, len(concepts()))
        self.ground = nn.Linear(features, len(GROUNDS))

    def features(self, pictures: Tensor) -> Tensor:
        """Activations before the heads, [n, features]."""
        return self.body(pictures.to(memory_format=torch.channels_last))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of concept [n, concepts] and ground [n, grounds]."""
        features = self.features(pictures)
        return self.concept(features), self.ground(features)


def augment(rng: np.random.Generator, pictures: Tensor) -> Tensor:
    """Noise and a little blur, so that the judge does not ask for the edges of a rasteriser."""
    amount = torch.from_numpy(rng.uniform(0, 0.6, (len(pictures), 1, 1, 1))).float()
    blurred = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    noise = torch.from_numpy(rng.standard_normal(pictures.shape, np.float32))
    strength = torch.from_numpy(rng.uniform(0, 0.12, (len(pictures), 1, 1, 1))).float()
    return torch.lerp(pictures, blurred, amount) + strength * noise


def train_judge(state: Path, steps: int, seed: int) -> Judge:
    """A judge trained on the training families alone; goes on from the state, if there is one."""
    torch.manual_seed(seed)
    judge = Judge().to(memory_format=torch.channels_last)
    training = Training(state, [judge], learning_rate=2e-3, cool_down=0.7, ema_decay=0.99)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step, 7])
        scenes = draw_scenes(rng, BATCH, num_families=len(TRAINING_FAMILIES), with_held_out=True)
        pictures = augment(rng, to_tensor(paint(rng, scenes, TRAINING_FAMILIES)))
        concept, ground = judge(pictures)
        named = F.cross_entropy(concept, torch.from_numpy(scenes.concept), label_smoothing=0.05)
        return named + 0.3 * F.cross_entropy(ground, torch.from_numpy(scenes.ground))

    training.run(loss_of, steps)
    return judge.eval()


@torch.inference_mode()
def accuracy(
    judge: Judge, pictures: NDArray[np.uint8], concept: NDArray[np.int64]
) -> tuple[float, float]:
    """Top-1 and top-5 of the concept, from 0 to 1, on uint8 pictures [n, 32, 32, 3]."""
    logits = torch.cat([judge(part)[0] for part in to_tensor(pictures).split(256)])
    best = logits.topk(5).indices.numpy() == concept[:, None]
    return float(best[:, 0].mean()), float(best.any(axis=1).mean())


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=4000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(state: Path, steps: int, seed: int) -> None:
    torch.set_num_threads(1)
    judge = train_judge(state, steps, seed)
    for name in ("select", "test", "hard"):
        split = PROTOCOL[name]
        scenes = scenes_of(split)
        pictures = paint(np.random.default_rng([split.seed, 1]), scenes, split.families)
        first, five = accuracy(judge, pictures, scenes.concept)
        print(f"judge {seed} on {name}: {100 * first:.1f} / {100 * five:.1f}", flush=True)


if __name__ == "__main__":
    main()
