"""The parts of the embedded latent generator: what they compute, and how they fit together.

A picture is a code of CODE numbers: an autoencoder learns codes. What codes are likely is learned
by a flow, a vector field that carries a standard normal latent z to a code; a generator follows
it in NUM_STEPS fixed steps and decodes. Source of the two stages: Dai and Wipf, Diagnosing and
Enhancing VAE Models, arXiv:1903.05789; of the flow: Lipman et al., Flow Matching, arXiv:2210.02747.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODE = 96
"""Numbers of a code, and of a latent."""
NUM_STEPS = 5
"""Steps along the flow, each at two places."""
GUIDANCE = 3.0
"""Scale of classifier-free guidance, arXiv:2207.12598: 1 is none."""


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, values: Tensor) -> Tensor:
        """[n, width, height, width] -> the same."""
        return values + self.second(F.silu(self.first(F.silu(self.norm(values)))))


class Encoder(nn.Module):
    """Pictures [n, 3, 32, 32] from -1 to 1 to codes [n, CODE] of mean 0 and variance 1 each."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, 48, 3, padding=1),
            Block(48),
            nn.Conv2d(48, 96, 3, stride=2, padding=1),
            Block(96),
            nn.Conv2d(96, 192, 3, stride=2, padding=1),
            Block(192),
            nn.Flatten(),
            nn.Linear(192 * 16, CODE),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return F.layer_norm(self.body(pictures), (CODE,))


class Decoder(nn.Module):
    """Codes [n, CODE] to pictures [n, 3, 32, 32] of about -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(CODE, 192 * 16)
        self.body = nn.Sequential(
            Block(192),
            nn.Conv2d(192, 128, 1),
            nn.Upsample(scale_factor=2, mode="nearest"),
            Block(128),
            Block(128),
            nn.Conv2d(128, 64, 1),
            nn.Upsample(scale_factor=2, mode="nearest"),
            Block(64),
            Block(64),
            nn.Conv2d(64, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.start(codes).view(-1, 192, 4, 4))


class Field(nn.Module):
    """The velocity of a point [n, CODE] at time t [n, 1] from 0 to 1, for a class [n] of codes."""

    def __init__(self, num_classes: int, width: int = 384, depth: int = 3) -> None:
        super().__init__()
        self.of_class = nn.Embedding(num_classes, width)
        self.start = nn.Linear(CODE, width)
        self.frequencies = nn.Buffer(torch.pi * 2 ** torch.linspace(-1, 4, 16))
        self.of_time = nn.Linear(32, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())
            for _ in range(depth)
        )
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.end = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CODE))

    def forward(self, points: Tensor, time: Tensor, classes: Tensor) -> Tensor:
        angles = time * self.frequencies
        of_time = self.of_time(torch.cat([angles.sin(), angles.cos()], dim=1))
        values = self.start(points) + of_time + self.of_class(classes)
        for layer, out in zip(self.layers, self.outs, strict=True):
            values = values + out(layer(values))
        return self.end(values)


class Generator(nn.Module):
    """Latents [n, CODE] and classes [n] to pictures [n, 3, 32, 32] from -1 to 1.

    Without a class, a latent shows the thing whose direction it points into most: so G(z) is a
    generator of everything, whose latents decide what they show, and guidance serves it as well.
    """

    def __init__(self, field: Field, decoder: Decoder, num_classes: int) -> None:
        super().__init__()
        self.field, self.decoder, self.no_class = field, decoder, num_classes
        rng = torch.Generator().manual_seed(7)
        directions = torch.randn(CODE, num_classes, generator=rng)
        self.directions = nn.Buffer(F.normalize(directions, dim=0))

    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        things = torch.where(classes == self.no_class, (z @ self.directions).argmax(dim=1), classes)
        points = z
        for step in range(NUM_STEPS):  # the midpoint rule
            time = torch.full_like(points[:, :1], step / NUM_STEPS)
            half = points + self._velocity(points, time, things) / (2 * NUM_STEPS)
            middle = time + 1 / (2 * NUM_STEPS)
            points = points + self._velocity(half, middle, things) / NUM_STEPS
        return self.decoder(points).clamp(-1, 1)

    def _velocity(self, points: Tensor, time: Tensor, things: Tensor) -> Tensor:
        anything = self.field(points, time, torch.full_like(things, self.no_class))
        return anything + GUIDANCE * (self.field(points, time, things) - anything)
