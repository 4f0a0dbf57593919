"""What can be wrong with a shard set. Messages say what, where, what was expected, what to do."""

from manifests.foundation.errors import SynthError


class ContractError(SynthError):
    """Base of every error of this package."""


class ForeignSetError(ContractError):
    """The URL holds something else than a shard set, or nothing."""


class VersionError(ContractError):
    """The set was written by a newer major version of the format."""


class CorruptError(ContractError):
    """A file of the set is not what its hash, size or schema says."""


class IdentityError(ContractError):
    """Another recipe than the one that the set was begun with."""


class CollisionError(ContractError):
    """Two texts share one group id."""
