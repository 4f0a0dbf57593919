"""The text tower of open_clip and the space that images and texts share."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, TextTransformer
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import read_regular, write_whole
from manifests.foundation.messages import one_line
from manifests.foundation.settings import check
from trainer.collectives import gather
from trainer.errors import CheckpointError
from trainer.grad_cache import GradCached
from trainer.losses import multi_positive_loss, unit
from trainer.models.specs import TextSpec
from trainer.models.weights import read_weights, write_weights

WEIGHTS = "text.safetensors"
SPEC = "text.json"
MAX_SPEC_BYTES = 1 << 20
"""Largest description that is read."""

FIRST_LOG_SCALE = 2.6592600369327779
"""ln(1 / 0.07), where CLIP starts."""
MAX_LOG_SCALE = 4.6051701859880918
"""ln(100), where StableRep+ and CLIP clamp it."""


class ImageText(nn.Module):
    """A text tower, a linear projection of image features, and the scale of their cosines.

    The tower is a causal transformer with QuickGELU over the byte pairs of CLIP; it is pooled at
    the end of the text, and longer texts are cut at the context length.

    Source: StableRep, models/models_stablerep_mm.py of google-research/syn-rep-learn.
    """

    def __init__(self, spec: TextSpec, num_features: int) -> None:
        super().__init__()
        self.spec = spec
        self.num_features = num_features
        self._tokenize = SimpleTokenizer(context_length=spec.context_length)
        self.text = TextTransformer(
            context_length=spec.context_length,
            vocab_size=self._tokenize.vocab_size,
            width=spec.width,
            heads=spec.heads,
            layers=spec.layers,
            output_dim=spec.embed_dim,
            act_layer=QuickGELU,
        )
        # In a tuple, so that the state has the tower once, as `text`.
        self._tower: tuple[nn.Module] = (self.text,)
        self.image_projection = nn.Linear(num_features, spec.embed_dim, bias=False)
        nn.init.normal_(self.image_projection.weight, std=num_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))

    def embed_features(
        self, features: Float[Tensor, "images features"]
    ) -> Float[Tensor, "images embed_dim"]:
        """Features of the image tower in the shared space, of length one."""
        return unit(self.image_projection(features))

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts embed_dim"]:
        """Texts in the shared space, of length one."""
        tokens = self._tokenize(list(texts)).to(self.log_scale.device, non_blocking=True)
        return unit(self._tower[0](tokens))

    def read_in_parts(self, rows: int) -> None:
        """Let so many texts pass the tower at once, and again for the backward pass."""
        self._tower = (GradCached(self.text, rows),)

    def losses(
        self,
        features: Float[Tensor, "crops features"],
        row_ids: Int[Tensor, " crops"],
        texts: Sequence[str],
        text_ids: Int[Tensor, " groups"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Losses from image to text and from text to image, of this rank against all ranks.

        The positives of an image are the texts of its group, and those of a text are the images of
        its group. The target is uniform over them, so the two copies of a group that is in the
        batch twice are positives of each other, not negatives.
        """
        images, words = self.embed_features(features), self.embed_texts(texts)
        all_images, all_words = gather(images), gather(words)
        all_rows, all_texts = gather(row_ids), gather(text_ids)
        scale = self.scale()
        to_text = multi_positive_loss(images, all_words, row_ids, all_texts, scale=scale)
        to_image = multi_positive_loss(words, all_images, text_ids, all_rows, scale=scale)
        return to_text, to_image

    def scale(self) -> Float[Tensor, ""]:
        """The factor of the cosines, from 1 to 100."""
        # Clamped here as well, for a parameter that `clamp_scale` has not seen yet.
        return self.log_scale.float().clamp(max=MAX_LOG_SCALE).exp()

    def clamp_scale(self) -> None:
        """Bring the parameter back into its range, as the reference does after each step."""
        with torch.no_grad():
            self.log_scale.clamp_(0.0, MAX_LOG_SCALE)


def require_image_text(part: nn.Module, *, export: str) -> None:
    """Refuse the part `text` of an objective if it is something else. Raises ConfigError."""
    if not isinstance(part, ImageText):
        raise ConfigError(
            f"run.exports: {export} takes a trainer.models.text.ImageText, the objective exports a "
            f"{type(part).__name__}; leave the export out"
        )


def save_text(folder: Path, text: ImageText) -> None:
    """Write the text half of a run, for zero-shot classification."""
    document = {
        "spec": text.spec.model_dump(mode="json"),
        "num_features": text.num_features,
        "sha256": write_weights(folder / WEIGHTS, text),
    }
    write_whole(folder / SPEC, f"{json.dumps(document, indent=2)}\n".encode())


def load_text(folder: Path) -> ImageText | None:
    """The text half of a run, in evaluation mode; None if it was trained without texts.

    Raises:
        CheckpointError: It is there but broken.
    """
    file = folder / SPEC
    if not file.exists():
        return None
    try:
        document = json.loads(read_regular(file, max_bytes=MAX_SPEC_BYTES))
        spec = check(TextSpec, document["spec"], origin=str(file))
        text = ImageText(spec, int(document["num_features"]))
        sha256 = str(document["sha256"])
        tensors = read_weights(folder / WEIGHTS, sha256=sha256, description=SPEC)
        text.load_state_dict(tensors, strict=True)
    except CheckpointError:
        raise
    except Exception as exc:  # safetensors has an error type of its own
        raise CheckpointError(f"{file}: not the text half of a run ({one_line(exc)})") from exc
    return text.eval()
