"""Train the decoder of the pictogram model's autoencoder; its encoder is set by hand.

    python -m benchmarks.embedded_model.train_decoder --state STATE [--steps N]

Prints the peak signal-to-noise ratio on other pictures of the training families at the end.
"""

from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.embedded_model.parts import LATENT_SCALE, build_vae, to_latents
from benchmarks.embedded_model.training import Training
from pipeline.embedded.scenes import draw_scenes, paint
from pipeline.embedded.sprites import TRAINING_FAMILIES

BATCH = 32
NOISE = 0.03
"""Of the latents in training: what a generator draws is never exact."""


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 [n, height, width, 3] -> float [n, 3, height, width] from -1 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def pictures_of(seed: list[int], count: int) -> Tensor:
    """Pictures of the training families, [count, 3, 32, 32]."""
    rng = np.random.default_rng(seed)
    scenes = draw_scenes(rng, count, num_families=3, with_held_out=False)
    return to_tensor(paint(rng, scenes, TRAINING_FAMILIES))


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=1800, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(state: Path, steps: int, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    vae = build_vae()
    decoder = vae.decoder.to(memory_format=torch.channels_last)
    training = Training(state, [decoder], learning_rate=2e-3, cool_down=0.5)

    def loss_of(step: int) -> Tensor:
        pictures = pictures_of([seed, step], BATCH)
        noise = torch.from_numpy(
            np.random.default_rng([seed, step, 1]).standard_normal((BATCH, 12, 16, 16), np.float32)
        )
        latents = (to_latents(pictures) + NOISE * noise) / LATENT_SCALE
        return F.mse_loss(decoder(latents), pictures)

    training.run(loss_of, steps)
    training.use_averages()
    with torch.inference_mode():
        pictures = pictures_of([seed, 1 << 30], 512)
        error = F.mse_loss(decoder(to_latents(pictures) / LATENT_SCALE), pictures)
    print(f"peak signal-to-noise ratio {10 * float(torch.log10(4 / error)):.1f} dB")
    torch.save(decoder.state_dict(), state / "decoder.pt")


if __name__ == "__main__":
    main()
