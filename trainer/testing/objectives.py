"""The laws of objectives (`trainer.objectives`) as tests: each subclass tests one objective."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from manifests.foundation.settings import check
from trainer.data.augment import AugmentConfig
from trainer.data.batches import LoadedBatch
from trainer.data.crops import BOX_FIELDS, COLOUR_FIELDS, draw_crop
from trainer.data.draws import generator
from trainer.learner import Learner
from trainer.models.specs import EncoderSpec
from trainer.objectives import Objective, objective_class
from trainer.testing.ranks import run_ranks

NUM_GROUPS, NUM_VIEWS, INPUT_PX = 6, 4, 16
CLASSES = ("blue", "green", "red")
NUM_STEPS, LATENT_DIM = 4, 5

PATCHES = {
    "model": "vit_tiny_patch16_224",
    "args": {
        "img_size": INPUT_PX,
        "patch_size": 4,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "dynamic_img_size": True,
    },
    "input_px": INPUT_PX,
}
"""A tower without batch norms."""
TOWER = {"model": "synth_small_conv", "args": {"widths": (4, 6)}, "input_px": INPUT_PX}


class ObjectiveLaws:
    """Set `name` and `settings` in a subclass whose name begins with `Test`.

    `uses_ids` and `has_teacher` are tested both ways: what an objective declares must be so, and
    what it does not declare must not.
    """

    name: ClassVar[str]
    """Name of the objective in the table, or a dotted path that other processes can import."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Keys of [objective] that make the objective small."""
    tower: ClassVar[Mapping[str, Any]] = TOWER
    """Table [model] of a tower that takes every crop of the objective."""

    def make_learner(self) -> Learner:
        """A small tower with the objective, with the same weights in every process."""
        return make_learner(self.name, self.settings, self.tower)

    def objective(self) -> type[Objective]:
        """The class of the objective."""
        objective: type[Objective] = objective_class(self.name)
        return objective

    def test_two_ranks_equal_one_process(self, tmp_path: Path) -> None:
        arguments = (self.name, dict(self.settings), dict(self.tower))
        run_ranks(_learn_in_rank, 2, *arguments, str(tmp_path))
        learner = self.make_learner()
        alone = _learn(learner, learner, None)
        ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
        # Each rank has the loss of its own rows; the mean over the ranks is that of all rows.
        assert sum(rank["loss"] for rank in ranks) / 2 == pytest.approx(alone["loss"], abs=1e-5)
        for rank in ranks:
            _require_near(rank["gradients"], alone["gradients"])
            for state in ("buffers", "teacher"):
                torch.testing.assert_close(rank[state], alone[state], atol=1e-5, rtol=1e-4)
        # Equal to the bit: teachers are never exchanged, so that a small difference would grow.
        for name, tensor in ranks[0]["teacher"].items():
            assert torch.equal(tensor, ranks[1]["teacher"][name]), name

    def test_order_of_groups_does_not_matter(self) -> None:
        batch, order = self._batch(), torch.tensor([3, 0, 5, 1, 4, 2])
        expected = self.make_learner()(batch).total.item()
        moved = self.make_learner()(take(batch, order)).total.item()
        assert moved == pytest.approx(expected, abs=1e-5)

    def test_other_ids_are_another_loss_exactly_if_ids_are_used(self) -> None:
        batch = self._batch()
        other = _replaced(batch, ids=torch.tensor([11, 5, 8, 5, 2, 7]))  # another pair is equal
        losses = [self.make_learner()(batch).total.item() for batch in (batch, other)]
        assert (abs(losses[0] - losses[1]) > 1e-4) == self.objective().uses_ids

    def test_it_is_finite_when_all_images_are_equal(self) -> None:
        batch, learner = self._batch(), self.make_learner()
        equal = tuple(torch.full_like(images, 128) for images in batch.images)
        loss = learner(_replaced(batch, images=equal)).total
        loss.backward()
        assert math.isfinite(loss.item())
        gradients = _gradients(learner)
        assert [name for name, grad in gradients.items() if not grad.isfinite().all()] == []

    def test_every_parameter_outside_the_teacher_learns(self) -> None:
        learner = self.make_learner()
        learner(self._batch()).total.backward()
        without_gradient = [
            name
            for name, parameter in learner.named_parameters()
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
        ]
        # The gradient of a bias may be zero: before a batch norm, or where all units are dead in so
        # small a batch.
        assert [
            name for name in without_gradient if not name.endswith(("norm.bias", "bn.bias"))
        ] == []

    def test_rows_in_parts_have_the_same_gradients(self) -> None:
        expected, gradients = (
            _gradients_of(make_learner(self.name, self.settings, PATCHES, grad_cache=rows))
            for rows in (None, 7)
        )
        _require_near(gradients, expected, relative=1e-6)

    def test_host_does_not_wait_for_the_device(self) -> None:
        # Tensors of the device `meta` have no values: reading one raises an error.
        learner, batch = self.make_learner().to("meta"), self._batch()
        colours = tuple(_drawn_colours(len(images)) for images in batch.images)
        batch = _replaced(batch, colours=colours).to(torch.device("meta"))
        with _Copies() as copies:
            learner(batch).total.backward()
        assert not copies.waited_for, copies.waited_for

    def test_teacher_is_moved_after_steps_and_only_then(self) -> None:
        learner = self.make_learner()
        before = _teacher(learner)
        assert bool(before) == self.objective().has_teacher
        loss = learner(self._batch()).total
        assert all(torch.equal(before[name], tensor) for name, tensor in _teacher(learner).items())
        if not before:
            return
        loss.backward()
        with torch.no_grad():
            for parameter in learner.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)
        learner.after_step(0, NUM_STEPS)
        moved = [n for n, tensor in _teacher(learner).items() if not torch.equal(tensor, before[n])]
        assert moved

    def test_state_comes_back_from_a_checkpoint(self) -> None:
        learner, other = self.make_learner(), self.make_learner()
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.add_(0.1)
        other.load_state_dict(learner.state_dict(), strict=True)
        batch = self._batch()
        assert other(batch).total.item() == learner(batch).total.item()

    def test_exports_are_modules_of_this_very_learner(self) -> None:
        learner = self.make_learner()
        own = {id(parameter) for parameter in learner.parameters()}
        parts = learner.exports()
        assert "image" in parts
        for name, part in parts.items():
            assert isinstance(part, nn.Module), name
            assert {id(parameter) for parameter in part.parameters()} <= own, name

    def _batch(self) -> LoadedBatch:
        return make_batch(self.make_learner())


