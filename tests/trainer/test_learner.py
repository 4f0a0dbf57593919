"""What the learner gives to an objective, and which towers it refuses."""

from typing import Any

import pytest
import torch

from manifests.foundation.errors import ConfigError
from manifests.foundation.settings import Table
from tests.sets import refused
from trainer.learner import Learner
from trainer.models.specs import EncoderSpec
from trainer.objective_settings import Arrangement, CropSpec
from trainer.objectives import Batch, LossTerms, ObjectiveModule, Towers, objective_class
from trainer.testing.objectives import CLASSES, TOWER, make_batch, make_learner


class Curious(ObjectiveModule):
    """An objective that keeps the batch that it is given."""

    Config = Table
    wanted_arrangement = Arrangement()

    def __init__(self, config: Table, towers: Towers, classes: Any) -> None:
        super().__init__()
        self.classes = classes
        self.batch: Batch | None = None

    @classmethod
    def arrangement(cls, config: Table) -> Arrangement:
        return cls.wanted_arrangement

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        self.batch = batch
        return LossTerms(total=towers.image(batch.crops[0].images).mean())


def batch_of(arrangement: Arrangement) -> Batch:
    """The batch that the learner gives to an objective with this arrangement."""
    kind = type("Arranged", (Curious,), {"wanted_arrangement": arrangement})
    learner = Learner(EncoderSpec(**TOWER), kind, Table(), classes=CLASSES)
    learner(make_batch(learner))
    batch = learner.objective.batch  # type: ignore[attr-defined]
    assert learner.objective.classes == CLASSES  # type: ignore[attr-defined]
    assert isinstance(batch, Batch)
    return batch


def test_objective_is_given_only_what_it_reads() -> None:
    batch = batch_of(Arrangement())
    assert (batch.captions, batch.labels, batch.crops[0].draws) == ((), None, None)
    assert batch.crops[0].images.dtype == torch.float32
    assert batch.row_ids(batch.crops[0]).tolist() == [
        group for group in (11, 5, 8, 11, 2, 7) for _ in range(4)
    ]


def test_objective_is_given_captions_labels_and_draws_if_it_reads_them() -> None:
    batch = batch_of(Arrangement(reads=frozenset({"captions", "labels", "draws"})))
    assert batch.captions[1] == "thing 5"
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 2, 0, 1, 2]
    draws = batch.crops[0].draws
    assert draws is not None
    assert draws.shape == (24, 4 + 9)


def test_each_crop_set_has_its_size_and_number() -> None:
    batch = batch_of(Arrangement(crops=(CropSpec(count=2), CropSpec(count=3, size=0.5))))
    shapes = [(tuple(crops.images.shape), crops.per_group) for crops in batch.crops]
    assert shapes == [((48, 3, 16, 16), 8), ((72, 3, 8, 8), 12)]


def test_tower_that_does_not_take_a_small_crop_is_refused_before_the_first_step() -> None:
    kind = type(
        "Small", (Curious,), {"wanted_arrangement": Arrangement(crops=(CropSpec(size=0.5),))}
    )
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2}
    spec = EncoderSpec(model="vit_tiny_patch16_224", args=args, input_px=16)
    with refused(ConfigError, "does not take 8 px"):
        Learner(spec, kind, Table())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_loss_is_a_scalar_in_any_precision(dtype: torch.dtype | None) -> None:
    learner = Learner(EncoderSpec(**TOWER), Curious, Table(), dtype=dtype)
    assert learner(make_batch(learner)).total.shape == ()


VIT = EncoderSpec(
    model="vit_tiny_patch16_224",
    args={
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 48,
        "depth": 4,
        "num_heads": 3,
        "drop_path_rate": 0.3,
    },
    input_px=16,
)


def gradients_and_saved(recomputes: bool) -> tuple[list[torch.Tensor], int]:
    """Gradients of one step, and the bytes that its forward pass leaves for the backward pass."""
    torch.manual_seed(0)
    objective = objective_class("stablerep-plus")
    text = {"context_length": 8, "width": 32, "heads": 2, "layers": 3, "embed_dim": 16}
    config = objective.Config(name="stablerep-plus", head_hidden=32, head_out=16, text=text)
    learner = Learner(VIT, objective, config, classes=())
    if recomputes:
        learner.recompute_activations()
    batch, saved = make_batch(learner), 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    torch.manual_seed(1)  # for the paths that are dropped
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = learner(batch).total
    loss.backward()
    return [p.grad for p in learner.parameters() if p.grad is not None], saved


def test_activations_that_are_computed_again_change_no_gradient() -> None:
    (expected, all_bytes), (gradients, few_bytes) = map(gradients_and_saved, (False, True))
    assert len(gradients) == len(expected) > 50
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-6, atol=1e-7)
    assert few_bytes < all_bytes / 3


@pytest.mark.parametrize(
    ("tower", "words"),
    [
        (EncoderSpec(**TOWER), "cannot do it"),
        (EncoderSpec(model="resnet18", input_px=32), "has batch norms"),
    ],
)
def test_towers_that_cannot_compute_activations_again(tower: EncoderSpec, words: str) -> None:
    learner = Learner(tower, Curious, Table(), classes=CLASSES)
    with refused(ConfigError, "run.activation_checkpointing", words, "leave it out"):
        learner.recompute_activations()


@pytest.mark.slow
def test_compiled_towers_have_the_same_gradients() -> None:
    """And the names of their weights, by which checkpoints and exports know them."""
    text = {"context_length": 8, "width": 32, "heads": 2, "layers": 1, "embed_dim": 16}
    settings = {"head_hidden": 32, "head_out": 16, "text": text}
    spec = VIT.model_dump() | {"args": VIT.args | {"depth": 1, "drop_path_rate": 0.0}}
    expected, compiled = (make_learner("stablerep-plus", settings, spec) for _ in range(2))
    compiled.compile_towers()
    assert expected.state_dict().keys() == compiled.state_dict().keys()
    for learner in (expected, compiled):
        learner(make_batch(learner)).total.backward()
    gradients = [
        torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
        for learner in (expected, compiled)
    ]
    assert float((gradients[1] - gradients[0]).norm()) < 1e-4 * float(gradients[0].norm())
    assert expected.encoder._compiled_call_impl is None
    assert compiled.encoder._compiled_call_impl is not None
