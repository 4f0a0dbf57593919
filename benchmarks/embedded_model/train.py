"""Train the embedded text-to-image model, a stock Stable Diffusion pipeline of 1.48 M weights.

    python -m benchmarks.embedded_model.train --state STATE --out MODEL [--images N]

One thread is enough: OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE. The state folder is written every
five minutes and at the end, and the same command continues from it. `--images` may be changed
between two such runs, but not in the last 30 % of the images, over which the learning rate falls to
zero.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.embedded_model.assemble import assemble, build_parts, to_latents
from benchmarks.embedded_model.augment import jitter_glyphs
from pipeline.embedded import world

BATCH = 64
LEARNING_RATE = 1.5e-3
WARM_UP_STEPS = 200
COOL_DOWN = 0.3
EMA_DECAY = 0.9995
DROP_CAPTION_PROB = 0.1
SAVE_EVERY_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How captions and noise are drawn from a number of training images on.

    The first phase learned colours and strokes but not the digit word: the shape of the ink can be
    told from noise only once both colours are known, and captions seldom name both. So the second
    one names them more often and dwells on the noise levels where the shape is decided; the last
    one returns to captions as they will be.
    """

    from_images: int
    """Training images after which the phase begins."""
    naming_prob: float
    """How often a caption names each attribute other than the digit."""
    log_sigma_mean: float
    """Mean of the logarithm of noise over signal, which is drawn from a normal distribution."""
    log_sigma_std: float


PHASES = (
    Phase(from_images=0, naming_prob=world.NAMING_PROB, log_sigma_mean=-0.2, log_sigma_std=1.5),
    Phase(from_images=240_000, naming_prob=0.7, log_sigma_mean=0.3, log_sigma_std=1.1),
    Phase(
        from_images=560_000, naming_prob=world.NAMING_PROB, log_sigma_mean=0.1, log_sigma_std=1.2
    ),
)


def phase_of(step: int) -> Phase:
    """The phase of a step: the last one that has begun."""
    return [phase for phase in PHASES if phase.from_images <= step * BATCH][-1]


def learning_rate(step: int, total: int) -> float:
    """Learning rate of a step: warm-up, plateau, and linearly to zero over the last `COOL_DOWN`."""
    return LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS, (total - step) / (COOL_DOWN * total))


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--images", default=880_000, show_default=True, help="Training images in all.")
@click.option("--seed", default=0, show_default=True)
def main(state: Path, out: Path, images: int, seed: int) -> None:
    torch.manual_seed(seed)
    parts = build_parts()
    unet, text_encoder = parts.unet.train(), parts.text_encoder.train()
    weights = [*unet.parameters(), *text_encoder.parameters()]
    averages = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    step, seconds = 0, 0.0
    state.mkdir(parents=True, exist_ok=True)
    if (saved := state / "state.pt").exists():
        state_dict = torch.load(saved, weights_only=True)
        step, seconds = state_dict["step"], state_dict["seconds"]
        for weight, value in zip(weights, state_dict["weights"], strict=True):
            weight.data.copy_(value)
        averages = state_dict["averages"]
        optimizer.load_state_dict(state_dict["optimizer"])

    def save() -> None:
        state_dict = {
            "step": step,
            "seconds": seconds,
            "weights": [weight.detach() for weight in weights],
            "averages": averages,
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state_dict, state / "state.tmp")
        os.replace(state / "state.tmp", saved)  # at no time is there half a state
        # The model is written with the averaged weights; training goes on with the others.
        for weight, average in zip(weights, averages, strict=True):
            weight.data, average.data = average.data, weight.data
        assemble(parts, out)
        for weight, average in zip(weights, averages, strict=True):
            weight.data, average.data = average.data, weight.data

    real, pairs = world.glyphs("train"), world.legible_pairs()
    alphas = parts.scheduler.alphas_cumprod.double()
    log_sigmas = (0.5 * ((1 - alphas) / alphas).log()).numpy()
    tokens: dict[str, torch.Tensor] = {}

    def tokenize(caption: str) -> torch.Tensor:
        if caption not in tokens:
            tokens[caption] = parts.tokenizer(
                caption, padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids[0]
        return tokens[caption]

    total = images // BATCH
    mark, recent = time.monotonic(), []
    last_saved = mark
    while step < total:
        # The data of a step is a function of (seed, step), so a resumed run saves no generator.
        rng, phase = np.random.default_rng([seed, step]), phase_of(step)
        rows = rng.integers(len(real.digit), size=BATCH)
        colours = pairs[rng.integers(len(pairs), size=BATCH)]
        ink = jitter_glyphs(rng, real.ink[rows])
        pictures = world.paint(ink, *world.draw_colours(rng, colours))
        captions = [
            world.describe(
                rng,
                digit=int(real.digit[row]),
                stroke=int(real.stroke[row]),
                lean=int(real.lean[row]),
                ink=int(colour[0]),
                ground=int(colour[1]),
                naming_prob=phase.naming_prob,
            ).caption()
            if rng.random() >= DROP_CAPTION_PROB
            else ""  # what guidance is contrasted with
            for row, colour in zip(rows, colours, strict=True)
        ]
        # A noise level is drawn on a log scale, and the nearest noisier time step is taken for it.
        drawn = rng.normal(phase.log_sigma_mean, phase.log_sigma_std, BATCH)
        t = torch.from_numpy(np.searchsorted(log_sigmas, drawn).clip(0, len(log_sigmas) - 1))
        clean = to_latents(pictures)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        noisy = parts.scheduler.add_noise(clean, noise, t)

        encoded = text_encoder(torch.stack([tokenize(caption) for caption in captions]))[0]
        loss = F.mse_loss(unet(noisy, t, encoded).sample, clean)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, total)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        # A short memory at first, so that the average soon forgets the random weights.
        decay = min(EMA_DECAY, (step + 1) / (step + 10))
        torch._foreach_lerp_(averages, [weight.detach() for weight in weights], 1 - decay)
        step += 1

        recent.append(loss.item())
        now = time.monotonic()
        if step % 250 == 0 or step == total:
            seconds, mark = seconds + now - mark, now
            line = {
                "step": step,
                "images": step * BATCH,
                "seconds": round(seconds),
                "loss": round(float(np.mean(recent)), 5),
            }
            recent.clear()
            print(json.dumps(line), flush=True)
            with (state / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            if now - last_saved > SAVE_EVERY_S or step == total:
                save()
                last_saved = time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
