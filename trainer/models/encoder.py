"""The image tower: any timm model without its classifier. How it is exported and loaded again."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from manifests.foundation.messages import one_line
from manifests.foundation.plugins import did_you_mean
from trainer.errors import CheckpointError
from trainer.models import small_alexnet, small_conv  # noqa: F401 (makes them known to timm)
from trainer.models.specs import SPEC, WEIGHTS, EncoderSpec, read_description
from trainer.models.weights import read_weights, write_weights

_REFUSED_ARGS = {
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "features_only",
    "num_classes",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "scriptable",
}
"""Arguments of timm that read other files, or that make a model which is no encoder."""


def build_encoder(spec: EncoderSpec) -> nn.Module:
    """The tower with random weights: images [B, 3, H, W] to features [B, num_features].

    The weights are drawn from the global generator of torch.

    Raises:
        ConfigError: timm does not know the name, or refuses an argument.
    """
    if spec.model not in timm.list_models():
        near = did_you_mean(spec.model, timm.list_models())
        raise ConfigError(f"model.model: timm {timm.__version__} has no {spec.model!r}{near}")
    if refused := _REFUSED_ARGS & spec.args.keys():
        raise ConfigError(f"model.args.{min(refused)}: is not allowed here; leave it out")
    try:
        encoder: nn.Module = timm.create_model(
            spec.model, pretrained=False, num_classes=0, **spec.args
        )
    except Exception as exc:  # towers fail on odd arguments in any way that Python knows
        raise ConfigError(
            f"model.args: timm refuses {spec.args} for {spec.model}: {one_line(exc)}"
        ) from exc
    return encoder


def num_features(encoder: nn.Module, spec: EncoderSpec) -> int:
    """Width of the features, measured on one blank image.

    The attribute of the same name will not do: in some towers of timm a layer follows that changes
    the width.

    Raises:
        ConfigError: The tower does not take images of `input_px`, or does not give one vector for
            each image.
    """
    training = encoder.training
    try:
        # In evaluation mode no batch norm counts the blank image. No inference mode: tensors that a
        # tower caches under it could not be used in training.
        with torch.no_grad():
            features = encoder.eval()(torch.zeros(1, 3, spec.input_px, spec.input_px))
    except (AssertionError, RuntimeError) as exc:
        raise ConfigError(
            f"model.input_px: {spec.model} does not take {spec.input_px} px images: {one_line(exc)}"
        ) from exc
    finally:
        encoder.train(training)
    if features.ndim != 2:
        raise ConfigError(
            f"model.args: {spec.model} gives features of shape {list(features.shape)}, expected "
            "one vector an image; set global_pool"
        )
    return int(features.shape[1])


def normalize(
    images: UInt8[Tensor, "images 3 height width"] | Float[Tensor, "images 3 height width"],
    spec: EncoderSpec,
) -> Float[Tensor, "images 3 height width"]:
    """Pixels from 0 to 255 as the tower was trained on them: (x / 255 - mean) / std."""
    mean, std = _by_channel(spec.mean, images.device), _by_channel(spec.std, images.device)
    return (images.float() / 255 - mean) / std


def _by_channel(values: tuple[float, ...], device: torch.device) -> Float[Tensor, "1 channels 1 1"]:
    """Filled on the device, because a copy to it would make the host wait."""
    return torch.cat([torch.full((1, 1, 1, 1), value, device=device) for value in values], dim=1)


def is_stock(spec: EncoderSpec) -> bool:
    """Whether timm has the tower by itself: towers of this project are known to it only here."""
    module: str = timm.models.model_entrypoint(spec.model).__module__
    return module.startswith("timm.")


def stock_copy(encoder: nn.Module, spec: EncoderSpec) -> nn.Module:
    """The tower as timm builds it, on the CPU and in evaluation mode, with the weights of another.

    A tower that was trained has batch norms of this project in it, and may lie on a GPU. The global
    generator of torch stays as it is.
    """
    with torch.random.fork_rng(devices=[]):
        copy = build_encoder(spec)
    copy.load_state_dict(encoder.state_dict(), strict=True)
    return copy.eval()


def save_encoder(folder: Path, encoder: nn.Module, spec: EncoderSpec, made: dict[str, Any]) -> None:
    """Write `encoder.safetensors`, which timm loads with `strict=True`, and `encoder.json`.

    Args:
        folder: The run.
        encoder: The tower, on any device.
        spec: What it was built from.
        made: Where it comes from, as JSON; kept in `encoder.json`.
    """
    # The description is written last and holds the hash of the weights: a crash in between leaves a
    # pair that does not match, which `load_encoder` refuses.
    document = {
        "spec": spec.model_dump(mode="json"),
        "sha256": write_weights(folder / WEIGHTS, encoder),
        "made": made,
    }
    write_whole(folder / SPEC, f"{json.dumps(document, indent=2)}\n".encode())


def load_encoder(path: Path) -> tuple[nn.Module, EncoderSpec]:
    """An exported encoder, in evaluation mode.

    Args:
        path: Folder of a run, or the `encoder.safetensors` in it.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights are not those that the
            description is about.
    """
    description = read_description(path)
    spec = description.spec
    weights = path / WEIGHTS if path.is_dir() else path
    try:
        tensors = read_weights(weights, sha256=description.sha256, description=SPEC)
        encoder = build_encoder(spec)
        encoder.load_state_dict(tensors, strict=True)
    except CheckpointError:
        raise
    except Exception as exc:  # safetensors has an error type of its own
        raise CheckpointError(
            f"{weights}: not the weights of {spec.model} as {SPEC} beside it says ({one_line(exc)})"
        ) from exc
    return encoder.eval(), spec
