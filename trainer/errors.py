"""What can go wrong in training and evaluation. Messages: what, where, expected, what to do."""

from manifests.foundation.errors import SynthError


class TrainerError(SynthError):
    """Base of every error of this package; it ends the run in one line."""


class DataError(TrainerError):
    """A set or folder cannot be trained or evaluated on as asked."""


class CorruptViewError(DataError):
    """The bytes of a view are not what was committed, or not an image."""


class CheckpointError(TrainerError):
    """A checkpoint or an exported encoder is missing, broken, or of another run."""


class DivergedError(TrainerError):
    """Gradients were not finite for several steps in a row."""


class NoPositivesError(TrainerError):
    """A view of the batch has no positive."""
