"""Zero-shot classification: the nearest class name in the space of image and text."""

import torch
from jaxtyping import Float
from pydantic import field_validator
from torch import Tensor
from torch.nn import functional as F

from manifests.foundation.settings import Table
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction, Subject
from trainer.features import Features

DEFAULT_TEMPLATES = ("a photo of a {c}",)
_CHUNK = 4096


class ZeroShot:
    """Each class is the renormalized mean of its unit text embeddings over the templates.

    Source: CLIP, arXiv:2103.00020, section 3.1.4 (ensembling over the embedding space).
    """

    class Config(Table):
        """Table [zero-shot]."""

        templates: tuple[str, ...] = ()
        """Texts with `{c}`; those of the set if none are given, else `a photo of a {c}`."""

        @field_validator("templates")
        @classmethod
        def _have_a_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
            for template in templates:
                if "{c}" not in template:
                    raise ValueError(f"{template!r} has no {{c}}, the place of the class name")
            return templates

    needs_train = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, subject: Subject, classes: Classes) -> None:
        """Names and texts are needed."""
        if subject.text is None or subject.project is None:
            raise DataError(
                f"zero-shot: {subject.name} was not trained with text; leave zero-shot out of "
                "--with, or take an encoder of stablerep-plus or clip"
            )
        if len(classes.names) < 2:
            raise DataError("zero-shot: the set does not name its classes; add classnames.txt")

    def predict(
        self,
        subject: Subject,
        train: Features | None,
        test_values: Float[Tensor, "images features"],
        classes: Classes,
    ) -> Prediction:
        """See Evaluation."""
        self.check(subject, classes)
        assert subject.text is not None
        assert subject.project is not None
        templates = self.config.templates or classes.templates or DEFAULT_TEMPLATES
        with torch.inference_mode():
            names = torch.stack(
                [
                    subject.text([each.replace("{c}", name) for each in templates]).mean(dim=0)
                    for name in classes.names
                ]
            )
            unit_names = F.normalize(names.float(), dim=1)  # [C, D]
            found = [
                (subject.project(part.to(subject.device)).float() @ unit_names.T).argmax(dim=1)
                for part in torch.split(test_values, _CHUNK)
            ]
        return Prediction(labels=torch.cat(found).cpu(), details={"templates": list(templates)})
