"""Renderer `latent-neighbourhood`: views around a latent of a generator G(z) or G(z, class).

Source: Jahanian et al., GenRep, arXiv:2106.05258. A subject is an anchor, a latent that its text
decides; its views are near it. `latents` has the steps, `generators` and its neighbours what can be
a generator.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from manifests.canonical import hash_file, hash_json
from manifests.columns import DeclaredColumn, Value
from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line
from manifests.ids import NUM_SEEDS, group_id
from manifests.latents import encode_latent
from manifests.rows import SubjectRow
from pipeline.batching import render_in_batches
from pipeline.devices import has_gpu
from pipeline.errors import ModelError, RenderError, RenderMemoryError
from pipeline.models import find_model
from pipeline.renderers import Renderer
from pipeline.renderers.latent_neighbourhood import latents, steering
from pipeline.renderers.latent_neighbourhood.config import LatentNeighbourhoodConfig
from pipeline.renderers.latent_neighbourhood.generators import (
    EMBEDDED,
    Facts,
    Generator,
    facts_beside,
    find_generator,
    hash_files,
)
from pipeline.renderers.latent_neighbourhood.latents import Latent
from pipeline.views import Provenance, RenderedView, Resources, ViewRequest

VERSION = 1
"""Of how anchors and views are drawn from seeds."""


class LatentNeighbourhood(Renderer):
    """See the module. The laws are in `pipeline.renderers`."""

    Config = LatentNeighbourhoodConfig
    kinds = ("latent",)

    def __init__(self, config: LatentNeighbourhoodConfig) -> None:
        self.config: LatentNeighbourhoodConfig = config
        self.path = find_generator(config.generator)
        self.device: str = config.device
        if config.device == "auto":
            self.device = "cuda" if has_gpu() else "cpu"
        stated = facts_beside(self.path)
        self.facts = Facts(
            latent_dim=config.latent_dim or stated.latent_dim,
            classes=stated.classes if config.classes is None else config.classes,
            values=config.values or stated.values,
            no_class=stated.no_class,
        )
        self.directions = self._read_directions()

    def _read_directions(self) -> steering.Directions | None:
        if self.config.neighbourhood != "steering":
            return None
        path = self.config.directions
        if not path and self.config.generator == EMBEDDED:
            path = str(steering.EMBEDDED_FILE)
        if not path:
            raise ConfigError(
                "steering needs renderer.directions, a file that `synth steer` writes"
            )
        directions = steering.read_directions(Path(path))
        if directions.generator != hash_file(self.path):
            raise ConfigError(
                f"{path}: these directions were learned for another generator than {self.path}; "
                "run `synth steer` for this one"
            )
        for name in self.config.use:
            if name not in directions.vectors:
                raise ConfigError(
                    f"renderer.use names {name}, and {path} has {', '.join(directions.vectors)}"
                )
        return directions

    @property
    def batch_size(self) -> int:
        return self.config.batch_size

    def resources(self) -> Resources:
        return Resources(device_type=self.device, threads=self.config.threads)

    def columns(self) -> Sequence[DeclaredColumn]:
        return self.config.columns()

    def variations(self) -> Sequence[Mapping[str, Value]]:
        """Sigmas, angles or directions."""
        match self.config.neighbourhood:
            case "gaussian":
                return [{"sigma": sigma} for sigma in self.config.sigma]
            case "angular":
                return [{"angle": angle} for angle in self.config.angle]
            case "steering":
                assert self.directions is not None
                return [{"direction": n} for n in self.config.use or self.directions.vectors]
        return ({},)

    def check(self, subjects: Sequence[SubjectRow]) -> None:
        """Refuse classes that the generator does not know. Raises ConfigError or ModelError."""
        generator = self.generator
        if generator.keeps_variance and self.config.neighbourhood == "gaussian":
            for sigma in self.config.sigma:
                if sigma > 1:
                    raise ConfigError(
                        f"renderer.sigma {sigma:g}: for a diffusion pipeline 0 to 1, and 1 is "
                        "independent"
                    )
        if generator.keeps_variance and self.config.truncation:
            raise ConfigError("renderer.truncation: the noise of a diffusion pipeline is not cut")
        if self.config.neighbourhood == "angular" and generator.latent_dim < 2:
            raise ConfigError("neighbourhood angular: a latent of one number has no directions")
        if self.directions is not None:
            for name, vector in self.directions.vectors.items():
                if len(vector) != generator.latent_dim:
                    raise ConfigError(
                        f"direction {name} has {len(vector)} numbers, and this generator's latents "
                        f"{generator.latent_dim}"
                    )
        known = generator.num_classes
        for subject in subjects:
            index = subject.values["class_index"]
            assert isinstance(index, int)
            if known == 0 and index >= 0:
                raise ConfigError(
                    f"{subject.text!r:.80}: this generator takes no class; leave "
                    "prompts.classes out"
                )
            if index < 0 and known and self.facts.no_class is None:
                raise ConfigError(
                    f"{subject.text!r:.80}: this generator needs a class, 0 to {known - 1}; give "
                    "prompts.classes"
                )
            if known and index >= known:
                raise ConfigError(
                    f"{subject.text!r:.80}: class {index}, and this generator has 0 to {known - 1}"
                )

    def frozen(self) -> LatentNeighbourhoodConfig:
        return self.config.model_copy(update={"device": self.device})

    def batch_key(self, request: ViewRequest) -> Hashable:
        """Nothing keeps two views apart: each has a latent and a class of its own."""
        return ()

    def identity(self) -> Mapping[str, Any]:
        directions = {}
        if self.directions is not None:
            learned = {n: v.tobytes() for n, v in sorted(self.directions.vectors.items())}
            directions = {"directions": _hash(learned)}
        return {
            "version": VERSION,
            "files": self.files,
            "device_type": self.device,
            "batch_size": self.batch_size,
            "truncation": self.config.truncation,
            "neighbourhood": self.config.neighbourhood,
            "amount": self.config.amount,
            "latent_dim": self.facts.latent_dim,
            "classes": self.facts.classes,
            "values": self.facts.values,
            **directions,
            **({"steps": self.config.steps} if self.path.is_dir() else {}),
            **({"threads": self.config.threads} if self.device == "cpu" else {}),
        }

    def provenance(self) -> Provenance:
        is_embedded = self.config.generator == EMBEDDED
        side = self.generator.size_px
        return Provenance(
            model="embedded generator" if is_embedded else self.path.name,
            revision=hash_json(self.files)[:16],
            width_px=side,
            height_px=side,
            constants={
                "neighbourhood": self.config.neighbourhood,
                "truncation": self.config.truncation,
            },
        )

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 of each file of the generator, by name."""
        if self.path.is_dir():
            return dict(find_model(str(self.path)).files)
        return dict(hash_files(self.path))

    @cached_property
    def generator(self) -> Generator:
        """The loaded generator."""
        if self.device == "cuda" and not has_gpu():
            raise ModelError(
                "device cuda: no CUDA device can be used here; give renderer.device cpu"
            )
        if self.path.is_dir():
            from pipeline.renderers.latent_neighbourhood.diffusion import DiffusionGenerator

            return DiffusionGenerator(self.path, steps=self.config.steps, device=self.device)
        from pipeline.renderers.latent_neighbourhood.graphs import GraphGenerator

        return GraphGenerator(self.path, self.facts, batch_size=self.batch_size, device=self.device)

    def release(self) -> None:
        self.__dict__.pop("generator", None)
        if self.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        return render_in_batches(requests, self.batch_size, self.batch_key, self._render_batch)

    def _render_batch(self, batch: Sequence[ViewRequest]) -> list[RenderedView]:
        import torch

        generator = self.generator
        drawn = [self._latent(request) for request in batch]
        z = np.stack([latent for latent, _ in drawn]).astype("<f4")
        classes = None
        if generator.num_classes:
            indices = [request.subject.values["class_index"] for request in batch]
            classes = torch.tensor(
                [self.facts.no_class if index == -1 else index for index in indices],
                device=self.device,
            )
        if self.device == "cpu" and torch.get_num_threads() != self.config.threads:
            torch.set_num_threads(self.config.threads)
        try:
            with torch.inference_mode():
                pictures = generator(torch.from_numpy(z).to(self.device), classes).cpu().numpy()
        except (torch.OutOfMemoryError, MemoryError) as exc:
            raise RenderMemoryError(
                f"{batch[0].key}: out of memory on {self.device} at batch size {len(batch)}; begin "
                "a set with a smaller --batch-size"
            ) from exc
        except (RenderError, ModelError):
            raise
        except Exception as exc:  # a foreign graph can raise anything
            raise RenderError(
                f"{batch[0].key} to {batch[-1].key}: {type(exc).__name__}: {one_line(exc)}"
            ) from exc
        finite = np.isfinite(pictures).all(axis=(1, 2, 3))
        levels = (np.nan_to_num(pictures) * 255).round().clip(0, 255).astype(np.uint8)
        views = []
        for index, (_, values) in enumerate(drawn):
            if self.config.keep_latents:
                values = {**values, "latent": encode_latent(z[index])}
            picture = np.ascontiguousarray(levels[index].transpose(1, 2, 0))
            views.append(RenderedView(pixels=picture, is_finite=bool(finite[index]), values=values))
        return views

    def _latent(self, request: ViewRequest) -> tuple[Latent, dict[str, Value]]:
        """The latent of a view, and the values of its columns."""
        size, cut = self.generator.latent_dim, self.config.truncation
        anchor = latents.draw(_anchor_rng(request.subject.text), size, truncation=cut)
        rng = np.random.default_rng([request.seed, VERSION])
        match self.config.neighbourhood:
            case "gaussian":
                sigma = _number(request, "sigma")
                if self.generator.keeps_variance:
                    return latents.mixed(rng, anchor, sigma), {}
                return latents.gaussian(rng, anchor, sigma, truncation=cut), {}
            case "angular":
                return latents.angular(rng, anchor, _number(request, "angle")), {}
            case "independent":
                return latents.draw(rng, size, truncation=cut), {}
        assert self.directions is not None
        amount = float(rng.uniform(-self.config.amount, self.config.amount))
        vector = self.directions.vectors[str(request.variation["direction"])]
        return anchor + amount * vector.astype(np.float64), {"amount": amount}


def _anchor_rng(text: str) -> np.random.Generator:
    # The text alone, so that an anchor is the same latent in every set and for every view seed.
    return np.random.default_rng([group_id("latent", text), NUM_SEEDS, VERSION])


def _number(request: ViewRequest, name: str) -> float:
    value = request.variation[name]
    assert isinstance(value, float)
    return value


def _hash(parts: Mapping[str, bytes]) -> str:
    digest = sha256()
    for name, value in parts.items():
        digest.update(f"{name}\0{len(value)}\0".encode())
        digest.update(value)
    return digest.hexdigest()
