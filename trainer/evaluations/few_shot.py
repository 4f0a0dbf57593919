"""Few-shot classification: many small tasks of a few classes with a few images each."""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from manifests.foundation.progress import progress
from manifests.foundation.settings import Table
from trainer.episodes import draw_episodes
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.logistic import LogisticRecipe, fit_logistic

_CHUNK_IMAGES = 4096
_RECIPE = LogisticRecipe(standardize=False)


class FewShot:
    """Logistic regression on unit features, for each episode of n ways and k shots.

    The images to learn from are of train. Every test image of the episode's classes is a query,
    where the papers draw 15 of each class: no test label takes part in a draw. An episode predicts
    all test images among its own classes, and the scoring takes those that are queries.

    Source: Tian et al., arXiv:2003.11539 (L2-normalised features, C = 1); 5 ways, 5 shots and 600
    episodes as in CD-FSL, arXiv:1912.07200. StableRep reports 5 ways and 5 shots as well.
    """

    class Config(Table):
        """Table [few-shot]."""

        ways: int = Field(default=5, ge=2)
        """Classes of an episode."""
        shots: int = Field(default=5, ge=1)
        """Images of each of them to learn from, of different groups."""
        episodes: int = Field(default=600, ge=1)
        penalty: float = Field(default=1.0, gt=0)
        """Of the sum of cross-entropies: scikit-learn's C is one divided by it."""
        seed: int = Field(default=0, ge=0)
        """Decides the episodes: equal for equal sets, so encoders are compared on the same ones."""

    tasks = ("classification",)
    needs_train = True
    needs_crops = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        """Every encoder can learn from few images."""

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
        drawn = draw_episodes(
            train.labels,
            train.group_ids(),
            **config.model_dump(include={"ways", "shots", "episodes", "seed"}),
        )
        if drawn is None:
            raise DataError(
                f"few-shot: fewer than {config.ways} classes of train have images of "
                f"{config.shots} groups; set few-shot.ways or few-shot.shots lower"
            )
        ways = torch.arange(config.ways)
        weights, biases = [], []
        with progress("few-shot", "episodes", config.episodes) as advance:
            for support in drawn.support:
                # On the CPU: some dozens of images are too few for a GPU.
                model = fit_logistic(
                    F.normalize(train.values[support.flatten()].float(), dim=1),
                    ways.repeat_interleave(config.shots),
                    num_classes=config.ways,
                    penalty=config.penalty,
                    recipe=_RECIPE,
                )
                weights.append(model.weight.float())
                biases.append(model.bias.float())
                advance(1)
        weight = torch.stack(weights, dim=1).flatten(1).to(encoder.device)  # [D, episodes x ways]
        bias = torch.cat(biases).to(encoder.device)
        labels = drawn.classes.to(encoder.device)
        chosen = []
        for part in torch.split(test_values, _CHUNK_IMAGES):
            unit = F.normalize(part.to(encoder.device).float(), dim=1)
            logits = (unit @ weight + bias).view(-1, *labels.shape)
            way = logits.argmax(dim=2)  # [images, episodes]
            chosen.append(labels.T.gather(0, way).int().cpu())
        return Prediction(
            ranking=torch.cat(chosen),
            episodes=drawn.classes,
            details={"num_eligible_classes": drawn.num_eligible},
        )
