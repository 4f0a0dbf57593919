"""The folder of a generator: find it, hash the files that are read, and refuse unsafe ones."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manifests.canonical import hash_json
from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.file_hashes import hash_of

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "model"

WEIGHT_SUFFIX = ".safetensors"
_READ_PATTERNS = (
    *("model_index.json", f"*/*{WEIGHT_SUFFIX}", "*/*.json", "*/*.txt", "*/*.model"),
    "*/*.jinja",  # chat templates, which are part of what a text encoder reads
)
_SKIPPED_PATTERNS = ("safety_checker/*", "feature_extractor/*")
"""The safety checker is never run: it decides no pixel, so it is neither fetched nor part of the
identity."""
_WEIGHTS = re.compile(
    r"(?P<stem>[^.]+)(\.(?P<variant>\w+))?(-\d+-of-\d+)?\.safetensors"
    r"|(?P<of>[^.]+)\.safetensors\.index(\.(?P<of_variant>\w+))?\.json"
)
"""Names of weights and of the index of weights in several files, such as `model.fp16.safetensors`,
`model.fp16-00001-of-00002.safetensors` and `model.safetensors.index.fp16.json`."""
_COMMON_VARIANTS = ("fp16", "bf16", "fp32", "non_ema", "ema")
_TRUSTED_LIBRARIES = ("diffusers", "transformers", "tokenizers")
"""Libraries whose classes may be parts of a model, and so may the pipelines of diffusers itself;
any other name would be code of the model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A diffusers pipeline on disk."""

    name: str
    """`embedded`, a hub id, or the name of the folder."""
    revision: str
    """Commit of a hub id; for a folder, the first 16 digits of a hash of `files`."""
    folder: Path
    variant: str
    """Such as `fp16`: which copy of the weights is read; empty for the one without a name."""
    files: Mapping[str, str]
    """SHA-256 in hexadecimal of every file that may be read, by path in the folder.

    Example: `{"unet/config.json": "5f0e...", ...}`.
    """

    @property
    def index(self) -> dict[str, Any]:
        """`model_index.json`: class of the pipeline, and library and class of each part.

        Example: `{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet..."]}`.
        """
        return read_json(self.folder / "model_index.json")

    def part_config(self, part: str) -> dict[str, Any]:
        """Configuration of a part, such as `unet`; empty if there is none."""
        path = self.folder / part / "config.json"
        return read_json(path) if path.exists() else {}

    def weight_bytes(self, dtype: str) -> Mapping[str, int]:
        """Bytes of the weights in a dtype such as `bfloat16`, by part."""
        import torch  # only here: most of what is asked of a model needs no torch

        itemsize = int(getattr(torch, dtype).itemsize)
        by_part: Counter[str] = Counter()
        for path in self.files:
            if path.endswith(WEIGHT_SUFFIX):
                with opened(self.folder / path) as tensors:
                    by_part[path.partition("/")[0]] += itemsize * sum(
                        math.prod(tensors.get_slice(name).get_shape())
                        for name in tensors.keys()  # noqa: SIM118
                    )
        return by_part


def find_model(model: str, variant: str = "") -> ModelFiles:
    """Locate a model and hash its files.

    Args:
        model: `embedded`, a folder, or a hub id with an optional `@revision`.
        variant: Copy of the weights to read, such as `fp16`. Parts without it have the one without
            a name. Where none is given and a folder has one copy alone, that is read.

    Raises:
        ModelError: The model is not there, is incomplete, is not in safetensors, or comes with code
            of its own.
    """
    folder, name, revision = _locate(model, variant)
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{folder}: no model_index.json; --model takes the folder of a diffusers pipeline, a "
            "hub id, or 'embedded'"
        )
    paths = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and _is_read(path.relative_to(folder).as_posix())
    ]
    variant = variant or _only_variant(paths)
    files = {path: hash_of(folder / path) for path in _without_other_variants(paths, variant)}
    revision = revision or hash_json(files)[:16]
    model_files = ModelFiles(
        name=name, revision=revision, folder=folder, variant=variant, files=files
    )
    _require_whole_and_safe(model_files)
    return model_files


def _variant_of(path: str) -> str | None:
    """Variant of a file of weights, empty for the one without a name; None for other files."""
    match = _WEIGHTS.fullmatch(path.rpartition("/")[2])
    return None if match is None else match["variant"] or match["of_variant"] or ""


def _only_variant(paths: Sequence[str]) -> str:
    """The variant of a model that has parts in one variant alone; empty where there is none."""
    by_part: dict[str, set[str]] = {}
    for path in paths:
        if (variant := _variant_of(path)) is not None:
            by_part.setdefault(path.partition("/")[0], set()).add(variant)
    lacking = [variants for variants in by_part.values() if "" not in variants]
    common = set.intersection(*lacking) if lacking else set()
    return min(common, default="")


def _without_other_variants(paths: Sequence[str], variant: str) -> list[str]:
    """Without weights that are not read: where a part has the variant, it is read alone."""
    having = {path.partition("/")[0] for path in paths if variant and _variant_of(path) == variant}
    return [
        path
        for path in paths
        if _variant_of(path) in (None, variant if path.partition("/")[0] in having else "")
    ]


def _locate(model: str, variant: str) -> tuple[Path, str, str]:
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
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = model.partition("@")
    others = [name for name in _COMMON_VARIANTS if name != variant]
    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=list(_READ_PATTERNS),
                ignore_patterns=[
                    *_SKIPPED_PATTERNS,
                    *(f"*.{name}{end}" for name in others for end in (".*", "-*")),
                ],
            )
        )
    except GatedRepoError as exc:
        raise ModelError(
            f"{model}: the hub gives it only to those who have accepted its terms; accept them on "
            "its page and give their token as HF_TOKEN"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise ModelError(
            f"{model}: the hub has no such model, or a private one; check the name, or give a "
            "token that may read it as HF_TOKEN"
        ) from exc
    except RevisionNotFoundError as exc:
        raise ModelError(f"{model}: the hub has no such revision of this model") from exc
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
        # Keys that begin with an underscore describe the pipeline, and so do plain values and lists
        # of numbers; an entry of null is a part that the model does without.
        if part.startswith("_") or not isinstance(entry, list):
            continue
        if len(entry) != 2 or entry[0] is None or not isinstance(entry[0], str):
            continue
        if part in ("safety_checker", "feature_extractor"):
            continue
        library, class_name = entry[0], entry[1]
        if not isinstance(class_name, str) or not _is_trusted(library):
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
            named = (
                f" of variant {model.variant} or none" if model.variant else " without a variant"
            )
            raise ModelError(
                f"{model.folder / part}: no {WEIGHT_SUFFIX} weights{named}; give renderer.variant "
                "if there is another one. Other formats can run code and are not read: convert them"
            )


def _is_trusted(library: str) -> bool:
    if library in _TRUSTED_LIBRARIES:
        return True
    # Parts that diffusers itself defines beside one of its pipelines, such as Kolors' text encoder.
    # They are looked for as files: to import diffusers takes seconds.
    spec = find_spec("diffusers")
    folders = [] if spec is None else spec.submodule_search_locations or []
    path = Path(*folders, "pipelines", library)
    return library.isidentifier() and (path.is_dir() or path.with_suffix(".py").is_file())


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A file of safetensors, whose tensors are read when they are asked for. Raises ModelError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as exc:
        raise ModelError(f"{path}: cannot be read ({one_line(exc)}); copy the model again") from exc


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model. Raises ModelError."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as exc:
        raise ModelError(f"{path}: not readable JSON ({exc}); copy the model again") from exc
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object; copy the model again")
    return value
