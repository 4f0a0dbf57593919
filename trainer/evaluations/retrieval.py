"""Retrieval: the captions of an image among all captions, and the image of a caption among all."""

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from manifests.foundation.progress import progress
from manifests.foundation.settings import Table
from trainer.evaluations import Classes, Prediction, Ranks, require_texts
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.neighbours import nearest
from trainer.set_metrics import RECALL_AT

_CHUNK = 4096
"""Images embedded at once."""


class TextRetrieval:
    """For each image the nearest captions, by the cosine of image and text embedding.

    An image is found if any caption of its own is among the first 1, 5 or 10, as in CLIP (arXiv
    2103.00020, table 13) and in CLIP_benchmark's `text_retrieval_recall@k`. Of equally near ones
    those that come first in the set are taken.
    """

    class Config(Table):
        """Tables [text-retrieval] and [image-retrieval]."""

        batch_size: int = Field(default=256, ge=1)
        """Captions embedded at once."""

    ranks: ClassVar[Ranks] = "captions"
    name = "text-retrieval"
    tasks = ("retrieval",)
    needs_train = False
    needs_crops = False

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, encoder: FrozenEncoder, classes: Classes) -> None:
        """Refuse an encoder without texts."""
        require_texts(self.name, encoder)

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
        captions, size = classes.captions, self.config.batch_size
        texts = []
        with torch.inference_mode(), progress(self.name, "captions", len(captions)) as advance:
            for first in range(0, len(captions), size):
                part = list(captions[first : first + size])
                # Filled up, so that a caption has the same embedding in any batch.
                filled = part + part[-1:] * (size - len(part))
                texts.append(embed_texts(filled)[: len(part)].float().cpu())
                advance(len(part))
            images = [
                embed_features(part.to(encoder.device).float()).float().cpu()
                for part in torch.split(test_values, _CHUNK)
            ]
        queries, bank = torch.cat(images), torch.cat(texts)
        if self.ranks == "images":
            queries, bank = bank, queries
        rows = nearest(
            queries,
            bank,
            num_neighbours=min(max(RECALL_AT), len(bank)),
            device=encoder.device,
        )[1]
        return Prediction(ranking=rows, ranks=self.ranks)


class ImageRetrieval(TextRetrieval):
    """For each caption the nearest images: the other direction. See TextRetrieval."""

    ranks = "images"
    name = "image-retrieval"
