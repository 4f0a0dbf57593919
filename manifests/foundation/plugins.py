"""How every kind of plug-in is found: by a table of names, whose classes are imported when used."""

import pkgutil
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from manifests.foundation.errors import PluginError
from manifests.foundation.messages import one_line


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the class of a plug-in is, and what has to be installed for it."""

    path: str
    """Dotted path, `package.module:Class`."""
    extra: str
    """Extra of this distribution that installs the libraries that it needs; empty for none."""


_foreign: dict[str, str] = {}
"""Plug-ins of somebody else that this command has loaded, such as `renderer my_module:Mine`, by the
name of their module."""


def did_you_mean(name: str, known: Any) -> str:
    """`; did you mean 'x'?` with the nearest known name; empty if none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def find_entry(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """The entry behind a name or a dotted path; nothing is imported. Raises PluginError."""
    # A dotted path is somebody's own module, so no extra of ours can install what it lacks.
    entry = table.get(name, Entry(name, "") if ":" in name else None)
    if entry is None:
        raise PluginError(
            f"no {kind} {name!r}, there are {', '.join(table)} and dotted paths "
            f"package.module:Class{did_you_mean(name, table)}"
        )
    return entry


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
    entry = find_entry(kind, table, name)
    try:
        plugin = pkgutil.resolve_name(entry.path)
    except ModuleNotFoundError as exc:
        # Either the module of the plug-in itself is missing, or a library that it imports.
        if exc.name and entry.path.startswith(exc.name):
            raise PluginError(
                f"{kind} {name}: no module {exc.name}; install it or put its folder on PYTHONPATH"
            ) from exc
        what = f"synth-rep[{entry.extra}]" if entry.extra else exc.name
        raise PluginError(f"{kind} {name} needs {exc.name or exc}: pip install '{what}'") from exc
    except (AttributeError, ValueError) as exc:
        raise PluginError(f"{kind} {name}: {one_line(exc)}") from exc
    except (Exception, SystemExit) as exc:  # the module of a plug-in may raise anything
        raise PluginError(
            f"{kind} {name}: its module cannot be imported ({type(exc).__name__}: {one_line(exc)})"
        ) from exc
    require_protocol(kind, name, plugin, protocol)
    if name not in table:
        _foreign[plugin.__module__] = f"{kind} {name}"
    return plugin


def forget_plugins() -> None:
    """Begin a command: no plug-in of somebody else has been loaded for it yet."""
    _foreign.clear()


def blame(exc: BaseException) -> str:
    """One line about an exception that nobody expected, where a plug-in may have caused it.

    Returns:
        The plug-in of somebody else whose code raised, with file and line; if none did, those that
        may have given something wrong. Empty if the command has loaded none, and for an exit of
        the process that none of them asked for.
    """
    what = f"{type(exc).__name__}: {one_line(exc)}"
    ask = "`synth --debug` shows the traceback"
    frames = [*traceback.walk_tb(exc.__traceback__)]
    for frame, line in reversed(frames):
        if plugin := _foreign.get(frame.f_globals.get("__name__", "")):
            where = f"{frame.f_code.co_filename}, line {line}"
            return f"{plugin}: {what} ({where}); this is a fault of the plug-in, {ask}"
    if not _foreign or isinstance(exc, SystemExit):
        return ""
    plugins = ", ".join(sorted({*_foreign.values()}))
    return (
        f"{plugins}: {what}; either the plug-in gave what its protocol forbids, or this is a bug "
        f"of synth: {ask}"
    )


def require_protocol(kind: str, name: str, plugin: Any, protocol: type) -> None:
    """Refuse an object that is not a class, or lacks a public member of the protocol.

    Members are compared by name; signatures are not compared.

    Raises:
        PluginError: The message names the members that are missing.
    """
    where = f"the protocol is {protocol.__module__}.{protocol.__qualname__}"
    if not isinstance(plugin, type):
        raise PluginError(f"{kind} {name}: is a {type(plugin).__name__}, not a class; {where}")
    members = {member for member in dir(protocol) if not member.startswith("_")}
    # `dir` does not list attributes that are annotated and have no value.
    for base in protocol.__mro__:
        members |= {member for member in vars(base).get("__annotations__", {}) if member[0] != "_"}
    missing = {member for member in members if not hasattr(plugin, member)}
    # A subclass of the protocol inherits its abstract methods, so `hasattr` finds them.
    missing |= getattr(plugin, "__abstractmethods__", frozenset())
    if missing:
        raise PluginError(
            f"{kind} {name}: is no {kind}, it has no {', '.join(sorted(missing))}; {where}"
        )
    config = getattr(plugin, "Config", None)
    if "Config" in members and not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise PluginError(
            f"{kind} {name}: its Config is {config!r:.100}, expected a class that derives "
            "from manifests.foundation.settings.Table"
        )
