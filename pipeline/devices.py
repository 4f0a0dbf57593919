"""Whether this machine has a GPU, asked without torch where the answer is surely no."""

import sys
from pathlib import Path

_DRIVER_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""One of these is there where a driver for GPUs runs: NVIDIA's, AMD's, or Windows' under WSL."""


def has_gpu() -> bool:
    """Whether torch can use a GPU here. To import torch takes seconds, so it is asked last."""
    if sys.platform == "linux" and not any(Path(file).exists() for file in _DRIVER_FILES):
        return False
    import torch

    return bool(torch.cuda.is_available())
