"""The model that is shipped: whole, small, stock, and with a vocabulary that no process changes."""

import json

import pytest
from diffusers import DiffusionPipeline

from benchmarks.embedded_model.parts import build_tokenizer
from pipeline.embedded.captions import words
from pipeline.embedded.vocabulary import WORDS_FILE
from pipeline.models import EMBEDDED_FOLDER, find_model


def test_model_is_below_the_size_that_a_package_can_carry() -> None:
    files = [path for path in EMBEDDED_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12e6


def test_model_knows_the_words_of_the_world() -> None:
    assert set((EMBEDDED_FOLDER / WORDS_FILE).read_text().split()) == words()


def test_vocabulary_is_the_same_in_every_process() -> None:
    """One that is numbered anew would give a text encoder other words than it was taught."""
    shipped = json.loads((EMBEDDED_FOLDER / "tokenizer/tokenizer.json").read_text())["model"]
    tokenizer = build_tokenizer()
    assert tokenizer.get_vocab() == shipped["vocab"]
    for word in words():
        assert len(tokenizer(word).input_ids) == 3, word


@pytest.mark.slow
def test_stock_diffusers_loads_it_and_draws() -> None:
    assert find_model("embedded").index["_class_name"] == "StableDiffusionPipeline"
    pipe = DiffusionPipeline.from_pretrained(EMBEDDED_FOLDER)
    pipe.set_progress_bar_config(disable=True)
    (image,) = pipe("a penguin on blue", num_inference_steps=4, guidance_scale=3.0).images
    assert image.size == (32, 32)
    red, green, blue = image.getpixel((0, 0))
    assert blue > max(red, green) + 40
