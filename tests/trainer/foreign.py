"""Plug-ins of somebody else for the trainer, each with one fault."""

from typing import Any

import torch

from manifests.foundation.settings import Table
from tests.labelled_sets import png
from trainer.evaluations import Prediction
from trainer.frozen_encoders import FrozenEncoder
from trainer.labelled_sets import LabelledImage, LabelledSet
from trainer.objectives import ObjectiveModule


class NoSource:
    def __init__(self, url: str) -> None:
        pass


class RaisingConfig(Table):
    name: str


class RaisingObjective(ObjectiveModule):
    Config = RaisingConfig

    def __init__(self, config: Any, towers: Any, classes: Any) -> None:
        super().__init__()

    def forward(self, towers: Any, batch: Any) -> Any:
        raise KeyError("temperature")


class _Evaluation:
    Config = Table
    tasks = ("classification",)
    needs_train = False
    needs_crops = False

    def __init__(self, config: Any) -> None:
        pass

    def check(self, encoder: Any, classes: Any) -> None:
        pass


class Floats(_Evaluation):
    def predict(self, encoder: Any, train: Any, values: Any, classes: Any) -> Any:
        return Prediction(ranking=torch.zeros(len(values), 1))


class TooFew(_Evaluation):
    def predict(self, encoder: Any, train: Any, values: Any, classes: Any) -> Any:
        return Prediction(ranking=torch.zeros(1, 1, dtype=torch.long))


class NanDetails(_Evaluation):
    def predict(self, encoder: Any, train: Any, values: Any, classes: Any) -> Any:
        return Prediction(
            ranking=torch.zeros(len(values), 1, dtype=torch.long), details={"k": float("nan")}
        )


class Nothing(_Evaluation):
    def predict(self, encoder: Any, train: Any, values: Any, classes: Any) -> Any:
        return None


class Maps:
    """An encoder that gives feature maps instead of vectors."""

    draws_weights = False

    @staticmethod
    def check(place: str) -> None:
        pass

    @staticmethod
    def open(place: str, *, name: str, device: Any, seed: int) -> Any:
        return FrozenEncoder(name=name, encode=lambda images: images, input_px=8, facts={})


class OneSplit:
    name, where, num_bytes = "test", "memory", 0

    def __init__(self, label: Any) -> None:
        self.label = label

    def images(self, *, rank: int = 0, world: int = 1, on_bytes: Any = None) -> Any:
        yield LabelledImage(key="a", position=(0,), data=png(), label=self.label, group="a")


class NegativeLabel:
    @staticmethod
    def open(place: str) -> Any:
        return LabelledSet(name="foreign", splits={"test": OneSplit(-1)})


class TextLabel:
    @staticmethod
    def open(place: str) -> Any:
        return LabelledSet(name="foreign", splits={"test": OneSplit("cat")})


class NoSet:
    @staticmethod
    def open(place: str) -> Any:
        return {"test": []}
