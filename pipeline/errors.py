"""What can go wrong while a set is made. Messages: what, where, what was expected, what to do."""

from manifests.foundation.errors import SynthError


class PipelineError(SynthError):
    """Base of every error of this package; it ends the job."""


class ModelError(PipelineError):
    """The model is missing, incomplete, changed, or asks for what is refused."""


class RendererError(PipelineError):
    """A renderer breaks its protocol or raises what it must not."""


class ExecutorError(PipelineError):
    """No worker can be had, or every worker dies before it does anything."""


class ShardError(SynthError):
    """One shard failed; it is tried again, and others go on."""


class RenderError(ShardError):
    """Rendering raised for some requests."""


class RenderMemoryError(ShardError):
    """The device is out of memory, twice in a row for one batch."""
