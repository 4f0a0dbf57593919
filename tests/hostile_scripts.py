"""Modules in TorchScript that do more than compute a picture."""

import torch
from torch import Tensor, nn


class Writes(nn.Module):
    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        torch.save(z, "somewhere")
        return z


class Loops(nn.Module):
    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        for _ in range(1 << 60):
            z = z + 1
        return z


class Draws(nn.Module):
    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        return torch.rand_like(z)


class Wakes(nn.Module):
    """Has a method that runs while the file is read."""

    def __init__(self) -> None:
        super().__init__()
        self.x = 1
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return self.x, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.x, self.training = state

    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        return z
