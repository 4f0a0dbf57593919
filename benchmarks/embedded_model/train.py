"""Train the embedded model: first how captions are read, then how pictures are denoised.

    python -m benchmarks.embedded_model.train --state STATE [--images N]

One thread is enough: OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE. The state is written every five
minutes and at the end, and the same command continues from it. `--images` may be changed between
two such runs, but not in the last 40 % of the images, over which the learning rate falls to zero.
`assemble` makes a model of any state. `--start MODEL` begins a new state with weights of such a
model, so that training can go on where only the model was kept. torch.compile needs a C++ compiler.

Text encoder and pooling are taught first, in a minute, to tell concepts and grounds of captions
apart; then the text encoder stays as it is. Learned by denoising alone, captions meant colours.
"""

from pathlib import Path

import click
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel

from benchmarks.embedded_model.parts import NUM_TIMES, Parts, build_parts, to_latents
from benchmarks.embedded_model.train_decoder import to_tensor
from benchmarks.embedded_model.training import Training
from pipeline.embedded.captions import Description, describe
from pipeline.embedded.scenes import GROUNDS, Scenes, draw_scenes, paint
from pipeline.embedded.sprites import TRAINING_FAMILIES, concepts

BATCH = 64
COOL_DOWN = 0.4
DROP_CAPTION_PROB = 0.1
GROUND_PROB = 0.6
LOGIT_TIME_MEAN, LOGIT_TIME_STD = 0.6, 1.2
"""What a picture shows is decided at times above 0.8: later it can be seen through the noise."""
MIN_TIME = 0.15
"""The loss of time t is weighed by 1 / max(t, MIN_TIME)^2."""
CODE_GAIN = 1.5
"""Of the pooled code, so that it is as long as the time embedding that it is added to."""
CONCEPT_SHARE = 0.85
"""Length of the part of a code that is the concept's; the whole is 1."""
READING_STEPS, READING_BATCH = 1000, 256


def captions_of(rng: np.random.Generator, scenes: Scenes) -> tuple[list[str], Tensor]:
    """A caption of each scene, and which ground it names: their number where it names none."""
    said = [
        describe(rng, concept, ground, ground_prob=GROUND_PROB)
        for concept, ground in zip(scenes.concept.tolist(), scenes.ground.tolist(), strict=True)
    ]
    grounds = [len(GROUNDS) if each.ground is None else each.ground for each in said]
    return [each.caption() for each in said], torch.tensor(grounds)


