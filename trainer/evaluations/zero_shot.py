"""Zero-shot classification: the nearest class name in the space of image and text."""

import torch
from jaxtyping import Float
from pydantic import field_validator
from torch import Tensor
from torch.nn import functional as F

from manifests.foundation.settings import Table
from trainer.classifiers import rank_classes
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction, require_texts
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder

DEFAULT_TEMPLATES = ("a photo of a {c}",)
_CHUNK = 4096
"""Test images compared with all classes at once: it bounds the memory for their similarities."""


class ZeroShot:
    """Each class is the renormalized mean of its unit text embeddings over the templates.

    Source: CLIP, arXiv:2103.00020, section 3.1.4 (ensembling over the embedding space).
    """

    class Config(Table):
        """Table [zero-shot]."""

        templates: tuple[str, ...] = ()
        """Texts with `{c}` where the name of a class belongs. If there are none, the templates of
        the set are taken, or `a photo of a {c}` if the set has none either."""

        @field_validator("templates")
        @classmethod
        def _name_the_class(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
            for template in templates:
                if "{c}" not in template:
                    raise ValueError(f"{template!r} has no {{c}}, which stands for a class name")
            return templates

    tasks = ("classification", "multilabel")
    needs_train = False
    needs_crops = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        """Refuse an encoder without texts and a set without names of classes."""
        require_texts("zero-shot", encoder)
        if len(classes.names) < 2:
            raise DataError("zero-shot: the set does not name its classes; add classnames.txt")

    def predict(
        self,
        encoder: FrozenEncoder,
        train: Features | None,
        test_values: Float[Tensor, "images features"],
        classes: Classes,
    ) -> Prediction:
        """See Evaluation."""
        self.check(encoder, classes)
        embed_texts, embed_features = encoder.embed_texts, encoder.embed_features
        assert embed_texts is not None
        assert embed_features is not None
        templates = self.config.templates or classes.templates or DEFAULT_TEMPLATES
        with torch.inference_mode():
            # One class at a time: all texts at once could be 1,000 classes x 80 templates.
            names = torch.stack(
                [
                    embed_texts([template.replace("{c}", name) for template in templates])
                    .float()
                    .mean(dim=0)
                    for name in classes.names
                ]
            )
            unit_names = F.normalize(names.float(), dim=1)  # [classes, embed_dim]
            rankings, scores = [], []
            for part in torch.split(test_values, _CHUNK):
                unit = embed_features(part.to(encoder.device).float()).float()
                similarity = unit @ unit_names.T
                rankings.append(rank_classes(similarity).cpu())
                if classes.task == "multilabel":
                    scores.append(similarity.cpu())
        return Prediction(
            ranking=torch.cat(rankings),
            scores=torch.cat(scores) if scores else None,
            details={"templates": list(templates)},
        )
