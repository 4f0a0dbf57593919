"""What a storage can refuse."""

from manifests.foundation.errors import SynthError


class StoreError(SynthError):
    """The storage refused: not writable, full, unreachable, or a scheme that is not known."""
