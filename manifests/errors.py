"""What can be wrong with a shard set."""

from manifests.foundation.errors import SynthError


class ContractError(SynthError):
    """Base of every error of this package."""


class ForeignSetError(ContractError):
    """There is no shard set at the URL, or files that do not belong to one."""


class VersionError(ContractError):
    """The set has a version of the format that this code cannot read, or cannot add to."""


class CorruptError(ContractError):
    """A file of the set is not what its hash, size or schema says."""


class IdentityError(ContractError):
    """The recipe differs from the one that the set was begun with."""


class CollisionError(ContractError):
    """Two different texts have the same group id."""
