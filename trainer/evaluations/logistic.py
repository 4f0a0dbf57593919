"""Logistic regression at its optimum: the protocol of tables of transfer."""

from collections.abc import Callable
from typing import Annotated, Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from manifests.foundation.progress import progress
from manifests.foundation.settings import Table
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.logistic import PAPER_PENALTIES, LogisticRecipe, choose_penalty, fit_logistic
from trainer.set_metrics import average_precision_11, mean_per_class

Penalty = Annotated[float, Field(gt=0)]


class Logistic:
    """L-BFGS on frozen features; the penalty is chosen on a held-out part of train, and the
    regression solved once more on all of train.

    Source: Kornblith et al., arXiv:1805.08974, section 3.1; SimCLR, arXiv:2002.05709, appendix
    B.8; SynCLR, arXiv:2312.17742, whose code standardizes features. These choose on the validation
    split of each set; here the choice is made in train. As there, the choice is made by the metric
    of the set, and where an image may have several classes, each is told from the rest and all have
    one penalty. See trainer.logistic.
    """

    class Config(Table):
        """Table [logistic]."""

        penalties: tuple[Penalty, ...] = Field(default=PAPER_PENALTIES, min_length=1)
        """To choose from, of the sum of cross-entropies: scikit-learn's C is one divided by it.
        With only one, nothing is chosen."""
        standardize: bool = True
        """Whether features are standardized by their statistics in train."""
        max_iterations: int = Field(default=1000, ge=1)
        """Of L-BFGS, for each penalty."""
        tolerance: float = Field(default=1e-6, gt=0)
        """Largest component of the gradient of the mean loss at the optimum. Where train is
        separable, the solution of a stronger penalty is within it for the weakest ones, too."""
        held_out: float = Field(default=0.2, gt=0, lt=1)
        """Fraction of the groups of each class of train on which the penalty is chosen."""
        seed: int = Field(default=0, ge=0)
        """Decides which groups are held out."""

    tasks = ("classification", "multilabel")
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
        penalties = self.config.penalties
        recipe = LogisticRecipe(**self.config.model_dump(exclude={"penalties"}))
        targets = train.labels if train.label_sets is None else train.targets(classes.num)
        values, labels = train.values.to(encoder.device), targets.to(encoder.device)
        penalty, start = penalties[0], None
        details: dict[str, Any] = {}
        num_fits = 1 if len(penalties) == 1 else len(penalties) + 1
        with progress("logistic regression", "fits", num_fits) as advance:
            if len(penalties) > 1:
                choice = choose_penalty(
                    values,
                    labels,
                    train.group_ids().to(encoder.device),
                    num_classes=classes.num,
                    judge=_judge(classes),
                    penalties=penalties,
                    recipe=recipe,
                    on_fit=lambda: advance(1),
                )
                if choice is None:
                    raise DataError(
                        "logistic: no class of train has two groups, so no penalty can be chosen; "
                        "give one with --set logistic.penalties=[1.0]"
                    )
                penalty, start = choice.penalty, choice.model
                details = {
                    "num_held_out": choice.num_held_out,
                    "held_out_metric": {  # JSON has no numbers as keys
                        f"{penalty:.6g}": metric
                        for penalty, metric in choice.held_out_metric.items()
                    },
                }
            model = fit_logistic(
                values,
                labels,
                num_classes=classes.num,
                penalty=penalty,
                recipe=recipe,
                start=start,
            )
            advance(1)
        details |= {
            "penalty": penalty,
            "iterations": model.iterations,
            "is_optimal": model.is_optimal,
        }
        test_values = test_values.to(encoder.device)
        scores = model.scores(test_values).cpu() if classes.task == "multilabel" else None
        return Prediction(ranking=model.predict(test_values).cpu(), scores=scores, details=details)


def _judge(classes: Classes) -> Callable[[Tensor, Tensor], float]:
    """The metric of the set, from what is predicted of held-out images and their labels."""
    if classes.task == "multilabel":
        return lambda logits, targets: float(average_precision_11(logits, targets).nanmean())
    if classes.metric == "mean-per-class":
        return lambda predicted, labels: mean_per_class(predicted == labels, labels)
    return lambda predicted, labels: float((predicted == labels).double().mean())
