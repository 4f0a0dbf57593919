"""The laws of objectives, for every entry of the table, and what is particular to each."""

from typing import ClassVar

import pytest
import torch

from trainer.learner import Learner
from trainer.models.text import ImageText
from trainer.objective_settings import OBJECTIVE_SETTINGS, objective_settings
from trainer.objective_settings.contrastive import StableRepConfig
from trainer.objectives import OBJECTIVES, Batch, LossTerms, Towers, objective_class
from trainer.objectives.contrastive import StableRep
from trainer.testing.objectives import LATENT_DIM, PATCHES, ObjectiveLaws, make_batch, make_learner

HEAD = {"head_hidden": 12, "head_out": 8}
TEXT = {"text": {"context_length": 12, "width": 16, "heads": 2, "layers": 1, "embed_dim": 8}}


class TestStableRep(ObjectiveLaws):
    name = "stablerep"
    settings = HEAD


class TestStableRepOfThreeCrops(ObjectiveLaws):
    name = "stablerep"
    settings = HEAD | {"crops": 3}


class TestSimCLR(ObjectiveLaws):
    name = "simclr"
    settings = HEAD


class TestSupCon(ObjectiveLaws):
    name = "supcon"
    settings = HEAD | {"crops": 1}


class TestClip(ObjectiveLaws):
    name = "clip"
    settings = TEXT


class TestStableRepPlus(ObjectiveLaws):
    name = "stablerep-plus"
    settings = HEAD | TEXT


class TestClipOfTwoCrops(ObjectiveLaws):
    name = "clip"
    settings = TEXT | {"crops": 2}


class TestStableRepPlusOfTwoCrops(ObjectiveLaws):
    name = "stablerep-plus"
    settings = HEAD | TEXT | {"crops": 2}


class TestByol(ObjectiveLaws):
    name = "byol"
    settings = HEAD


class TestCrossEntropy(ObjectiveLaws):
    name = "cross-entropy"


class TestMoco(ObjectiveLaws):
    name = "moco"
    settings: ClassVar = HEAD | {"queue": 20, "momentum": 0.9}


class TestSynclr(ObjectiveLaws):
    name = "synclr"
    settings: ClassVar = HEAD | {
        "local_crops": 2,
        "local_size": 0.5,
        "prototypes": 10,
        "patch_hidden": 12,
        "patch_bottleneck": 6,
        "teacher_warmup_steps": 2,
    }
    tower = PATCHES


class TestSynclrWithoutPatches(ObjectiveLaws):
    name = "synclr"
    settings: ClassVar = HEAD | {"crops": 2, "local_crops": 0, "patch_weight": 0.0}
    tower = PATCHES


class TestPlainHead(ObjectiveLaws):
    """The head of GenRep and SupCon, without batch norms."""

    name = "stablerep"
    settings = HEAD | {"head": "plain"}


class TestInverter(ObjectiveLaws):
    name = "inverter"
    settings: ClassVar = {"latent_dim": LATENT_DIM, "hidden": 12, "class_weight": 0.5}


def test_every_objective_of_the_table_is_tested() -> None:
    assert {laws.name for laws in ObjectiveLaws.__subclasses__()} == set(OBJECTIVES)


class WaitingConfig(StableRepConfig):
    name: str  # type: ignore[assignment]


class Waiting(StableRep):
    """Reads the loss, or copies a constant to the device, as `kind` says."""

    Config: ClassVar = WaitingConfig
    kind = "value"

    def forward(self, towers: Towers, batch: Batch) -> LossTerms:
        terms = super().forward(towers, batch)
        if self.kind == "value":
            return LossTerms(total=terms.total * float(terms.total))
        return LossTerms(total=terms.total * torch.tensor([2.0]).to(terms.total.device).sum())


@pytest.mark.parametrize(("kind", "error"), [("value", RuntimeError), ("copy", AssertionError)])
def test_law_of_not_waiting_catches_both_ways_to_wait(
    kind: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Waiting, "kind", kind)
    laws = TestStableRep()
    monkeypatch.setattr(laws, "name", f"{__name__}:Waiting", raising=False)
    with pytest.raises(error, match=r"item|_to_copy"):
        laws.test_host_does_not_wait_for_the_device()


@pytest.mark.parametrize("name", ["stablerep", "simclr", "clip", "stablerep-plus"])
def test_order_of_crops_does_not_matter_if_all_groups_change_it_alike(name: str) -> None:
    """The statistics of a position in the groups move with the crops at that position."""
    learner = learner_of(name)
    batch = make_batch(learner)
    expected = learner(batch).total.item()
    (images,) = batch.images
    batch.images[0].copy_(images.unflatten(0, (len(batch.ids), -1)).flip(1).flatten(0, 1))
    assert learner(batch).total.item() == pytest.approx(expected, abs=1e-5)


def learner_of(name: str, **settings: object) -> Learner:
    laws = next(laws for laws in ObjectiveLaws.__subclasses__() if laws.name == name)
    return make_learner(name, {**laws.settings, **settings})


@pytest.mark.parametrize("name", ["clip", "stablerep-plus"])
def test_scale_is_kept_in_the_papers_range(name: str) -> None:
    learner = learner_of(name)
    text = learner.exports()["text"]
    assert isinstance(text, ImageText)
    assert text.scale().item() == pytest.approx(1 / 0.07, abs=1e-4)
    for far, expected in ((9.0, 100.0), (-3.0, 1.0)):
        text.log_scale.data.fill_(far)
        learner.after_step(0, 1)
        assert text.scale().item() == pytest.approx(expected, rel=1e-5)


def test_plus_is_the_weighted_sum_of_its_parts() -> None:
    learner = learner_of("stablerep-plus", image_weight=0.5, text_weight=3.0)
    terms = learner(make_batch(learner))
    parts = {name: value.item() for name, value in terms.parts.items()}
    expected = 0.5 * parts["image"] + 3 * (parts["image_to_text"] + parts["text_to_image"]) / 2
    assert terms.total.item() == pytest.approx(expected, abs=1e-5)


def test_both_halves_of_an_objective_are_in_their_tables_and_are_one() -> None:
    assert list(OBJECTIVES) == list(OBJECTIVE_SETTINGS)
    for name in OBJECTIVES:
        assert issubclass(objective_class(name), objective_settings(name))
