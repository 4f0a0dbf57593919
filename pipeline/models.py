"""The folder of a generator: find it, hash the files that are read, and refuse unsafe ones."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from manifests.canonical import hash_file, hash_json
from manifests.foundation.messages import one_line
from pipeline.errors import ModelError

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "model"

WEIGHT_SUFFIX = ".safetensors"
_READ_PATTERNS = (
    *("model_index.json", f"*/*{WEIGHT_SUFFIX}", "*/*.json", "*/*.txt", "*/*.model"),
    "*/*.jinja",  # chat templates, which are part of what a text encoder reads
)
_SKIPPED_PATTERNS = (
    *("*.fp16.*", "*.fp16-*", "*.non_ema.*"),
    *("safety_checker/*", "feature_extractor/*"),
)
"""Copies of the weights in other precisions, and the safety checker, which is never run: they
decide no pixel, so they are neither fetched nor part of the identity."""
_TRUSTED_LIBRARIES = ("diffusers", "transformers", "tokenizers")
"""Libraries whose classes may be parts of a model; any other name would be code of the model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A diffusers pipeline on disk."""

    name: str
    """`embedded`, a hub id, or the name of the folder."""
    revision: str
    """Commit of a hub id; for a folder, the first 16 digits of a hash of `files`."""
    folder: Path
    files: Mapping[str, str]
    """SHA-256 in hexadecimal of every file that may be read, by path in the folder.

    Example: `{"unet/config.json": "5f0e...", ...}`.
    """

    @property
    def index(self) -> dict[str, Any]:
        """`model_index.json`: class of the pipeline, and library and class of each part.

        Example: `{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet..."]}`.
        """
        return _read_json(self.folder / "model_index.json")

    def part_config(self, part: str) -> dict[str, Any]:
        """Configuration of a part, such as `unet`; empty if there is none."""
        path = self.folder / part / "config.json"
        return _read_json(path) if path.exists() else {}


def find_model(model: str) -> ModelFiles:
    """Locate a model and hash its files.

    Args:
        model: `embedded`, a folder, or a hub id with an optional `@revision`.

    Raises:
        ModelError: The model is not there, is incomplete, is not in safetensors, or comes with code
            of its own.
    """
    folder, name, revision = _locate(model)
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{folder}: no model_index.json; --model takes the folder of a diffusers pipeline, a "
            "hub id, or 'embedded'"
        )
    files = {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _is_read(path.relative_to(folder).as_posix())
    }
    revision = revision or hash_json(files)[:16]
    model_files = ModelFiles(name=name, revision=revision, folder=folder, files=files)
    _require_whole_and_safe(model_files)
    return model_files


def _locate(model: str) -> tuple[Path, str, str]:
    """Folder, name and revision of a model; the revision is empty where there is no commit."""
    if model == EMBEDDED:
        return EMBEDDED_FOLDER, EMBEDDED, ""
    path = Path(model).expanduser()
    # A folder wins over a hub id of the same spelling, owner/name.
    if path.is_dir():
        return path, path.resolve().name, ""
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ModelError(
            f"{model}: no such folder, and not a hub id (owner/name[@revision]); give --model the "
            "folder of a diffusers pipeline, a hub id, or 'embedded'"
        )
    # Imported here, because only a hub id needs it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(_READ_PATTERNS),
                ignore_patterns=list(_SKIPPED_PATTERNS),
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        raise ModelError(
            f"{model}: not in the local cache, and the hub does not give it "
            f"({one_line(exc)}); check the name, the network, or give a folder"
        ) from exc
    return folder, name, folder.name  # the cache names a snapshot's folder by its commit


def _is_read(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in _READ_PATTERNS) and not any(
        fnmatch(path, pattern) for pattern in _SKIPPED_PATTERNS
    )


def _require_whole_and_safe(model: ModelFiles) -> None:
    """Require every part that the index names: as safetensors, and of a trusted library."""
    for part, entry in model.index.items():
        # Keys that begin with an underscore and plain values describe the pipeline; an entry of
        # null is a part that the model does without.
        if part.startswith("_") or not isinstance(entry, list) or entry[0] is None:
            continue
        if part in ("safety_checker", "feature_extractor"):
            continue
        library, class_name = entry[0], entry[1]
        if library not in _TRUSTED_LIBRARIES or not isinstance(class_name, str):
            raise ModelError(
                f"{model.folder}: {part} is {library}.{class_name}, code that comes with a model "
                f"is never run; parts of {', '.join(_TRUSTED_LIBRARIES)} are"
            )
        part_files = [path for path in model.files if path.startswith(f"{part}/")]
        if not part_files:
            raise ModelError(f"{model.folder}: the part {part!r} is missing; copy the whole model")
        # Networks have a config.json; tokenizers and schedulers have other files and no weights.
        is_network = "config.json" in {path.partition("/")[2] for path in part_files}
        if is_network and not any(path.endswith(WEIGHT_SUFFIX) for path in part_files):
            raise ModelError(
                f"{model.folder / part}: no {WEIGHT_SUFFIX} weights; other formats can run code "
                "and are not read: convert the model"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as exc:
        raise ModelError(f"{path}: not readable JSON ({exc}); copy the model again") from exc
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object; copy the model again")
    return value
