"""Diffusion pipelines whose latent is the noise they begin with: unconditional or by class.

The model is called as DDIM without added noise calls it (Song et al., arXiv:2010.02502), which
makes a picture a function of its first noise. Classes of diffusers that do more than that, such as
text-to-image pipelines, are the renderer `text-to-image`, which has `renderer.sigma`.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.models import find_model

_PARTS = {
    "DDPMPipeline": "unet",
    "DDIMPipeline": "unet",
    "DiTPipeline": "transformer",
}
"""Known pipeline classes, and the part that denoises."""


class DiffusionGenerator:
    """A generator of a diffusers folder. See `generators.Generator`."""

    keeps_variance = True

    def __init__(self, folder: Path, *, steps: int, device: str) -> None:
        """Load the weights. Raises ModelError for a pipeline that is no function of its noise."""
        model = find_model(str(folder))
        name = model.index.get("_class_name")
        if name not in _PARTS:
            raise ModelError(
                f"{folder}: {name} is not among {', '.join(_PARTS)}; captions are drawn around a "
                "latent by the renderer text-to-image with --set renderer.sigma"
            )
        self.device = torch.device(device)
        try:
            self._load(folder, name)
        except ModelError:
            raise
        except Exception as exc:  # a damaged file can make the libraries raise anything
            raise ModelError(f"{folder}: cannot be loaded ({one_line(exc)})") from exc
        self.scheduler.set_timesteps(steps)
        config = self.denoiser.config
        self.num_classes = int(
            config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 0
        )
        if self._is_transformer and self.num_classes:
            self.num_classes = self.num_classes - 1  # the last one of a DiT stands for none
        side = config["sample_size"]
        self.shape = (int(config["in_channels"]), int(side), int(side))
        self.latent_dim = self.shape[0] * self.shape[1] * self.shape[2]
        self.size_px = side * self._pixels_per_place

    def _load(self, folder: Path, name: str) -> None:
        part = _PARTS[name]
        self._is_transformer = part == "transformer"
        cls = diffusers.DiTTransformer2DModel if self._is_transformer else diffusers.UNet2DModel
        arguments: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        self.denoiser = cls.from_pretrained(folder / part, **arguments).to(self.device).eval()
        self.vae = None
        if (folder / "vae").is_dir():
            vae = diffusers.AutoencoderKL.from_pretrained(folder / "vae", **arguments)
            self.vae = vae.to(self.device).eval()
        self._pixels_per_place = 1
        if self.vae is not None:
            self._pixels_per_place = 2 ** (len(self.vae.config["block_out_channels"]) - 1)
        own = diffusers.DDIMScheduler.load_config(folder / "scheduler")
        self.scheduler = diffusers.DDIMScheduler.from_config(own)

    def __call__(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Pictures from 0 to 1."""
        values = latents.view(-1, *self.shape)
        for time in self.scheduler.timesteps:
            times = time.to(self.device).expand(len(values))
            labels = {} if classes is None else {"class_labels": classes}
            predicted = self.denoiser(values, times, **labels).sample
            # A model that also predicts variances has them behind the noise.
            predicted = predicted[:, : self.shape[0]]
            values = self.scheduler.step(predicted, time, values, eta=0.0).prev_sample
        if self.vae is not None:
            values = self.vae.decode(values / self.vae.config["scaling_factor"]).sample
        return (values / 2 + 0.5).clamp(0, 1)
