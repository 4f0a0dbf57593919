"""SynCLR against its equations, in float64."""

import math
from math import cos, pi
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from tests.sets import refused
from trainer.learner import Learner
from trainer.models.masked_patches import choose_masks
from trainer.objective_settings.synclr import SynclrConfig
from trainer.objectives.synclr import Synclr
from trainer.testing.objectives import NUM_VIEWS, PATCHES, make_batch, make_learner

SMALL = {
    "head_hidden": 12,
    "head_out": 8,
    "local_crops": 2,
    "local_size": 0.5,
    "prototypes": 10,
    "patch_hidden": 12,
    "patch_bottleneck": 6,
}


def learner_of(**settings: Any) -> tuple[Learner, Synclr]:
    """A learner whose teacher is not the student."""
    learner = make_learner("synclr", SMALL | settings, PATCHES)
    objective = learner.objective
    assert isinstance(objective, Synclr)
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.mul_(1.1)
    return learner, objective


def outputs_of(**modules: nn.Module) -> dict[str, list[Tensor]]:
    """What the modules give from now on, in float64, by name."""
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen[name].append(output.detach().double())
        )
    return seen


def contrast(
    anchors: Tensor, candidates: Tensor, ids: list[int], candidate_ids: list[int], has_self: bool
) -> float:
    """Equations 1 to 3 at a temperature of 0.08, one anchor at a time."""
    anchors, candidates = (nn.functional.normalize(rows, dim=1) for rows in (anchors, candidates))
    total = 0.0
    for row, anchor in enumerate(anchors):
        others = [k for k in range(len(candidates)) if not has_self or k != row]
        weights = {k: math.exp(float(anchor @ candidates[k]) / 0.08) for k in others}
        positives = [k for k in others if candidate_ids[k] == ids[row]]
        logs = [math.log(weights[k] / sum(weights.values())) for k in positives]
        total -= sum(logs) / len(positives)
    return total / len(anchors)


def patch_loss(
    tokens: Tensor, directions: Tensor, targets: Tensor, target_directions: Tensor
) -> float:
    """Sinkhorn's targets by three rounds on the matrix, then the mean cross-entropy."""
    matrix = torch.exp(target_directions @ targets.T / 0.04)
    for _ in range(3):
        matrix = matrix / matrix.sum(1, keepdim=True)
        matrix = matrix / matrix.sum(0, keepdim=True)
    total = 0.0
    for token, shares in zip(tokens, matrix.T, strict=True):
        weights = [math.exp(float(token @ direction) / 0.1) for direction in directions]
        logs = [math.log(weight / sum(weights)) for weight in weights]
        total -= sum(float(share) * log for share, log in zip(shares, logs, strict=True))
    return total / len(tokens)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0)])
def test_loss_is_that_of_the_equations(weights: tuple[float, float]) -> None:
    learner, objective = learner_of(local_weight=weights[0], patch_weight=weights[1])
    teacher = objective.teacher
    assert objective.patch_head is not None
    assert teacher.patch_head is not None
    seen = outputs_of(
        student=objective.predictor,
        teacher=teacher.projector,
        tokens=objective.patch_head,
        targets=teacher.patch_head,
    )
    batch = make_batch(learner)
    terms = learner(batch)

    # The masked crops come first in both towers.
    draws = torch.cat([batch.boxes[0], torch.from_numpy(batch.colours[0])], dim=1)
    ids = batch.ids.repeat_interleave(NUM_VIEWS)
    masks = choose_masks(
        draws, ids, per_group=NUM_VIEWS, num_patches=16, crop_part=0.5, patch_part=0.5
    )
    large_ids = ids[masks.order].tolist()
    small_ids = batch.ids.repeat_interleave(NUM_VIEWS * 2).tolist()
    (targets,) = seen["teacher"]
    large, small = seen["student"]
    expected = {
        "large": contrast(large, targets, large_ids, large_ids, True),
        "small": contrast(small, targets, small_ids, large_ids, False),
        "patches": patch_loss(
            seen["tokens"][0],
            objective.patch_head.directions().detach().double(),
            seen["targets"][0],
            teacher.patch_head.directions().double(),
        ),
    }
    assert {name: part.item() for name, part in terms.parts.items()} == pytest.approx(
        expected, abs=2e-5
    )
    total = expected["large"] + weights[0] * expected["small"] + weights[1] * expected["patches"]
    assert terms.total.item() == pytest.approx(total, abs=1e-4)


