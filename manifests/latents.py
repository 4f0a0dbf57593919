"""The declared column in which a view's latent is kept: where both programs agree on its bytes."""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from manifests.columns import DeclaredColumn
from manifests.errors import ContractError

LATENT = DeclaredColumn(
    "latent", "string", "the view's latent: base64 of little-endian 32-bit floats", scope="view"
)


def encode_latent(latent: NDArray[np.floating]) -> str:
    """The text of a latent [dimensions]. Example: encode_latent(np.ones(1)) == "AACAPw=="."""
    return base64.b64encode(latent.astype("<f4").tobytes()).decode()


def decode_latent(text: str) -> NDArray[np.float32]:
    """The latent of a text, float32 [dimensions]. Raises ContractError."""
    try:
        latent = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, ValueError) as exc:
        raise ContractError(f"{text!r:.40} is no latent: {exc}") from exc
    if not len(latent) or not np.isfinite(latent).all():
        raise ContractError(f"{text!r:.40} is no latent of finite numbers")
    return latent.astype(np.float32)
