"""The tower of the demo: a small one for pictures of 32 px, which learns in seconds on one core.

The small towers of timm halve a picture five times, and a shape of 8 px is lost on the way. This
one halves it three times and averages features over a 2 x 2 grid. Importing this module registers
it with timm.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn


class SmallConv(nn.Module):
    """Images [B, 3, 32, 32] to features [B, widths[-1] x grid x grid].

    Args:
        widths: Channels of the convolutions. The picture is halved before each of them.
        grid: Cells along a side; features are averaged in each cell.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96), grid: int = 2) -> None:
        super().__init__()
        # Pixels are averaged before the first convolution; features are max-pooled after it.
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for num_in, width in zip((3, *widths), widths, strict=False):
            if num_in != 3:
                layers.append(nn.MaxPool2d(2))
            layers += [
                nn.Conv2d(num_in, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.num_features = widths[-1] * grid * grid

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.pool(self.body(images)).flatten(1)
        return features


_PASSED_BY_TIMM = {"num_classes", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


def synth_small_conv(pretrained: bool = False, **args: Any) -> SmallConv:
    """What `timm.create_model("synth_small_conv")` calls; there are no pretrained weights."""
    own_args = {name: value for name, value in args.items() if name not in _PASSED_BY_TIMM}
    if "widths" in own_args:  # a list where they come from a recipe or from encoder.json
        own_args["widths"] = tuple(own_args["widths"])
    return SmallConv(**own_args)


register_model(synth_small_conv)
