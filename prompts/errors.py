"""What can be wrong with captions. Messages name the file and the row."""

from manifests.foundation.errors import SynthError


class PromptError(SynthError):
    """Base of every error of this package."""


class UnreadablePromptsError(PromptError):
    """The whole file cannot be used: it is missing, empty, too large, damaged or no such table."""


class BadPromptError(PromptError):
    """One row of a file cannot be used; the message names it."""


class ConflictingLabelError(PromptError):
    """Two rows give one caption different labels, or only one of them gives a label."""
