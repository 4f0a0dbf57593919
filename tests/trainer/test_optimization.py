"""The schedule of the paper, and which parameters decay."""

import pytest
import timm
import torch

from trainer.config import OptimizerTable
from trainer.optimization import learning_rate, make_optimizer, set_weight_decay, weight_decay


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.5), (110, 0.0), (200, 0.0)]
)
def test_rate_rises_in_a_line_and_falls_in_half_a_cosine(step: int, expected: float) -> None:
    rate = learning_rate(step, peak=1.0, warmup_steps=10, num_steps=110)
    assert rate == pytest.approx(expected, abs=1e-12)


def test_rate_ends_at_a_part_of_the_peak() -> None:
    rates = [
        learning_rate(step, peak=2.0, warmup_steps=0, num_steps=10, final=0.1)
        for step in (0, 5, 10)
    ]
    assert rates == pytest.approx([2.0, 1.1, 0.2])


def test_sgd_is_that_of_the_papers_with_contrast() -> None:
    """Momentum and decay of everything, as one step of torch's own optimizer takes it."""
    ours, theirs = (torch.nn.Linear(3, 2) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    table = OptimizerTable(name="sgd", momentum=0.8, weight_decay=0.1, decay_all=True)
    optimizer = make_optimizer(ours.parameters(), table)
    reference = torch.optim.SGD(theirs.parameters(), lr=0.5, momentum=0.8, weight_decay=0.1)
    for step in range(3):
        for model, stepper in ((ours, optimizer), (theirs, reference)):
            stepper.zero_grad()
            model(torch.ones(1, 3) * (step + 1)).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.5
        optimizer.step()
        reference.step()
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, their)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "sgd", "betas": (0.9, 0.99)}, "betas is given, and sgd does not use it"),
        ({"momentum": 0.5}, "momentum is given, and adamw does not use it"),
    ],
)
def test_a_key_that_the_optimizer_would_ignore_is_refused(
    keys: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        OptimizerTable.model_validate(keys)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.04), (50, 0.12), (100, 0.2)])
def test_decay_grows_on_half_a_cosine(step: int, expected: float) -> None:
    """The schedule of SynCLR."""
    table = OptimizerTable(weight_decay=0.04, final_weight_decay=0.2)
    assert weight_decay(step, table, num_steps=100) == pytest.approx(expected)
    assert weight_decay(step, OptimizerTable(weight_decay=0.3), num_steps=100) == 0.3


@pytest.mark.parametrize("decay_all", [False, True])
def test_decay_is_set_where_parameters_decay(decay_all: bool) -> None:
    optimizer = make_optimizer(
        torch.nn.Linear(3, 2).parameters(), OptimizerTable(decay_all=decay_all)
    )
    set_weight_decay(optimizer, 0.7)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [
        0.7,
        0.7 if decay_all else 0.0,
    ]


def test_rate_without_warm_up_begins_at_the_peak() -> None:
    assert learning_rate(0, peak=3.0, warmup_steps=0, num_steps=10) == 3.0


def test_rate_never_falls_during_warm_up_nor_rises_after() -> None:
    rates = [learning_rate(step, peak=2.0, warmup_steps=7, num_steps=50) for step in range(50)]
    assert rates[:8] == sorted(rates[:8])
    assert rates[7:] == sorted(rates[7:], reverse=True)


def test_biases_norms_and_scalars_do_not_decay_and_the_position_embedding_does() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
    optimizer = make_optimizer(model.parameters(), OptimizerTable(weight_decay=0.3))
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    names = {name: id(parameter) in decayed for name, parameter in model.named_parameters()}
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert optimizer.param_groups[1]["weight_decay"] == 0.0
    assert names["pos_embed"]
    assert names["cls_token"]
    assert names["blocks.0.attn.qkv.weight"]
    assert not names["blocks.0.attn.qkv.bias"]
    assert not names["norm.weight"]
    assert not names["scale"]
    assert len(names) == sum(len(group["params"]) for group in optimizer.param_groups)