def make_learner(
    name: str,
    settings: Mapping[str, Any],
    tower: Mapping[str, Any] = TOWER,
    *,
    grad_cache: int | None = None,
) -> Learner:
    """A learner in training mode, with weights that are equal in every process."""
    torch.manual_seed(0)
    objective = objective_class(name)
    config = check(objective.Config, {"name": name, **settings}, origin=name, table="objective")
    spec = check(EncoderSpec, tower, origin=name, table="model")
    return Learner(spec, objective, config, classes=CLASSES, grad_cache=grad_cache).train()


def make_batch(learner: Learner) -> LoadedBatch:
    """A batch of random images, as one process would load it, with the crops of the objective.

    It has NUM_GROUPS groups of NUM_VIEWS views, or of one view for an objective that splits groups.
    Two groups have the same id, as at the border of two epochs.
    """
    arrangement = learner.arrangement
    num_views = 1 if arrangement.splits_groups else NUM_VIEWS
    rng = torch.Generator().manual_seed(1)
    # Colours that change nothing: factors are 1, everything else is 0.
    neutral = [float(name in ("brightness", "contrast", "saturation")) for name in COLOUR_FIELDS]
    images, colours, boxes = [], [], []
    for crops in arrangement.crops:
        rows, side_px = NUM_GROUPS * num_views * crops.count, crops.side_px(learner.spec.input_px)
        shape = (rows, 3, side_px, side_px)
        images.append(torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8))
        colours.append(np.array([neutral] * rows, dtype=np.float32))
        boxes.append(torch.rand(rows, len(BOX_FIELDS), generator=rng))
    ids = torch.tensor([11, 5, 8, 11, 2, 7])
    return LoadedBatch(
        step=0,
        images=tuple(images),
        colours=tuple(colours),
        boxes=tuple(boxes),
        ids=ids,
        labels=torch.tensor([0, 1, 2, 0, 1, 2]),
        captions=[f"thing {group}" for group in ids.tolist()],
        latents=torch.randn(NUM_GROUPS * num_views, LATENT_DIM, generator=rng),
        views=torch.arange(num_views).repeat(NUM_GROUPS, 1).numpy(),
        replaced=[],
    )


