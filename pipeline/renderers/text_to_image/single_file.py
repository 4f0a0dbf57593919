"""A checkpoint in one file of safetensors, as fine-tuned models are often shared.

Its networks replace those of a whole model, whose tokenizers, scheduler and configurations stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.canonical import hash_json
from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.file_hashes import hash_of
from pipeline.models import WEIGHT_SUFFIX, ModelFiles, opened

_VAE_PREFIXES = ("first_stage_model.", "vae.")
"""Of the names of a VAE's tensors in such a file; a file without them has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFile:
    """A file of weights, found and hashed."""

    path: Path
    sha256: str

    def name_with(self, model: ModelFiles) -> str:
        """Name of the model with these weights. Example: `sdxl-base with watercolour`."""
        return f"{model.name} with {self.path.stem}"

    def revision_with(self, model: ModelFiles) -> str:
        """16 digits of a hash of the model's revision and of this file."""
        return hash_json([model.revision, self.sha256])[:16]


def open_single_file(path_text: str) -> SingleFile | None:
    """The file behind the setting `weights`; None for an empty one.

    Raises:
        ModelError: There is no such file, or it is not in safetensors.
    """
    if not path_text:
        return None
    path = Path(path_text)
    if path.suffix != WEIGHT_SUFFIX or not path.is_file():
        raise ModelError(
            f"renderer.weights {path}: expected a file of {WEIGHT_SUFFIX}; other formats can run "
            "code and are not read"
        )
    return SingleFile(path=path, sha256=hash_of(path))


def replace_networks(pipe: Any, file: SingleFile, folder: Path, dtype: str) -> None:
    """Put the networks of a file in the place of those of a loaded pipeline.

    Args:
        folder: Of the whole model, which says the configuration of each network.

    Raises:
        ModelError: The file is of another kind of model, or lacks tensors of a network.
    """
    import torch

    kind = type(pipe).__name__
    if not hasattr(pipe, "from_single_file"):
        raise ModelError(
            f"renderer.weights: diffusers loads no {kind} from one file; give the folder of "
            "a whole model as --model"
        )
    with opened(file.path) as tensors:
        names = dict.fromkeys(tensors.keys())
    replaced = {name for name, part in pipe.components.items() if _is_in_file(name, part, names)}
    others = {name: part for name, part in pipe.components.items() if name not in replaced}
    try:
        loaded = type(pipe).from_single_file(
            str(file.path),
            config=str(folder),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            **others,
        )
    except NotImplementedError as exc:
        # A tensor that the file lacks has no data, and torch refuses to move it.
        raise _refusal(file, kind, folder, "a network lacks tensors") from exc
    except Exception as exc:  # names and shapes of another model can make it raise anything
        raise _refusal(file, kind, folder, f"{one_line(exc):.300}") from exc
    networks = {name: getattr(loaded, name) for name in replaced}
    if any(value.is_meta for network in networks.values() for value in network.parameters()):
        raise _refusal(file, kind, folder, "a network lacks tensors")
    pipe.register_modules(**networks)


def _refusal(file: SingleFile, kind: str, folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"renderer.weights {file.path}: not the weights of a {kind} like {folder} ({reason}); give "
        "--model the model that it was made from"
    )


def _is_in_file(name: str, part: Any, names: Mapping[str, None]) -> bool:
    """Whether a file with tensors of these names holds the part of a pipeline."""
    import torch
    from diffusers.loaders.single_file_utils import (
        is_clip_model_in_single_file,
        is_t5_in_single_file,
    )

    if name in ("unet", "transformer"):
        return True
    if name == "vae":
        return any(tensor.startswith(_VAE_PREFIXES) for tensor in names)
    if not isinstance(part, torch.nn.Module):
        return False
    is_t5 = type(part).__name__ == "T5EncoderModel" and is_t5_in_single_file(names)
    return is_t5 or bool(is_clip_model_in_single_file(type(part), names))
