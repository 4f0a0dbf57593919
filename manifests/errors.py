"""What can be wrong with a shard set. Messages say what, where, what was expected, what to do."""


class ContractError(Exception):
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


class StoreError(ContractError):
    """The storage refused: not writable, full, or a scheme that cannot be written to."""


class ConfigError(ContractError):
    """An unknown key, a wrong type, or an option that another one silences."""


class PluginError(ContractError):
    """A plug-in is not known, or a library that it needs is not installed."""
