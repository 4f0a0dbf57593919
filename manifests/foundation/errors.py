"""The base of every error that tells the user what is wrong, as opposed to a bug of ours.

The message of such an error says in one line what happened, where, what was expected and what to
do. The command line shows that line; any other exception keeps its traceback.
"""

from manifests.foundation.messages import redact


class SynthError(Exception):
    """Base of every expected error. Its message never holds the secrets of a URL."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ConfigError(SynthError):
    """A setting is wrong: an unknown key, a wrong type, or an option that another one disables."""


class PluginError(SynthError):
    """A plug-in is unknown, needs a library that is not installed, or breaks its protocol."""
