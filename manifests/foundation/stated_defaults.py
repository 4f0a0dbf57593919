"""The default that the help of a flag says is that of the key of the recipe which the flag sets."""

from pkgutil import resolve_name
from typing import Any

from manifests.foundation.errors import PluginError


def with_default(
    record: tuple[str, str] | None, default_of: str, key: str
) -> tuple[str, str] | None:
    """A record of a command's help with the default of a key.

    Args:
        record: Flag and help, or None for a flag that is not shown.
        default_of: Dotted path of the function that gives the default of a key. It is imported
            only now: help is the one thing that needs it.
        key: Of the recipe, such as `views.per_subject`.

    Returns:
        The record as it was, where the default is nothing that could be typed: the help says then
        what happens without the flag.
    """
    if record is None:
        return None
    try:
        default: Any = resolve_name(default_of)(key)
    except (ModuleNotFoundError, PluginError):
        return record  # an extra is not installed: the command says which, if it is run
    if default is None or default == () or default == "" or isinstance(default, bool):
        return record
    return record[0], f"{record[1]}  [default: {default}]"
