"""Train the embedded latent generator, and write it as a graph of torch.export.

    python -m benchmarks.embedded_generator.train --state STATE --out FOLDER [--steps N]

STATE holds the folder `autoencoder` of `train_autoencoder`. Codes of pictures by the training
artists are made once; the flow learns them, of each thing and, for a part of the steps, of all
things together. FOLDER then holds generator.pt2, whose weights are half as wide as they were
trained, and what it is in generator.json.
"""

import json
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.embedded_generator.parts import CODE, Decoder, Encoder, Field, Generator
from benchmarks.embedded_generator.train_autoencoder import train_autoencoder
from benchmarks.embedded_model.train_decoder import to_tensor
from benchmarks.embedded_model.training import Training
from pipeline.embedded.scenes import draw_scenes, paint
from pipeline.embedded.sprites import TRAINING_FAMILIES, concepts

BATCH, PART = 1024, 500
DROP_CLASS_PROB = 0.3
"""Of codes that are learned as if of any thing: their class is the last one."""


@torch.inference_mode()
def make_codes(path: Path, encoder: Encoder, count: int) -> tuple[Tensor, Tensor]:
    """Codes [count, CODE] and concepts [count] of new pictures, kept in a file."""
    if path.exists():
        saved = torch.load(path, weights_only=True)
        return saved["codes"].float(), saved["classes"]
    codes, classes = [], []
    for part in range(count // PART):
        rng = np.random.default_rng([33, part])
        scenes = draw_scenes(rng, PART, num_families=len(TRAINING_FAMILIES), with_held_out=False)
        pictures = to_tensor(paint(rng, scenes, TRAINING_FAMILIES))
        codes.append(encoder(pictures.to(memory_format=torch.channels_last)))
        classes.append(torch.from_numpy(scenes.concept))
    saved = {"codes": torch.cat(codes).half(), "classes": torch.cat(classes)}
    torch.save(saved, path)
    return saved["codes"].float(), saved["classes"]


def train_field(state: Path, codes: Tensor, classes: Tensor, steps: int) -> Field:
    """The flow after so many steps in all; goes on from the state, if there is one."""
    torch.manual_seed(1)
    field = Field(len(concepts()) + 1)
    training = Training(state, [field], learning_rate=1e-3, cool_down=0.5)

    def loss_of(step: int) -> Tensor:
        rng = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(codes), (BATCH,), generator=rng)
        code, of = codes[chosen], classes[chosen]
        of = of.where(torch.rand(BATCH, generator=rng) > DROP_CLASS_PROB, len(concepts()))
        z = torch.randn(BATCH, CODE, generator=rng)
        # Times around the middle are the hard ones: Esser et al., arXiv:2403.03206, section 3.1.
        time = torch.randn(BATCH, 1, generator=rng).sigmoid()
        with torch.autocast("cpu", torch.bfloat16):
            velocity = field(torch.lerp(z, code, time), time, of)
        return F.mse_loss(velocity.float(), code - z)

    training.run(loss_of, steps)
    training.use_averages()
    return field.eval()


def export(folder: Path, field: Field, decoder: Decoder) -> None:
    """Write the generator with a free batch size, its weights as 16-bit floats."""
    generator = Generator(field, decoder.to(memory_format=torch.contiguous_format), len(concepts()))
    folder.mkdir(parents=True, exist_ok=True)
    batch = torch.export.Dim("batch", min=1, max=4096)
    graph = torch.export.export(
        Halved(generator).eval(),
        (torch.zeros(2, CODE), torch.zeros(2, dtype=torch.int64)),
        dynamic_shapes=({0: batch}, {0: batch}),
    )
    torch.export.save(graph, folder / "generator.pt2")
    names = [*(concept.name for concept in concepts()), "anything"]
    about = {"latent_dim": CODE, "classes": names, "no_class": len(concepts())}
    about |= {"size_px": 32, "values": "-1 to 1"}
    (folder / "generator.json").write_text(json.dumps(about, indent=1) + "\n")


class Halved(nn.Module):
    """A module whose weights are kept as 16-bit floats and computed with as 32-bit ones."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = [name for name, _ in module.named_parameters()]
        self.halves = nn.ParameterList(
            nn.Parameter(value.detach().half(), requires_grad=False)
            for _, value in module.named_parameters()
        )
        self.module = [module]  # in a list, so that its own weights are not kept as well

    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        weights = {n: half.float() for n, half in zip(self.names, self.halves, strict=True)}
        return torch.func.functional_call(self.module[0], weights, (z, classes))


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--codes", default=200_000, show_default=True)
@click.option("--steps", default=15_000, show_default=True)
def main(state: Path, out: Path, codes: int, steps: int) -> None:
    torch.set_num_threads(1)
    encoder, decoder = train_autoencoder(state / "autoencoder", 0)
    known, classes = make_codes(state / "codes.pt", encoder, codes)
    export(out, train_field(state / "field", known, classes, steps), decoder)


if __name__ == "__main__":
    main()