def test_teacher_sees_large_crops_whole_and_no_small_ones() -> None:
    learner, objective = learner_of()
    towers = learner.encoder, objective.teacher.tower
    student, teacher = (outputs_of(tower=tower.pos_drop)["tower"] for tower in towers)
    with torch.no_grad():  # the same tower, to tell what differs
        for mine, theirs in zip(*(tower.parameters() for tower in towers), strict=True):
            theirs.copy_(mine)
        objective.mask_token.fill_(7.0)
    learner(make_batch(learner))
    # Masked large crops, the others, and from the student alone small ones; with a class token.
    assert [tuple(tokens.shape) for tokens in teacher] == [(12, 17, 24), (12, 17, 24)]
    assert [tuple(tokens.shape) for tokens in student[:2]] == [(12, 17, 24), (12, 17, 24)]
    assert [tuple(tokens.shape) for tokens in student[2:]] == [(48, 5, 24)]
    hidden = ((student[0] - learner.encoder.pos_embed.detach().double()) - 7).abs().amax(-1) < 1e-5
    assert hidden[:, 1:].sum(1).tolist() == [8] * 12
    assert bool(((student[0] - teacher[0]).abs().amax(-1) > 1)[hidden].all())
    torch.testing.assert_close(student[0][~hidden], teacher[0][~hidden])
    torch.testing.assert_close(student[1], teacher[1])


@pytest.mark.parametrize("step", [0, 30, 99])
def test_teacher_follows_with_the_momentum_of_the_paper(step: int) -> None:
    learner, objective = learner_of()
    before = [p.clone().double() for p in objective.teacher.parameters()]
    assert objective.patch_head is not None
    with torch.no_grad():
        for module in (learner.encoder, objective.projector, objective.patch_head):
            for parameter in module.parameters():
                parameter.copy_(parameter * 1.1 + 1.0)
    learner.after_step(step, 100)
    part = 1 - (1 - 0.994) * (cos(pi * step / 100) + 1) / 2
    students = (
        *learner.encoder.parameters(),
        *objective.projector.parameters(),
        *objective.patch_head.parameters(),
    )
    for old, student, new in zip(before, students, objective.teacher.parameters(), strict=True):
        expected = part * old + (1 - part) * student.detach().double()
        torch.testing.assert_close(new.double(), expected, atol=1e-6, rtol=0)


def test_temperature_of_the_teacher_rises_for_4000_steps() -> None:
    learner, objective = learner_of()
    assert objective.teacher_temperature.item() == pytest.approx(0.04)
    for step, expected in ((1999, 0.055), (3999, 0.07), (9000, 0.07)):
        learner.after_step(step, 500_000)
        assert objective.teacher_temperature.item() == pytest.approx(expected)
    _, constant = learner_of(teacher_warmup_steps=0)
    assert constant.teacher_temperature.item() == pytest.approx(0.07)


def test_teacher_is_given_no_gradient_and_drops_no_path() -> None:
    arguments = PATCHES["args"] | {"drop_path_rate": 0.5}
    learner = make_learner("synclr", SMALL, PATCHES | {"args": arguments})
    learner(make_batch(learner)).total.backward()
    teacher = learner.objective.teacher  # type: ignore[attr-defined]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert learner.encoder.training
    assert not any(module.training for module in teacher.modules())


def test_run_keeps_the_teacher_or_if_asked_the_student() -> None:
    learner, objective = learner_of()
    assert learner.exports()["image"] is objective.teacher.tower
    learner, _ = learner_of(exported="student")
    assert learner.exports()["image"] is learner.encoder


def test_half_precision_of_the_towers_moves_the_loss_little() -> None:
    learner, _ = learner_of()
    batch = make_batch(learner)
    expected = {name: part.item() for name, part in learner(batch).parts.items()}
    learner._dtype = torch.bfloat16
    terms = learner(batch)
    assert terms.total.dtype == torch.float32
    assert {n: part.item() for n, part in terms.parts.items()} == pytest.approx(expected, rel=0.02)
    terms.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())


def test_parts_that_are_switched_off_take_no_crops_and_no_parameters() -> None:
    learner, objective = learner_of(local_crops=0, patch_weight=0.0)
    assert learner.arrangement.crops_per_view == 1
    assert learner.arrangement.reads == frozenset()
    names = {name.partition(".")[0] for name, _ in objective.named_parameters()}
    assert names == {"projector", "predictor", "teacher"}
    terms = learner(make_batch(learner))
    assert set(terms.parts) == {"large"}


@pytest.mark.parametrize(
    ("tower", "parts"),
    [
        ({"model": "resnet18", "input_px": 32}, ("ResNet has batch norms", "such as a vit")),
        (
            {"model": "mixer_s32_224", "input_px": 224},
            ("MlpMixer has no patches", "objective.patch_weight=0"),
        ),
        (
            PATCHES | {"args": PATCHES["args"] | {"dynamic_img_size": False}},
            ("does not take 8 px images",),
        ),
    ],
    ids=("batch norms", "no patches", "one size"),
)
def test_tower_that_cannot_do_it_is_refused(tower: dict[str, Any], parts: tuple[str, ...]) -> None:
    with refused(ConfigError, *parts):
        make_learner("synclr", SMALL, tower)


def test_defaults_are_those_of_the_paper() -> None:
    config = SynclrConfig()
    assert (config.temperature, config.momentum, config.prototypes) == (0.08, 0.994, 65_536)
    assert (config.masked_crops, config.masked_patches) == (0.5, 0.5)
    assert (config.teacher_temperature, config.teacher_warmup_steps) == ((0.04, 0.07), 4000)
    large, small = Synclr.arrangement(config).crops
    assert (large.count, large.side_px(224), small.count, small.side_px(224)) == (1, 224, 4, 96)
