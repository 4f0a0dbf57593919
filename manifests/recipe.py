"""`recipe.json`: everything that decides the pixels and rows of a set, frozen when it is begun."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from manifests.canonical import document_bytes, hash_json
from manifests.errors import ContractError, CorruptError, ForeignSetError, VersionError
from manifests.layout import Layout
from manifests.schema import FORMAT, FORMAT_VERSION, MAJOR

_MALFORMED = (LookupError, TypeError, AttributeError, ArithmeticError, ValueError)
"""What reading a document raises that is JSON and not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What decides pixels and rows. Two sets of one identity hold the same bytes.

    Raises:
        ContractError: A count below one, a guidance that is no number, or a list of guidance
            scales whose length does not divide the number of images.
    """

    dataset_seed: int
    images_per_prompt: int
    guidance_scales: tuple[float, ...]
    """View v is rendered at guidance_scales[v mod len]; the length divides images_per_prompt."""
    num_prompts: int
    prompts_per_shard: int
    prompts_sha256: str
    """Hash of the merged prompts in order, independent of the file format."""
    renderer: str
    renderer_identity: Mapping[str, Any]
    """What the renderer says decides its pixels: model and file hashes, scheduler, dtype, ..."""
    image: Mapping[str, Any]
    """Stored size, format and encoder settings."""

    def __post_init__(self) -> None:
        # Rows hold floats; a whole number must hash and compare as one.
        object.__setattr__(self, "guidance_scales", tuple(map(float, self.guidance_scales)))
        for name in ("images_per_prompt", "num_prompts", "prompts_per_shard"):
            if getattr(self, name) < 1:
                raise ContractError(f"{name} is {getattr(self, name)}, expected 1 or more")
        for scale in self.guidance_scales:
            if not (math.isfinite(scale) and scale >= 0):
                raise ContractError(f"guidance {scale} is not a finite number of 0 or more")
        if not self.guidance_scales or self.images_per_prompt % len(self.guidance_scales):
            raise ContractError(
                f"{len(self.guidance_scales)} guidance scales do not divide "
                f"{self.images_per_prompt} images per prompt; each scale takes an equal share of "
                "the views, so give a multiple"
            )

    @property
    def num_shards(self) -> int:
        return -(-self.num_prompts // self.prompts_per_shard)

    @property
    def layout(self) -> Layout:
        return Layout(self.num_shards)

    def prompts_in(self, shard: int) -> range:
        """Group indices of the prompts of a shard."""
        start = shard * self.prompts_per_shard
        return range(start, min(start + self.prompts_per_shard, self.num_prompts))

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"guidance_scales": list(self.guidance_scales)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The whole document."""

    identity: Identity
    environment: Mapping[str, Any]
    """Library versions: recorded; a difference warns and does not refuse."""
    prompt_files: Mapping[str, str]
    """SHA-256 of each file of the plan, by path."""
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the identity that a newer minor version added: hashed, and ignored."""

    @property
    def sha256(self) -> str:
        """The hash that tars and manifests carry."""
        return hash_json({**self.identity.to_json(), **self.unknown})

    def to_bytes(self) -> bytes:
        return document_bytes(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "identity": {**self.identity.to_json(), **self.unknown},
                "identity_sha256": self.sha256,
                "environment": dict(self.environment),
                "prompt_files": dict(self.prompt_files),
            }
        )


def parse_recipe(data: bytes, *, where: str) -> Recipe:
    """Read a recipe; keys of a newer minor version are ignored.

    Raises:
        ForeignSetError: Something else than a recipe.
        VersionError: Of a newer major version.
        CorruptError: The identity is not what its hash says, or a key is missing.
    """
    document = read_versioned(data, where=where)
    known = {field.name for field in fields(Identity)}
    try:
        values = {name: value for name, value in document["identity"].items() if name in known}
        stated = document["identity_sha256"]
        identity = Identity(**values | {"guidance_scales": tuple(values["guidance_scales"])})
        recipe = Recipe(
            identity=identity,
            environment=dict(document["environment"]),
            prompt_files=dict(document["prompt_files"]),
            unknown={k: v for k, v in document["identity"].items() if k not in known},
        )
    except (*_MALFORMED, ContractError) as exc:
        raise CorruptError(f"{where}: not a whole recipe ({exc}); restore it") from exc
    if hash_json(document["identity"]) != stated:
        raise CorruptError(
            f"{where}: its identity is not the one that was hashed; it was changed after the set "
            "was begun; restore it"
        )
    return recipe


def read_versioned(data: bytes, *, where: str) -> dict[str, Any]:
    """A JSON document of this format and of a major version that this code knows."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise CorruptError(f"{where}: not JSON ({exc}); restore it") from exc
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ForeignSetError(f"{where}: not a document of a shard set; choose another URL")
    version = document.get("format_version")
    major = str(version).partition(".")[0]
    if not major.isdecimal():
        raise CorruptError(
            f"{where}: format version {version!r}, expected {FORMAT_VERSION}; restore it"
        )
    if int(major) > MAJOR:
        raise VersionError(
            f"{where}: written as format {version}, this version reads up to {MAJOR}.x; "
            "install a newer synth-rep"
        )
    return document
