"""What replaces or adds to the parts of a model: LoRA weights, another VAE."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.file_hashes import hash_of
from pipeline.models import WEIGHT_SUFFIX, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank changes of weights (arXiv:2106.09685), in a file of safetensors."""

    path: Path
    weight: float
    sha256: str

    @property
    def name(self) -> str:
        """As rows say it. Example: `watercolour 0.8`."""
        return f"{self.path.stem} {self.weight:g}"


def open_loras(settings: Sequence[str]) -> list[Lora]:
    """The files behind settings such as `style.safetensors` or `style.safetensors:0.8`.

    Raises:
        ModelError: There is no such file, or it is not in safetensors.
    """
    loras = []
    for setting in settings:
        text, _, weight = setting.partition(f"{WEIGHT_SUFFIX}:")
        path = Path(f"{text}{WEIGHT_SUFFIX}" if weight else text)
        try:
            number = float(weight or 1)
            if not math.isfinite(number):
                raise ValueError(weight)
        except ValueError as exc:
            raise ModelError(
                f"renderer.lora {setting}: {weight!r} is no weight; expected FILE:0.8"
            ) from exc
        if path.suffix != WEIGHT_SUFFIX or not path.is_file():
            raise ModelError(
                f"renderer.lora {path}: expected a file of {WEIGHT_SUFFIX}, with a weight such as "
                ":0.8 behind its name or none; other formats can run code and are not read"
            )
        loras.append(Lora(path=path, weight=number, sha256=hash_of(path)))
    return loras


def add_loras(pipe: Any, loras: Sequence[Lora]) -> None:
    """Add LoRA weights to a loaded pipeline, as its documentation does.

    Raises:
        ModelError: They were made for another model.
    """
    if not loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"renderer.lora: {type(pipe).__name__} takes no LoRA; leave it out")
    names = [f"adapter{index}" for index in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        before = _num_parameters(pipe)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a second LoRA is meant to be added to the first
                pipe.load_lora_weights(
                    str(lora.path.parent),
                    weight_name=lora.path.name,
                    adapter_name=name,
                    local_files_only=True,
                )
        except Exception as exc:  # keys and shapes of another model can make it raise anything
            raise ModelError(
                f"renderer.lora {lora.path}: does not fit {type(pipe).__name__} "
                f"({one_line(exc):.300}); take one that was made for this model"
            ) from exc
        if _num_parameters(pipe) == before:
            raise ModelError(
                f"renderer.lora {lora.path}: none of its weights has a place in "
                f"{type(pipe).__name__}; take one that was made for this model"
            )
    pipe.set_adapters(names, [lora.weight for lora in loras])


def _num_parameters(pipe: Any) -> int:
    import torch

    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return sum(len(list(module.parameters())) for module in modules)


def vae_files(folder: str) -> Mapping[str, str]:
    """SHA-256 of the files of another VAE, by name.

    Raises:
        ModelError: It is no folder of a VAE of diffusers in safetensors.
    """
    path = Path(folder)
    files = sorted([*path.glob("*.json"), *path.glob(f"*{WEIGHT_SUFFIX}")]) if folder else []
    if folder and not any(file.suffix == WEIGHT_SUFFIX for file in files):
        raise ModelError(
            f"renderer.vae {folder}: expected a folder with config.json and {WEIGHT_SUFFIX}, as "
            "diffusers saves a VAE"
        )
    return {file.name: hash_of(file) for file in files}


def load_vae(folder: str, own_config: Mapping[str, Any], dtype: str) -> Any:
    """Another VAE for a model.

    Args:
        own_config: Configuration of the model's own VAE.

    Raises:
        ModelError: It is for other latents, or cannot be loaded.
    """
    import diffusers
    import torch

    config = read_json(Path(folder) / "config.json")
    for key in ("latent_channels", "scaling_factor", "shift_factor"):
        if key in config and key in own_config and config[key] != own_config[key]:
            raise ModelError(
                f"renderer.vae {folder}: its {key} is {config[key]}, this model's latents have "
                f"{own_config[key]}; take a VAE for this model"
            )
    vae_class = getattr(diffusers, str(config.get("_class_name")), None)
    if vae_class is None:
        raise ModelError(
            f"renderer.vae {folder}: {config.get('_class_name')!r} is no class of diffusers "
            f"{diffusers.__version__}"
        )
    try:
        return vae_class.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
        )
    except Exception as exc:  # a damaged file can make the libraries raise anything
        raise ModelError(f"renderer.vae {folder}: cannot be loaded ({one_line(exc)})") from exc
