"""Weighted nearest neighbours: nothing is trained and nothing is chosen."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from manifests.foundation.settings import Table
from trainer.classifiers import rank_classes
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.neighbours import nearest, neighbour_votes, predict_knn
from trainer.tasks import HAVE_CLASSES

_CHUNK = 1024
"""Test images whose neighbours' classes are in memory at once."""


class Knn:
    """See trainer.evaluations and trainer.neighbours.predict_knn.

    Where an image may have several classes, the score of a class is its share of the votes.
    """

    class Config(Table):
        """Table [knn]."""

        neighbours: int = Field(default=20, ge=1)
        temperature: float = Field(default=0.07, ge=0.01)
        """Of the vote exp(similarity / temperature); the bound keeps the vote from overflowing."""

    tasks = HAVE_CLASSES
    needs_train = True
    needs_crops = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        """Every encoder has neighbours."""

    def predict(
        self,
        encoder: FrozenEncoder,
        train: Features | None,
        test_values: Float[Tensor, "images features"],
        classes: Classes,
    ) -> Prediction:
        """See Evaluation."""
        assert train is not None
        neighbours = self.config.neighbours
        if len(train.values) < neighbours:
            raise DataError(
                f"knn: train has {len(train.values)} images and knn.neighbours is {neighbours}; "
                "set it lower"
            )
        if train.label_sets is not None:
            scores = self._shares(encoder, train, test_values, classes.num)
            return Prediction(ranking=rank_classes(scores), scores=scores)
        ranking = predict_knn(
            test_values,
            train.values,
            train.labels,
            num_classes=classes.num,
            num_neighbours=neighbours,
            temperature=self.config.temperature,
            device=encoder.device,
        )
        return Prediction(ranking=ranking)

    def _shares(
        self, encoder: FrozenEncoder, train: Features, test_values: Tensor, num_classes: int
    ) -> Tensor:
        """The part of the votes of an image's neighbours that each class has, [images, classes]."""
        similarity, rows = nearest(
            test_values,
            train.values,
            num_neighbours=self.config.neighbours,
            device=encoder.device,
        )
        targets = train.targets(num_classes)
        parts = torch.split(similarity, _CHUNK), torch.split(rows, _CHUNK)
        shares = []
        for near, own in zip(*parts, strict=True):
            votes = neighbour_votes(near, self.config.temperature)
            votes /= votes.sum(dim=1, keepdim=True)
            shares.append(torch.einsum("qn,qnc->qc", votes, targets[own].double()))
        return torch.cat(shares)
