"""Train the autoencoder of the embedded latent generator.

    python -m benchmarks.embedded_generator.train_autoencoder --state STATE [--steps N]

Prints the peak signal-to-noise ratio on other pictures of the training artists at the end.
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.embedded_generator.parts import Decoder, Encoder
from benchmarks.embedded_model.train_decoder import pictures_of
from benchmarks.embedded_model.training import Training

BATCH = 64
NOISE = 0.15
"""Standard deviation of noise on codes in training: a flow never meets a code exactly, and what is
decoded beside a code must look like it."""


def train_autoencoder(state: Path, steps: int) -> tuple[Encoder, Decoder]:
    """Encoder and decoder after so many steps in all; goes on from the state, if there is one."""
    torch.manual_seed(0)
    encoder, decoder = (m.to(memory_format=torch.channels_last) for m in (Encoder(), Decoder()))
    training = Training(state, [encoder, decoder], learning_rate=1.5e-3, cool_down=0.5)

    def loss_of(step: int) -> Tensor:
        pictures = pictures_of([31, step], BATCH).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            codes = encoder(pictures)
            noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(step))
            again = decoder(codes + NOISE * noise)
        return F.l1_loss(again.float(), pictures) + F.mse_loss(again.float(), pictures)

    training.run(loss_of, steps)
    training.use_averages()
    return encoder.eval(), decoder.eval()


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--steps", default=9_000, show_default=True)
def main(state: Path, steps: int) -> None:
    torch.set_num_threads(1)
    encoder, decoder = train_autoencoder(state, steps)
    with torch.inference_mode():
        pictures = pictures_of([32, 0], 512)
        error = F.mse_loss(decoder(encoder(pictures)), pictures)
    print(f"peak signal-to-noise ratio {10 * float(torch.log10(4 / error)):.1f} dB")


if __name__ == "__main__":
    main()
