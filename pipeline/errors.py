"""What can go wrong while a set is made. Messages: what, where, what was expected, what to do."""

from manifests.foundation.errors import SynthError


class PipelineError(SynthError):
    """Base of every error of this package; it ends the job."""


class ModelError(PipelineError):
    """The model is missing, incomplete or damaged, or is one that is refused."""


class RendererError(PipelineError):
    """A renderer breaks its protocol, or raises an error that it must not raise."""


class TooManyFailedError(PipelineError):
    """Views fail that should not: the run ends, and the set stays open."""


class ExecutorError(PipelineError):
    """No worker can be started, or workers die before they are ready."""


class ShardError(SynthError):
    """One shard failed. It is tried again, and the job continues with the others."""


class RenderError(ShardError):
    """Rendering raised for some requests."""


class RenderMemoryError(ShardError):
    """The device is out of memory, and was again when the same batch was tried once more."""