class Reader:
    """Tokens of captions, remembered."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.tokens: dict[str, Tensor] = {}
        self.codes: dict[str, Tensor] = {}

    def tokenize(self, captions: list[str]) -> Tensor:
        """Token ids, [captions, tokens]."""
        for caption in set(captions) - self.tokens.keys():
            ids = self.parts.tokenizer(
                caption, padding="max_length", truncation=True, return_tensors="pt"
            )
            self.tokens[caption] = ids.input_ids[0]
        return torch.stack([self.tokens[caption] for caption in captions])

    @torch.no_grad()
    def encode(self, captions: list[str]) -> Tensor:
        """Codes of a text encoder that is trained no more, [captions, tokens, width]."""
        missing = sorted(set(captions) - self.codes.keys())
        if missing:
            encoded = self.parts.text_encoder(self.tokenize(missing))[0]
            self.codes.update(zip(missing, encoded.half(), strict=True))
        return torch.stack([self.codes[caption] for caption in captions]).float()


def teach_reading(parts: Parts, reader: Reader, seed: int) -> None:
    """Teach text encoder and pooling to give each caption the code of what it says.

    The code is a random vector of the concept plus one of the ground, so that concepts are as far
    from each other as can be. Classification alone was content with small differences between
    concepts, and the U-Net did not notice them.
    """
    pooling = parts.unet.add_embedding
    width = pooling.norm2.normalized_shape[0]
    generator = torch.Generator().manual_seed(seed)
    of_concept = torch.randn(len(concepts()), width, generator=generator)
    of_ground = torch.randn(len(GROUNDS) + 1, width, generator=generator)
    weights = [*parts.text_encoder.parameters(), *pooling.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=READING_STEPS)
    for step in range(READING_STEPS):
        rng = np.random.default_rng([seed, step, 2])
        scenes = draw_scenes(rng, READING_BATCH, num_families=1, with_held_out=False)
        captions, grounds = captions_of(rng, scenes)
        target = CONCEPT_SHARE * of_concept[torch.from_numpy(scenes.concept)]
        target += (1 - CONCEPT_SHARE**2) ** 0.5 * of_ground[grounds]
        target = F.layer_norm(target, (width,))
        code = pooling(parts.text_encoder(reader.tokenize(captions))[0])
        loss = F.mse_loss(code, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(f"reading: step {step + 1}, error {loss.item():.3f} of 1", flush=True)
    with torch.no_grad():
        pooling.norm2.weight.mul_(CODE_GAIN)
        pooling.norm2.bias.mul_(CODE_GAIN)


def begin_with(parts: Parts, model: Path) -> None:
    """Take the weights of a model folder; the time of the optimizer begins anew."""
    text_encoder = CLIPTextModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.float32)
    parts.text_encoder.load_state_dict(text_encoder.state_dict())
    parts.unet.load_state_dict(unet.state_dict())


class Denoising:
    """The loss of the U-Net on the pictures of a step."""

    def __init__(self, parts: Parts, reader: Reader, seed: int) -> None:
        self.parts, self.reader, self.seed = parts, reader, seed
        # Plain attention: the fused one is slow backwards on a CPU.
        parts.unet.set_attn_processor(AttnProcessor())
        self.unet = torch.compile(parts.unet)

    def __call__(self, step: int) -> Tensor:
        # The data of a step is a function of (seed, step), so a state holds no generator.
        rng = np.random.default_rng([self.seed, step])
        scenes = draw_scenes(rng, BATCH, num_families=3, with_held_out=False)
        clean = to_latents(to_tensor(paint(rng, scenes, TRAINING_FAMILIES)))
        captions, _ = captions_of(rng, scenes)
        # The empty caption is what guidance is contrasted with.
        captions = [each if rng.random() >= DROP_CAPTION_PROB else "" for each in captions]
        logits = rng.normal(LOGIT_TIME_MEAN, LOGIT_TIME_STD, BATCH)
        times = 1 / (1 + np.exp(-logits))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        return self.loss(clean, captions, times, noise)

    def loss(self, clean: Tensor, captions: list[str], times: np.ndarray, noise: Tensor) -> Tensor:
        """Weighed squared error of the pictures that the U-Net sees in the noise."""
        index = np.rint(times * (NUM_TIMES + 1) - 1).clip(0, NUM_TIMES - 1).astype(np.int64)
        indices = torch.from_numpy(index)
        noisy = self.parts.scheduler.add_noise(clean, noise, indices)
        noisy = noisy.to(memory_format=torch.channels_last)
        codes = self.reader.encode(captions)
        with torch.autocast("cpu", torch.bfloat16):
            seen = self.unet(noisy, indices, codes).sample.float()
        weight = torch.from_numpy(1 / np.maximum(times, MIN_TIME) ** 2).float()
        return ((seen - clean).square().mean(dim=(1, 2, 3)) * weight).mean()

    @torch.no_grad()
    def advantage(self, batches: int = 4) -> str:
        """The loss of right captions, of wrong concepts and of wrong grounds, by time."""
        rng = np.random.default_rng([self.seed, 1 << 31])
        scenes = draw_scenes(rng, batches * BATCH, num_families=3, with_held_out=False)
        clean = to_latents(to_tensor(paint(rng, scenes, TRAINING_FAMILIES)))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        right, concept, ground = (
            [
                Description(concept=int(c), name=concepts()[c].name, ground=int(g)).caption()
                for c, g in zip(np.roll(scenes.concept, a), np.roll(scenes.ground, b), strict=True)
            ]
            for a, b in ((0, 0), (1, 0), (0, 1))
        )
        lines = []
        for time in (0.95, 0.85, 0.7):
            losses = [
                self._mean_loss(clean, said, time, noise) for said in (right, concept, ground)
            ]
            lines.append("t {}: {:.4f} {:.4f} {:.4f}".format(time, *losses))
        return "; ".join(lines)

    def _mean_loss(self, clean: Tensor, captions: list[str], time: float, noise: Tensor) -> float:
        times = np.full(BATCH, time)
        batches = [slice(first, first + BATCH) for first in range(0, len(captions), BATCH)]
        losses = [self.loss(clean[b], captions[b], times, noise[b]) for b in batches]
        return float(torch.stack(losses).mean())


@click.command(help=__doc__)
@click.option("--state", type=click.Path(path_type=Path), required=True)
@click.option("--images", default=600_000, show_default=True, help="Training images in all.")
@click.option("--start", type=click.Path(path_type=Path, exists=True), help="Model to begin with.")
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(state: Path, images: int, start: Path | None, learning_rate: float, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    parts = build_parts()
    reader = Reader(parts)
    reading = state / "reading.pt"
    if reading.exists():
        saved = torch.load(reading, weights_only=True)
        parts.text_encoder.load_state_dict(saved["text_encoder"])
        parts.unet.add_embedding.load_state_dict(saved["pooling"])
    else:
        state.mkdir(parents=True, exist_ok=True)
        if start is None:
            teach_reading(parts, reader, seed)
        else:
            begin_with(parts, start)
        torch.save(
            {
                "text_encoder": parts.text_encoder.state_dict(),
                "pooling": parts.unet.add_embedding.state_dict(),
            },
            reading,
        )
    parts.text_encoder.requires_grad_(False).eval()
    parts.unet.train().to(memory_format=torch.channels_last)
    training = Training(
        state, [parts.unet], learning_rate=learning_rate, cool_down=COOL_DOWN, ema_decay=0.9995
    )
    denoising = Denoising(parts, reader, seed)

    def loss_of(step: int) -> Tensor:
        if step % 400 == 0:
            print(f"images {step * BATCH}: {denoising.advantage()}", flush=True)
        return denoising(step)

    training.run(loss_of, images // BATCH)


if __name__ == "__main__":
    main()
