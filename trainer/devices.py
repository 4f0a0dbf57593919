"""Which kind of device a rank computes on, asked without torch where no GPU can be."""

import sys
from pathlib import Path
from typing import Literal

_DRIVER_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""One of these is there where a driver for GPUs runs: NVIDIA's, AMD's, or Windows' under WSL."""


def device_type(name: str) -> str:
    """What `local_device` gives for a name, such as `cuda`; whether it is here is not asked."""
    if name != "auto":
        return name.partition(":")[0]
    if sys.platform == "linux" and not any(Path(file).exists() for file in _DRIVER_FILES):
        return "cpu"
    import torch  # only here, because it takes seconds

    return "cuda" if torch.cuda.is_available() else "cpu"


def best_precision(kind: str) -> Literal["bf16", "fp32"]:
    """What `run.precision = "auto"` is on a type of device: bf16 on a GPU that has it, else fp32.

    A GPU that is not here, for which a step is only worked out, is taken to have it.
    """
    if kind != "cuda":
        return "fp32"
    import torch

    is_here = torch.cuda.is_available()
    has_it = not is_here or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_it else "fp32"
