"""The linear probe as it is published: other crops of each image in every epoch."""

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from manifests.foundation.settings import Table
from trainer.augmented_probe import AugmentedRecipe, LearningHeads
from trainer.classifiers import PAPER_RATES, best_head, hold_out, rank_classes
from trainer.data.augment import AugmentConfig, CropRatio, CropScale
from trainer.errors import DataError
from trainer.evaluations import Classes, Prediction
from trainer.features import Features
from trainer.frozen_encoders import FrozenEncoder
from trainer.set_metrics import image_weights

_CHUNK = 4096
_CROP_KEYS = ("crop_scale", "crop_ratio", "flip_prob")

Rate = Annotated[float, Field(gt=0)]


class LinearAugmented:
    """SGD on a random resized crop of every training image, mirrored or not, in each epoch.

    All rates learn side by side from the same features, twice: on the part of train that is not
    held out, where the rate is chosen by the evaluation crops of the held-out part, and on all of
    train, where the head with that rate predicts. So the encoder goes over train once an epoch. The
    published code chooses rate and epoch on the images whose accuracy it reports; here the last
    epoch counts, and the choice never sees them.

    Source: StableRep's main_linear.py, whose settings are the defaults: ten rates, SGD with
    momentum 0.9 and no decay, 90 epochs, batches of 1,024, half a cosine by step, weights from
    N(0, 0.01), RandomResizedCrop and flip; `--use_bn` is `batch_norm`, and the evaluation resizes
    by bilinear interpolation (`--set crop.resampling=bilinear`). MAE's main_linprobe.py, arXiv
    2111.06377, appendix A.2: `rates = [0.1]`, `optimizer = "lars"`, `batch_size = 16384`,
    `warmup_epochs = 10`. See trainer.augmented_probe.
    """

    class Config(Table):
        """Table [linear-augmented]."""

        rates: tuple[Rate, ...] = Field(default=PAPER_RATES, min_length=1)
        """Learning rates to choose from, for a batch of 256. With only one, nothing is chosen."""
        epochs: int = Field(default=90, ge=1)
        """Passes over train, each of them through the encoder. A set of few images needs more."""
        warmup_epochs: int = Field(default=0, ge=0)
        batch_size: int = Field(default=1024, ge=1)
        optimizer: Literal["sgd", "lars"] = "sgd"
        batch_norm: bool = True
        """Whether a batch norm without weights comes before the classifier."""
        crop_scale: CropScale = (0.08, 1.0)
        """Area of a crop as a part of the image's."""
        crop_ratio: CropRatio = (0.75, 1.3333333333333333)
        """Width over height of a crop."""
        flip_prob: float = Field(default=0.5, ge=0, le=1)
        held_out: float = Field(default=0.2, gt=0, lt=1)
        """Fraction of the groups of each class of train on which the rate is chosen."""
        seed: int = Field(default=0, ge=0)
        """Decides crops, batches, weights and what is held out."""

    tasks = ("classification",)
    needs_train = True
    needs_crops = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self.augment = AugmentConfig(**config.model_dump(include=set(_CROP_KEYS)))

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
        assert train.crops is not None
        config, labels = self.config, train.labels
        recipe = AugmentedRecipe(**config.model_dump(exclude={"rates", "held_out", *_CROP_KEYS}))
        is_choice = len(config.rates) > 1
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        if is_choice:
            groups = train.group_ids()
            held_out = hold_out(labels, groups, fraction=config.held_out, seed=config.seed)
            if not held_out.any():
                raise DataError(
                    "linear-augmented: no class of train has two groups, so no rate can be chosen; "
                    "give one with --set linear-augmented.rates=[0.1]"
                )
        kept = (~held_out).nonzero().squeeze(1)

        def heads(num_images: int) -> LearningHeads:
            return LearningHeads(
                num_dims=train.values.shape[1],
                num_classes=classes.num,
                num_images=num_images,
                rates=config.rates,
                recipe=recipe,
                device=encoder.device,
            )

        whole = heads(len(labels))
        part = heads(len(kept)) if is_choice else None
        for epoch in range(config.epochs):
            values = train.crops(self.augment, seed=config.seed, epoch=epoch)
            whole.learn(values, labels)
            if part is not None:
                part.learn(values[kept], labels[kept])
        head = 0
        details: dict[str, Any] = {}
        if part is not None:
            choice = best_head(
                part.logits,
                train.values[held_out],
                labels[held_out],
                rates=config.rates,
                weights=image_weights(labels[held_out], classes.metric),
            )
            head = choice.head
            details = {
                "num_held_out": choice.num_held_out,
                "held_out_metric": {  # JSON has no numbers as keys
                    str(rate): metric for rate, metric in choice.held_out_metric.items()
                },
            }
        ranking = [
            rank_classes(whole.logits(chunk)[:, head]) for chunk in torch.split(test_values, _CHUNK)
        ]
        return Prediction(
            ranking=torch.cat(ranking).cpu(), details={"rate": config.rates[head], **details}
        )
