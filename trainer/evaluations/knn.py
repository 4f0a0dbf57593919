"""Weighted nearest neighbours: nothing is trained and nothing is chosen."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from manifests.foundation.settings import Table
from trainer.classifiers import predict_knn
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder


class Knn:
    """See trainer.evaluations and trainer.classifiers.predict_knn."""

    class Config(Table):
        """Table [knn]."""

        neighbours: int = Field(default=20, ge=1)
        temperature: float = Field(default=0.07, ge=0.01)
        """Of the vote exp(similarity / temperature); the bound keeps the vote from overflowing."""

    needs_train = True

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