def take(batch: LoadedBatch, groups: Tensor) -> LoadedBatch:
    """The groups of a batch with these numbers, in this order."""

    def rows(tensor: Tensor) -> Tensor:
        return tensor.reshape(len(batch.ids), -1, *tensor.shape[1:])[groups].flatten(0, 1)

    return LoadedBatch(
        step=batch.step,
        images=tuple(map(rows, batch.images)),
        colours=tuple(rows(torch.from_numpy(part)).numpy() for part in batch.colours),
        boxes=tuple(map(rows, batch.boxes)),
        ids=batch.ids[groups],
        labels=batch.labels[groups],
        captions=[batch.captions[group] for group in groups.tolist()],
        latents=rows(batch.latents),
        views=batch.views[groups.numpy()],
        replaced=[],
    )


def _replaced(batch: LoadedBatch, **changes: Any) -> LoadedBatch:
    return dataclasses.replace(batch, **changes)


def _gradients(learner: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in learner.named_parameters() if p.grad is not None}


def _teacher(learner: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that no gradient moves."""
    return {n: p.clone() for n, p in learner.named_parameters() if not p.requires_grad}


def _learn(learner: Learner, module: nn.Module, groups: Tensor | None) -> dict[str, Any]:
    """Take one step of plain gradient descent.

    Args:
        learner: What learns.
        module: The learner, or what averages its gradients over the ranks.
        groups: Numbers of the groups to learn from; None for the whole batch.

    Returns:
        The loss and the gradients, the buffers after the forward pass, and the teacher after the
        step.
    """
    batch = make_batch(learner)
    loss = module(batch if groups is None else take(batch, groups)).total
    loss.backward()
    gradients = _gradients(learner)
    buffers = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)
    learner.after_step(0, NUM_STEPS)
    return {
        "loss": loss.item(),
        "gradients": gradients,
        "buffers": buffers,
        "teacher": _teacher(learner),
    }


def _learn_in_rank(
    rank: int,
    world: int,
    name: str,
    settings: Mapping[str, Any],
    tower: Mapping[str, Any],
    folder: str,
) -> None:
    """Learn from this rank's groups in one of the processes, and save what came of it.

    Gradients are averaged as in a training.
    """
    from torch.nn.parallel import DistributedDataParallel

    learner = make_learner(name, settings, tower)
    module = DistributedDataParallel(learner, broadcast_buffers=False)
    groups = torch.arange(NUM_GROUPS).chunk(world)[rank]
    torch.save(_learn(learner, module, groups), Path(folder) / f"{rank}.pt")


def _gradients_of(learner: Learner) -> dict[str, Tensor]:
    """In double precision, so that only another gradient makes a difference."""
    for parameter in learner.parameters():
        parameter.data = parameter.data.double()
    for module in learner.modules():
        if isinstance(module, nn.Conv2d):  # where pixels enter a tower, or its teacher
            module.register_forward_pre_hook(lambda layer, rows: rows[0].double())
    learner(make_batch(learner)).total.backward()
    return _gradients(learner)


def _drawn_colours(num_crops: int) -> NDArray[np.float32]:
    config = AugmentConfig()
    return np.stack([draw_crop(generator("law", row), config).colours for row in range(num_crops)])


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes copies from the CPU to the device `meta` for which the host would wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waited_for: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        devices = [tensor.device.type for tensor in args if isinstance(tensor, Tensor)]
        if operation in _COPYING and "cpu" in devices and result.device.type == "meta":
            is_waited_for = not (kwargs.get("non_blocking") or True in args[2:])
            if is_waited_for:
                self.waited_for.append(f"{operation} of {list(result.shape)}")
        return result


_COPYING = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


def _require_near(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, relative: float = 1e-5
) -> None:
    """Compare gradients: the norm of all differences together, and every number."""
    assert tensors.keys() == expected.keys()
    flat = torch.cat([expected[name].double().flatten() for name in expected])
    actual = torch.cat([tensors[name].double().flatten() for name in expected])
    assert float((actual - flat).norm()) <= relative * float(flat.norm())
    torch.testing.assert_close(actual, flat, atol=2e-5 * float(flat.abs().max()), rtol=1e-4)
