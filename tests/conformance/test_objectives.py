"""The laws of objectives, for every entry of the table.

Two ranks are two real processes over gloo; both run every objective in one start.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.ranks import run_ranks
from trainer.data.crops import COLOUR_FIELDS
from trainer.learner import Learner
from trainer.models.encoder import EncoderSpec
from trainer.objectives import OBJECTIVES, Groups, objective_class

GROUPS, VIEWS = 6, 4
SPEC = EncoderSpec(model="synth_small_conv", args={"widths": (4, 6)}, input_px=16)
TEXT = {"context_length": 12, "width": 16, "heads": 2, "layers": 1, "embed_dim": 8}


def learner(name: str) -> Learner:
    """A small one, with the same weights in every process."""
    torch.manual_seed(0)
    objective = objective_class(name)
    values: dict[str, Any] = {"name": name}
    for key, value in {"head_hidden": 12, "head_out": 8, "text": TEXT}.items():
        if key in objective.Config.model_fields:
            values[key] = value
    return Learner(SPEC, objective, objective.Config(**values), None).train()


def rows_per_group(name: str) -> int:
    arrangement = objective_class(name).arrangement
    return 2 if arrangement.splits_groups else VIEWS


def batch(name: str) -> tuple[Tensor, Tensor, Groups]:
    """The whole batch. Group 0 was drawn twice."""
    count = rows_per_group(name)
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (GROUPS * count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    plain = [float(field in ("brightness", "contrast", "saturation")) for field in COLOUR_FIELDS]
    ids = torch.tensor([11, 5, 8, 11, 2, 7])
    captions = [f"thing {each}" for each in ids.tolist()]
    groups = Groups(ids=ids, rows_per_group=count, captions=captions)
    return images, torch.tensor([plain] * len(images)), groups


def part(name: str, rank: int, world: int) -> tuple[Tensor, Tensor, Groups]:
    images, colours, groups = batch(name)
    each = GROUPS // world
    rows = slice(rank * each * groups.rows_per_group, (rank + 1) * each * groups.rows_per_group)
    mine = slice(rank * each, (rank + 1) * each)
    return (
        images[rows],
        colours[rows],
        Groups(
            ids=groups.ids[mine],
            rows_per_group=groups.rows_per_group,
            captions=groups.captions[mine],
        ),
    )


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


def one_process(name: str) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    alone = learner(name)
    terms = alone(*batch(name))
    terms.total.backward()
    return terms.total.item(), gradients(alone), dict(alone.named_buffers())


def in_ranks(rank: int, world: int, folder: str) -> None:
    """What each of the processes does; averages are taken as DistributedDataParallel does."""
    from torch.nn.parallel import DistributedDataParallel

    for name in OBJECTIVES:
        mine = learner(name)
        module = DistributedDataParallel(mine, broadcast_buffers=False)
        terms = module(*part(name, rank, world))
        terms.total.backward()
        result = (terms.total.detach(), gradients(mine), dict(mine.named_buffers()))
        torch.save(result, Path(folder) / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(in_ranks, 2, str(folder), scratch=folder)
    return folder


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_equal_one_process(name: str, two_ranks: Path) -> None:
    loss, grads, buffers = one_process(name)
    found = [torch.load(two_ranks / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]
    assert sum(float(each[0]) for each in found) / 2 == pytest.approx(loss, abs=1e-5)
    for _, rank_grads, rank_buffers in found:
        assert rank_grads.keys() == grads.keys()
        whole = torch.cat([grads[key].flatten() for key in grads])
        theirs = torch.cat([rank_grads[key].flatten() for key in grads])
        assert float((theirs - whole).norm() / whole.norm()) < 1e-5
        torch.testing.assert_close(theirs, whole, atol=2e-5 * float(whole.abs().max()), rtol=1e-4)
        for key, expected in buffers.items():
            torch.testing.assert_close(rank_buffers[key], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_of_groups_and_views_does_not_matter(name: str) -> None:
    images, colours, groups = batch(name)
    count = groups.rows_per_group
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    rows = torch.arange(len(images)).reshape(GROUPS, count)
    module = learner(name)
    expected = module(images, colours, groups).total.item()
    moved = Groups(
        ids=groups.ids[order],
        rows_per_group=count,
        captions=[groups.captions[i] for i in order.tolist()],
    )
    found = module(images[rows[order].flatten()], colours, moved).total.item()
    assert found == pytest.approx(expected, abs=1e-5)
    # All groups exchange their views alike: each slot's statistics then move with it.
    found = module(images[rows.flip(1).flatten()], colours, groups).total.item()
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_other_ids_are_another_loss(name: str) -> None:
    images, colours, groups = batch(name)
    module = learner(name)
    first = module(images, colours, groups).total.item()
    other = Groups(
        ids=torch.tensor([11, 5, 8, 5, 2, 7]),
        rows_per_group=groups.rows_per_group,
        captions=groups.captions,
    )
    assert abs(module(images, colours, other).total.item() - first) > 1e-4


@pytest.mark.parametrize("name", OBJECTIVES)
def test_collapse_is_finite(name: str) -> None:
    images, colours, groups = batch(name)
    module = learner(name)
    terms = module(torch.full_like(images, 128), colours, groups)
    terms.total.backward()
    assert math.isfinite(terms.total.item())
    assert all(bool(each.isfinite().all()) for each in gradients(module).values())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_parameter_learns(name: str) -> None:
    module = learner(name)
    module(*batch(name)).total.backward()
    still = [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert [n for n in still if not n.endswith(("norm.bias", "bn.bias"))] == []


@pytest.mark.parametrize("name", ["clip", "stablerep-plus"])
def test_scale_is_kept_in_the_papers_range(name: str) -> None:
    module = learner(name)
    text = module.objective.texts()
    assert text is not None
    assert text.scale().item() == pytest.approx(1 / 0.07, abs=1e-4)
    for far, expected in ((9.0, 100.0), (-3.0, 1.0)):
        text.log_scale.data.fill_(far)
        module.objective.after_step()
        assert text.scale().item() == pytest.approx(expected, rel=1e-5)


def test_plus_is_the_weighted_sum_of_its_parts() -> None:
    objective = objective_class("stablerep-plus")
    images, colours, groups = batch("stablerep-plus")
    torch.manual_seed(0)
    config = objective.Config(
        head_hidden=12, head_out=8, text=TEXT, image_weight=0.5, text_weight=3
    )
    terms = Learner(SPEC, objective, config, None).train()(images, colours, groups)
    parts = {name: value.item() for name, value in terms.parts.items()}
    expected = 0.5 * parts["image"] + 3 * (parts["image_to_text"] + parts["text_to_image"]) / 2
    assert terms.total.item() == pytest.approx(expected, abs=1e-5)
