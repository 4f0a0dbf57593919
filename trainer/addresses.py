"""Addresses of what is opened: KIND:PLACE, or a plain path or URL where there is a default kind.

    wds:s3://bucket/set      kind wds, place s3://bucket/set
    runs/first               the default kind, place runs/first
    package.module:Kind:x    the class of somebody else, place x

Encoders, labelled sets and sources are named alike; each has a literal table of its kinds.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import local_path
from manifests.foundation.plugins import Entry, did_you_mean, load_plugin

_DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*:[A-Za-z_]\w*):(.*)", re.DOTALL)


def beside(folder: Path, address: str, table: Mapping[str, Entry], *, option: str) -> str:
    """An address that stands in a file of a folder: its path is relative to that folder.

    URLs stay as they are, and so does what follows a class of somebody else, which need not be a
    path.

    Args:
        table: The kinds that are known.
        option: What the address is given for, for messages.

    Raises:
        ConfigError: It is a URL that lacks a part of its scheme.
    """
    kind, colon, place = address.partition(":")
    if not (colon and kind in table):
        kind, place = "", address
    if not place or "://" in place or (not kind and _DOTTED.fullmatch(address)):
        return address
    return f"{kind}{':' if kind else ''}{folder / local_path(place, option=option)}"


def resolve(
    what: str,
    table: Mapping[str, Entry],
    address: str,
    protocol: type,
    *,
    default: str | None = None,
) -> tuple[Any, str]:
    """The class that opens an address, and the place that it is to open.

    Args:
        what: What the address names, for messages, such as `labelled set`.
        table: The kinds that are known.
        address: As the user typed it. A URL in it may hold secrets; messages do not.
        protocol: See `load_plugin`.
        default: The kind of an address that names none; without it such an address is refused.

    Raises:
        ConfigError: The kind is unknown, or nothing follows it.
        PluginError: The kind is known but cannot be loaded.
    """
    kind, colon, place = address.partition(":")
    if colon and kind in table:
        if not place:
            raise ConfigError(f"{what} {address}: nothing follows {kind}:, expected {kind}:PLACE")
        return load_plugin(what, table, kind, protocol), place
    if dotted := _DOTTED.fullmatch(address):
        return load_plugin(what, table, dotted[1], protocol), dotted[2]
    # With a default kind, `wod:x` could be a path; near the name of a kind it is taken for a typo.
    hint = did_you_mean(kind, table)
    if default is None or (colon and hint):
        raise ConfigError(
            f"{what} {address}: expected KIND:PLACE, where KIND is {', '.join(table)} or "
            f"package.module:Class{hint}"
        )
    return load_plugin(what, table, default, protocol), address
