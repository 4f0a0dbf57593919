"""Weights of a network as safetensors, bound by a hash to the JSON file that describes them."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from manifests.foundation.files import read_regular, write_whole
from trainer.errors import CheckpointError

MAX_BYTES = 1 << 40
"""Largest file of weights that is read."""


def write_weights(path: Path, network: nn.Module) -> str:
    """Write all tensors of a network; returns the SHA-256 of the file, for its description."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    data = save(tensors, metadata={"format": "pt"})
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def state_sha256(network: nn.Module) -> str:
    """SHA-256 of all that `state_dict` holds: names, types, shapes and values, on any device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def read_weights(path: Path, *, sha256: str, description: str) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        sha256: Hash of the file, as its description says.
        description: Name of that description, for messages.

    Raises:
        CheckpointError: The file is missing, cannot be read, or is not the described one.
        SafetensorError: It is the described one and holds something else.
    """
    try:
        data = read_regular(path, max_bytes=MAX_BYTES)
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path}: no such file; train the run to its end") from exc
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc.strerror})") from exc
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            f"{path}: its SHA-256 is not the one in {description} beside it: one of them was "
            "changed or damaged; restore both, or export the run again"
        )
    return load(data)
