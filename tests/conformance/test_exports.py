"""The laws of exports, for every entry of the table; the stock loaders import none of our code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, TextTransformer
from safetensors.torch import load_file
from torch import Tensor, nn

from trainer.exports import EXPORTS, Origin, export_class
from trainer.models.encoder import EncoderSpec, build_encoder
from trainer.models.text import ImageText, TextSpec

ARGS = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2}
SPEC = EncoderSpec(model="vit_tiny_patch16_224", args=ARGS, input_px=16)
TEXT = TextSpec(context_length=12, width=16, heads=2, layers=1, embed_dim=8)
ORIGIN = Origin(objective="stablerep", steps=3, url="s3://sets/one", root_sha256="0" * 64)
TEXTS = ["a red fox", "two pears"]


def tower() -> nn.Module:
    return build_encoder(SPEC).eval()


def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def by_timm(folder: Path) -> Tensor:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **ARGS)
    model.load_state_dict(load_file(folder / "encoder.safetensors"), strict=True)
    features: Tensor = model.eval()(images())
    return features


def by_open_clip(folder: Path) -> Tensor:
    tokenizer = SimpleTokenizer(context_length=12)
    text = TextTransformer(
        context_length=12,
        vocab_size=tokenizer.vocab_size,
        width=16,
        heads=2,
        layers=1,
        output_dim=8,
        act_layer=QuickGELU,
    )
    tensors = load_file(folder / "text.safetensors")
    prefix = "text."
    weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    text.load_state_dict(weights, strict=True)
    return nn.functional.normalize(text.eval()(tokenizer(TEXTS)), dim=-1)


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Tensor], Callable[[Path], Tensor]]] = {
    "timm": (tower, lambda module: module(images()), by_timm),
    "text": (
        lambda: ImageText(TEXT, 24).eval(),
        lambda module: module.embed_texts(TEXTS),
        by_open_clip,
    ),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_stock_loader_gives_equal_features(name: str, tmp_path: Path) -> None:
    make, features, stock = CASES[name]
    torch.manual_seed(0)
    module = make()
    export_class(name)().write(tmp_path, module, SPEC, ORIGIN)
    with torch.no_grad():
        torch.testing.assert_close(stock(tmp_path), features(module), atol=0, rtol=0)


@pytest.mark.parametrize("name", EXPORTS)
def test_it_writes_the_files_that_it_declares_with_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    module = CASES[name][0]()
    contents = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        export_class(name)().write(folder, module, SPEC, ORIGIN)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == set(export_class(name).files)


def test_every_export_of_the_table_is_tested() -> None:
    assert set(CASES) == set(EXPORTS)
