"""One precision for products and convolutions, in training and in evaluation."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.picture_sets import make_picture_set
from trainer.config import Precision, load_config
from trainer.data.opening import open_source
from trainer.devices import best_precision
from trainer.frozen_encoders import FrozenEncoder, open_encoder
from trainer.loop import train
from trainer.planning import make_plan

CPU = torch.device("cpu")
WAYS: list[tuple[Precision, tuple[bool, str]]] = [
    ("fp32", (False, "highest")),
    ("tf32", (True, "high")),
    ("bf16", (False, "highest")),
]


def switches() -> tuple[bool, str]:
    """Whether torch takes TF32 for convolutions, and what it takes for products."""
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


class Product:
    """An encoder of somebody else, which notes how it computes."""

    draws_weights = False
    seen: tuple[bool, str] | None = None

    @staticmethod
    def check(place: str) -> None:
        pass

    @staticmethod
    def open(place: str, *, name: str, device: torch.device, seed: int) -> FrozenEncoder:
        def encode(images: Tensor) -> Tensor:
            Product.seen = switches()
            pixels = images.float().flatten(1)
            return pixels @ pixels.new_full((pixels.shape[1], 2), 0.3)

        return FrozenEncoder(name=name, encode=encode, input_px=8, facts={"name": name})


def test_the_best_precision_of_a_gpu_is_bf16() -> None:
    assert best_precision("cpu") == best_precision("mps") == "fp32"
    if not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False):
        assert best_precision("cuda") == "bf16"


@pytest.mark.parametrize(("precision", "expected"), WAYS)
def test_an_encoder_computes_in_the_precision_that_is_asked(
    precision: Precision, expected: tuple[bool, str]
) -> None:
    before = switches()
    encoder = open_encoder(f"{__name__}:Product:x", device=CPU, seed=None, precision=precision)
    values = encoder.encode(torch.full((3, 3, 8, 8), 7, dtype=torch.uint8))
    assert Product.seen == expected
    assert switches() == before
    assert values.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert encoder.facts.get("precision", "fp32") == precision


@pytest.mark.parametrize(("precision", "expected"), WAYS)
def test_a_training_computes_in_the_precision_of_its_recipe(
    precision: Precision, expected: tuple[bool, str], tmp_path: Path
) -> None:
    make_picture_set(tmp_path / "set")
    flags = {
        "model.model": "synth_small_conv",
        "model.input_px": 16,
        "objective.head_hidden": 8,
        "objective.head_out": 4,
        "batch.groups": 4,
        "schedule.steps": 1,
        "run.precision": precision,
    }
    config = load_config(recipe=None, overrides=[], flags=flags)
    plan = make_plan(config, open_source(str(tmp_path / "set")), world=1)
    before, seen = switches(), []
    train(plan, tmp_path / "run", device=CPU, on_step=lambda step, values: seen.append(switches()))
    assert seen == [expected]
    assert switches() == before
