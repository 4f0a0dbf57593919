"""Make a model folder from the states of training, with the averaged weights, in half precision.

python -m benchmarks.embedded_model.assemble STATE DECODER_STATE OUT
"""

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UniPCMultistepScheduler

from benchmarks.embedded_model.parts import build_parts
from pipeline.embedded.captions import words
from pipeline.embedded.vocabulary import WORDS_FILE


def main(state: Path, decoder: Path, out: Path) -> None:
    """Write the folder; it may be there already."""
    parts = build_parts()
    reading = torch.load(state / "reading.pt", weights_only=True)
    parts.text_encoder.load_state_dict(reading["text_encoder"])
    saved = torch.load(state / "state.pt", weights_only=True)
    with torch.no_grad():
        for weight, average in zip(parts.unet.parameters(), saved["averages"], strict=True):
            weight.copy_(average)
    parts.vae.decoder.load_state_dict(torch.load(decoder / "decoder.pt", weights_only=True))
    # transformers loads weights as they are stored, diffusers as float32: a text encoder in half
    # precision would not fit the U-Net of a user who names no type.
    for module in (parts.unet, parts.vae):
        module.half()
    optional: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    pipeline = StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        # Of second order: docs/adr/0008 has what it gains over DDIM.
        scheduler=UniPCMultistepScheduler.from_config(parts.scheduler.config),
        requires_safety_checker=False,
        **optional,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
    (out / WORDS_FILE).write_text("".join(f"{word}\n" for word in sorted(words())))
    print(f"{out}: step {saved['step']}")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
