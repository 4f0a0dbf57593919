"""What is trained: a tower and an objective, as one module."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from trainer.data.colours import colour
from trainer.distributed import synchronize_batch_norms
from trainer.models.encoder import EncoderSpec, build_encoder, normalize, num_features
from trainer.objectives import Groups, LossTerms, Objective


class Learner(nn.Module):
    """Crops as they come from the loader in, loss out.

    Args:
        dtype: What autocast computes in; None for float32 throughout.
    """

    def __init__(
        self, spec: EncoderSpec, objective: type, config: object, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = synchronize_batch_norms(build_encoder(spec))
        self.objective: Objective = objective(config, num_features(self.encoder, spec))
        self._dtype = dtype

    def forward(
        self,
        images: UInt8[Tensor, "crops 3 height width"],
        colours: Float[Tensor, "crops fields"],
        groups: Groups,
    ) -> LossTerms:
        """The loss of this rank's rows; colours are changed here, on the device."""
        with torch.no_grad():
            pixels = normalize(colour(images, colours), self.spec)
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype is not None):
            features = self.encoder(pixels)
            return self.objective(features, groups)
