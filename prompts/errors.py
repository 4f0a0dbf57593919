"""What can be wrong with captions. Messages name the file and the row."""

from manifests.foundation.errors import SynthError


class PromptError(SynthError):
    """Base of every error of this package."""


class UnreadablePromptsError(PromptError):
    """The file is missing, empty, of an unknown kind, or not text."""


class BadPromptError(PromptError):
    """One row cannot be used."""


class ConflictingLabelError(PromptError):
    """One caption carries two labels."""
