"""The linear probe of StableRep, but with the learning rate chosen on a held-out part of train."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from manifests.foundation.progress import progress
from manifests.foundation.settings import Table
from trainer.classifiers import (
    PAPER_RATES,
    ProbeRecipe,
    choose_rate,
    enough_epochs,
    fit_probe,
)
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.set_metrics import image_weights

Rate = Annotated[float, Field(gt=0)]


class Linear:
    """See trainer.evaluations and trainer.classifiers.fit_probe."""

    class Config(Table):
        """Table [linear]."""

        rates: tuple[Rate, ...] = Field(default=PAPER_RATES, min_length=1)
        """Learning rates to choose from, for a batch of 256. With only one, nothing is chosen."""
        epochs: int = Field(default=90, ge=1)
        """Passes over train; more of them if `min_steps` asks for it."""
        min_steps: int = Field(default=1000, ge=1)
        """Fewest steps of SGD in all epochs together. In 90 epochs, 11,265 images or more have as
        many in batches of 1,024; a smaller set would stop before its optimum."""
        batch_size: int = Field(default=1024, ge=1)
        batch_norm: bool = True
        """Whether features are standardized by their statistics in train, as in StableRep."""
        held_out: float = Field(default=0.2, gt=0, lt=1)
        """Fraction of the groups of each class of train on which the rate is chosen."""
        seed: int = Field(default=0, ge=0)

    name = "linear"
    tasks = ("classification",)
    needs_train = True
    needs_crops = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        """Every encoder can be probed."""

    def predict(
        self,
        encoder: FrozenEncoder,
        train: Features | None,
        test_values: Float[Tensor, "images features"],
        classes: Classes,
    ) -> Prediction:
        """See Evaluation."""
        assert train is not None
        config = self.config
        epochs = enough_epochs(
            len(train.labels),
            batch_size=config.batch_size,
            epochs=config.epochs,
            min_steps=config.min_steps,
        )
        recipe = ProbeRecipe(
            epochs=epochs, **config.model_dump(exclude={"rates", "epochs", "min_steps"})
        )
        values, labels = train.values.to(encoder.device), train.labels.to(encoder.device)
        # With several rates one fit chooses among all of them, and a second one learns with the
        # winner on the whole of train.
        passes = 1 if len(config.rates) == 1 else 2
        with progress("linear probe", "epochs", passes * epochs) as advance:
            rate, details = config.rates[0], {}
            if passes == 2:
                choice = choose_rate(
                    values,
                    labels,
                    train.group_ids().to(encoder.device),
                    num_classes=classes.num,
                    rates=config.rates,
                    recipe=recipe,
                    weigh=lambda labels: image_weights(labels, classes.metric),
                    on_epoch=lambda: advance(1),
                )
                if choice is None:
                    raise DataError(
                        f"{self.name}: no class of train has two groups, so no rate can be chosen; "
                        f"give one with --set {self.name}.rates=[0.1]"
                    )
                rate = choice.rate
                details = {
                    "num_held_out": choice.num_held_out,
                    "held_out_metric": {  # JSON has no numbers as keys
                        str(rate): accuracy for rate, accuracy in choice.held_out_metric.items()
                    },
                }
            probe = fit_probe(
                values,
                labels,
                num_classes=classes.num,
                rates=[rate],
                recipe=recipe,
                on_epoch=lambda: advance(1),
            )
        ranking = probe.predict(test_values.to(encoder.device)).cpu()
        return Prediction(ranking=ranking, details={"rate": rate, "epochs": epochs, **details})


class LinearPlain(Linear):
    """The probe without batch norm: the other column of StableRep's table. See Linear."""

    class Config(Linear.Config):
        """Table [linear-plain]."""

        batch_norm: bool = False
        """Whether features are standardized by their statistics in train."""

    name = "linear-plain"
