"""k-NN of the encoder that a run would export, while it is learned: the learning curve of a run."""

import logging
import math
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from manifests.foundation.errors import SynthError
from trainer.control import collective_errors
from trainer.distributed import rank, world_size
from trainer.errors import DataError
from trainer.evaluations import choose_evaluations
from trainer.features import GATHER_TIMEOUT
from trainer.frozen_encoders import of_tower
from trainer.labelled_sets import LabelledSet
from trainer.models.encoder import build_encoder, stock_copy
from trainer.models.specs import EncoderSpec
from trainer.planning import Plan
from trainer.precision import float32_as
from trainer.scoring import score_encoder
from trainer.strategies import Strategy

METRIC = "knn"
"""Its name among the numbers of a run."""
BATCH_SIZE = 256
"""Images encoded at once."""

_log = logging.getLogger(__name__)


class OnlineKnn:
    """Scores a run as `synth evaluate --with knn` scores its checkpoint.

    A copy of the tower is scored, so weights, running statistics and modes of the run stay as they
    are, and so does the random generator. Every method is called on all ranks.

    Args:
        plan: The run.
        labelled: The set; k-NN learns from its `train`.
        device: Where this rank computes.
    """

    def __init__(self, plan: Plan, labelled: LabelledSet, device: torch.device) -> None:
        self._plan = plan
        self._labelled = labelled
        self._device = device
        self._split = labelled.validation_split()
        self._group: Any = None  # the ranks wait longer here than for gradients
        if world_size() > 1:
            self._group = dist.new_group(backend="gloo", timeout=GATHER_TIMEOUT)
        if self._split == "test" and not rank():
            _log.warning(
                "run.knn_on %s: is scored on test, because it has no other split beside train; "
                "whoever chooses by the curve has seen the test images",
                labelled.name,
            )

    def score(self, strategy: Strategy, finished: int) -> dict[str, float]:
        """The score after so many steps, as a number of the run.

        It is not finite if the set could not be read. Before the first step that is an error; later
        a warning, because the kept checkpoint can be scored by `synth evaluate` as well.

        Raises:
            DataError: The set cannot be scored on, and no step is done.
            TrainerError: A rank is gone.
        """
        with collective_errors():
            tower = self._exported(strategy)
            value, failure = self._scored(tower)
        if failure and not finished:
            raise DataError(f"run.knn_on: {failure}")
        if failure and not rank():
            _log.warning("step %d: no k-NN: %s", finished, failure)
        return {METRIC: value}

    def _exported(self, strategy: Strategy) -> nn.Module:
        """The image tower that the run would export now, on all ranks."""
        spec: EncoderSpec = self._plan.spec
        with torch.random.fork_rng(devices=[]):  # towers draw weights before they are given theirs
            learner = strategy.whole(self._plan)
            tower = None if learner is None else stock_copy(learner.exports()["image"], spec)
            if tower is None:
                tower = build_encoder(spec).eval()
        tower = tower.to(self._device)
        if world_size() > 1:
            for value in tower.state_dict().values():
                dist.broadcast(value, src=0)
        return tower

    def _scored(self, tower: nn.Module) -> tuple[float, str]:
        """The score, or why there is none; the same on all ranks."""
        encoder = of_tower(
            tower, self._plan.spec, device=self._device, facts={"name": "the encoder of this run"}
        )
        value, failure = math.nan, ""
        try:
            with float32_as("fp32"):  # whatever the run computes in
                document = score_encoder(
                    encoder,
                    self._labelled,
                    choose_evaluations([METRIC], {}),
                    test_split=self._split,
                    batch_size=BATCH_SIZE,
                    is_shown=False,
                    group=self._group,
                )
            if document is not None:
                value = document["scores"][0]["value"]
        except SynthError as exc:
            failure = str(exc)
        outcome: list[Any] = [(value, failure)]
        if world_size() > 1:  # the first rank alone scores, and alone knows what went wrong there
            dist.broadcast_object_list(outcome, src=0, group=self._group)
        value, failure = outcome[0]
        return value, failure
