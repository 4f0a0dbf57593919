"""The tower of the demo: a small residual one for pictures of 32 px, which learns in a minute.

The small towers of timm halve a picture five times, and of 32 px one cell is left. This one halves
it once for each of its stages and averages features over what is left. Importing this module
registers it with timm.
"""

from itertools import pairwise
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from trainer.models.registration import build


class _Block(nn.Module):
    """A convolution whose input is added to its output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _convolution(width, width, 3)

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = features + self.body(features)
        return added


class SmallConv(nn.Module):
    """Images [B, 3, 32, 32] to features [B, widths[-1] x grid x grid].

    Args:
        widths: Channels of the stages. Each stage begins with halving the picture.
        depth: Residual convolutions of each stage but the first, after the one that widens it.
        grid: Cells along a side; features are averaged in each cell.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 64, 128),
        depth: int = 1,
        grid: int = 2,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for num_in, width in pairwise((3, *widths)):
            layers.append(_convolution(num_in, width, 4, stride=2))
            if num_in != 3:
                layers += [_Block(width) for _ in range(depth)]
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.num_features = widths[-1] * grid * grid

    def forward(self, images: Tensor) -> Tensor:
        # Convolutions of a CPU are faster in this order.
        images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.pool(self.body(images)).flatten(1)
        return features


def _convolution(num_in: int, num_out: int, side: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, side, stride, padding=1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(),
    )


def synth_small_conv(pretrained: bool = False, **args: Any) -> SmallConv:
    """What `timm.create_model("synth_small_conv")` calls."""
    if "widths" in args:  # a list where they come from a recipe or from a description
        args["widths"] = tuple(args["widths"])
    tower: SmallConv = build(SmallConv, "synth_small_conv", pretrained, args)
    return tower


register_model(synth_small_conv)
