"""What a generator is to this renderer, and which one a setting means."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from manifests.canonical import hash_file
from pipeline.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDED = "embedded"
EMBEDDED_FILE = Path(__file__).parents[2] / "embedded" / "generator" / "generator.pt2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a generator before it is loaded; None for what its files do not say."""

    latent_dim: int | None = None
    classes: int | None = None
    values: Literal["-1 to 1", "0 to 1"] | None = None
    no_class: int | None = None
    """The class that stands for none, if the generator has one."""


class Generator(Protocol):
    """A loaded generator G(z) or G(z, class)."""

    size_px: int
    """Side of its pictures."""
    latent_dim: int
    num_classes: int
    """0 if it takes no class."""
    keeps_variance: bool
    """Whether latents have to keep variance 1, as the noise of diffusion does."""

    def __call__(self, latents: "Tensor", classes: "Tensor | None") -> "Tensor":
        """Pictures [n, 3, side, side] from 0 to 1 of latents [n, latent_dim] and classes [n]."""
        ...


def find_generator(setting: str) -> Path:
    """The file or folder of a generator. Raises ModelError."""
    path = EMBEDDED_FILE if setting == EMBEDDED else Path(setting).expanduser()
    if not path.exists():
        raise ModelError(
            f"{setting}: no such file or folder; renderer.generator takes a file of torch.export, "
            "TorchScript or ONNX, the folder of a diffusers pipeline, or 'embedded'"
        )
    return path


def facts_beside(path: Path) -> Facts:
    """What NAME.json beside a file states. Raises ModelError."""
    beside = path.with_suffix(".json")
    if path.is_dir() or not beside.is_file():
        return Facts()
    try:
        document = json.loads(beside.read_text())
        facts: dict[str, Any] = {key: document.get(key) for key in ("latent_dim", "values")}
        names = document.get("classes")
        facts["classes"] = len(names) if isinstance(names, list) else names
        facts["no_class"] = document.get("no_class")
    except (OSError, ValueError, AttributeError, RecursionError) as exc:
        raise ModelError(f"{beside}: no JSON object that describes a generator ({exc})") from exc
    for key in ("latent_dim", "classes", "no_class"):
        if facts[key] is not None and (type(facts[key]) is not int or not 0 <= facts[key] <= 10**6):
            raise ModelError(f"{beside}: {key} is {facts[key]!r:.40}, expected 0 to 1,000,000")
    if facts["values"] not in (None, "-1 to 1", "0 to 1"):
        raise ModelError(
            f"{beside}: values is {facts['values']!r:.40}, expected '-1 to 1' or '0 to 1'"
        )
    return Facts(**facts)


def hash_files(path: Path) -> Mapping[str, str]:
    """SHA-256 of a generator's file and of the JSON beside it, by name."""
    files = [path, path.with_suffix(".json")]
    return {file.name: hash_file(file) for file in files if file.is_file()}
