"""The small tower of Shaders21k: AlexNet's widths with convolutions of 3 px, for crops of 64 px.

Source: small_alexnet of Wang and Isola, arXiv:2005.10242, which arXiv:2211.16412 takes over.
Importing this module registers it with timm.
"""

from itertools import pairwise
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from trainer.models.registration import build

WIDTHS = (3, 96, 192, 384, 384, 192)
POOLED = {96, 192}
"""Widths whose layers end with a pooling: the first, the second and the last."""
HIDDEN = 4096


class SmallAlexNet(nn.Module):
    """Images [B, 3, 64, 64] to features [B, 4096]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for num_in, width in pairwise(WIDTHS):
            layers += [
                nn.Conv2d(num_in, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if width in POOLED:
                layers.append(nn.MaxPool2d(3, stride=2))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(WIDTHS[-1] * 7 * 7, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.ReLU(),
        )
        self.num_features = HIDDEN

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head(self.body(images))
        return features


def synth_small_alexnet(pretrained: bool = False, **args: Any) -> SmallAlexNet:
    """What `timm.create_model("synth_small_alexnet")` calls; it has no arguments of its own."""
    tower: SmallAlexNet = build(SmallAlexNet, "synth_small_alexnet", pretrained, args)
    return tower


register_model(synth_small_alexnet)
