"""The text half of a run comes back as it was, or is refused in one line."""

import json
from pathlib import Path

import pytest
import torch

from tests.sets import refused
from trainer.errors import CheckpointError
from trainer.models.specs import TextSpec
from trainer.models.text import SPEC, WEIGHTS, ImageText, load_text, save_text

TEXTS = ["a red fox", "a blue door"]


@pytest.fixture
def text(tmp_path: Path) -> ImageText:
    torch.manual_seed(0)
    spec = TextSpec(context_length=16, width=8, heads=1, layers=1, embed_dim=8)
    text = ImageText(spec, num_features=4).eval()
    save_text(tmp_path, text)
    return text


def test_text_half_comes_back_bit_for_bit(text: ImageText, tmp_path: Path) -> None:
    loaded = load_text(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.embed_texts(TEXTS), text.embed_texts(TEXTS))


def test_a_run_without_texts_has_none(tmp_path: Path) -> None:
    assert load_text(tmp_path) is None


def test_a_flipped_bit_in_the_weights_is_refused(text: ImageText, tmp_path: Path) -> None:
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    with refused(CheckpointError, f"{tmp_path / WEIGHTS}: its SHA-256 is not the one in {SPEC}"):
        load_text(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        *("{}", "[]", '{"spec": null}', "x" * (1 << 21), '{"a":' * 100_000),
        '{"num_features": -3, "sha256": ""}',
    ],
)
def test_a_hostile_description_is_refused_in_one_line(
    text: ImageText, tmp_path: Path, change: str
) -> None:
    file = tmp_path / SPEC
    document = json.loads(file.read_text())
    is_part = change.startswith('{"num')
    file.write_text(json.dumps(document | json.loads(change)) if is_part else change)
    with refused(CheckpointError, f"{file}: not the text half of a run"):
        load_text(tmp_path)
