"""`synth train` with SynCLR: to its end, resumed after a crash, and scored."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from synth import main
from tests.picture_sets import make_picture_set
from trainer.config import load_config
from trainer.data.opening import open_source
from trainer.frozen_encoders import open_encoder
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.models.encoder import load_encoder
from trainer.planning import make_plan

pytestmark = pytest.mark.slow

RECIPE = """
[objective]
name = "synclr"
head_hidden = 16
head_out = 8
local_crops = 2
local_size = 0.5
prototypes = 20
patch_hidden = 16
patch_bottleneck = 8
teacher_warmup_steps = 6
momentum = 0.9

[model]
model = "vit_tiny_patch16_224"
input_px = 16

[model.args]
img_size = 16
patch_size = 4
embed_dim = 24
depth = 2
num_heads = 2
dynamic_img_size = true
drop_path_rate = 0.1

[batch]
groups = 6
views_per_group = 3

[optimizer]
lr_per_256 = 0.005
weight_decay = 0.04
final_weight_decay = 0.2

[schedule]
steps = 9

[run]
log_every = 1
checkpoint_every = 4
"""


class CrashError(Exception):
    pass


def test_run_that_crashed_is_resumed_to_the_bit(tmp_path: Path) -> None:
    make_picture_set(tmp_path / "set")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)

    def train_here(run: Path) -> str:
        arguments = ["train", str(tmp_path / "set"), "--out", str(run), "--recipe", str(recipe)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    undisturbed, crashed = tmp_path / "undisturbed", tmp_path / "crashed"
    assert "9 steps of 54 images" in train_here(undisturbed)

    def crash(step: int, values: dict[str, float]) -> None:
        if step == 6:
            raise CrashError

    config = load_config(recipe=recipe, overrides=[], flags={})
    plan = make_plan(config, open_source(str(tmp_path / "set")), world=1)
    with pytest.raises(CrashError):
        train(plan, crashed, device=torch.device("cpu"), on_step=crash)
    train_here(crashed)

    runs = [
        [
            {key: line[key] for key in ("step", "loss", "large", "small", "patches")}
            for line in lines
        ]
        for lines in (read_metrics(undisturbed), read_metrics(crashed))
    ]
    assert [line["step"] for line in runs[0]] == list(range(1, 10))
    assert runs[0] == runs[1]
    weights = [(run / "encoder.safetensors").read_bytes() for run in (undisturbed, crashed)]
    assert weights[0] == weights[1]
    tower, spec = load_encoder(undisturbed)
    images = torch.zeros(1, 3, spec.input_px, spec.input_px, dtype=torch.uint8)
    assert tower(images.float()).shape == (1, 24)

    # The last checkpoint gives what the run exports, which is the teacher.
    addresses = (str(undisturbed), str(undisturbed / "checkpoints" / "step-000000009.pt"))
    with torch.inference_mode():
        run, last = (
            open_encoder(address, device=torch.device("cpu"), seed=None).encode(images)
            for address in addresses
        )
    assert torch.equal(run, last)
