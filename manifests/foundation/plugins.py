"""The one mechanism of plug-ins: a literal table of names, loaded when used."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from manifests.foundation.errors import PluginError
from manifests.foundation.messages import one_line


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a plug-in is, and the extra of this distribution that installs what it needs."""

    path: str
    extra: str


def did_you_mean(name: str, known: Any) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def load_plugin(kind: str, table: Mapping[str, Entry], name: str, protocol: type) -> Any:
    """The class behind a name of the table, or behind the dotted path `package.module:Class`.

    Args:
        kind: What the plug-in is called in messages, such as `renderer`.
        table: The names that are known.
        name: One of them, or a dotted path.
        protocol: Class whose public members a plug-in must have.

    Raises:
        PluginError: The name is unknown, a library is missing, or the class breaks the protocol.
    """
    entry = table.get(name, Entry(name, "") if ":" in name else None)
    if entry is None:
        raise PluginError(
            f"no {kind} {name!r}, there are {', '.join(table)} and dotted paths "
            f"package.module:Class{did_you_mean(name, table)}"
        )
    try:
        plugin = pkgutil.resolve_name(entry.path)
    except ImportError as exc:
        if exc.name and entry.path.startswith(exc.name):
            raise PluginError(
                f"{kind} {name}: no module {exc.name}; install it or put its folder on PYTHONPATH"
            ) from exc
        what = f"synth-rep[{entry.extra}]" if entry.extra else exc.name
        raise PluginError(f"{kind} {name} needs {exc.name or exc}: pip install '{what}'") from exc
    except (AttributeError, ValueError) as exc:
        raise PluginError(f"{kind} {name}: {one_line(exc)}") from exc
    except Exception as exc:  # the module of a plug-in may raise anything while it is imported
        raise PluginError(
            f"{kind} {name}: its module cannot be imported ({type(exc).__name__}: {one_line(exc)})"
        ) from exc
    require_protocol(kind, name, plugin, protocol)
    return plugin


def require_protocol(kind: str, name: str, plugin: Any, protocol: type) -> None:
    """Refuse an object that is no class with the public members of a protocol.

    Members that the protocol declares are looked for by name; signatures are not compared.
    """
    where = f"the protocol is {protocol.__module__}.{protocol.__qualname__}"
    if not isinstance(plugin, type):
        raise PluginError(f"{kind} {name}: is a {type(plugin).__name__}, not a class; {where}")
    members = {member for member in dir(protocol) if not member.startswith("_")}
    for base in protocol.__mro__:
        members |= {member for member in vars(base).get("__annotations__", {}) if member[0] != "_"}
    missing = {member for member in members if not hasattr(plugin, member)}
    missing |= getattr(plugin, "__abstractmethods__", frozenset())
    if missing:
        raise PluginError(
            f"{kind} {name}: is no {kind}, it has no {', '.join(sorted(missing))}; {where}"
        )
