"""The one mechanism of plug-ins: a literal table of names, loaded when used."""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from manifests.foundation.errors import PluginError


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a plug-in is, and the extra of this distribution that installs what it needs."""

    path: str
    extra: str


def did_you_mean(name: str, known: Any) -> str:
    """`; did you mean 'x'?` for the nearest known name, or nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def load_plugin(kind: str, table: Mapping[str, Entry], name: str) -> Any:
    """The class behind a name of the table, or behind the dotted path `package.module:Class`.

    Raises:
        PluginError: Unknown name, or a library is missing.
    """
    entry = table.get(name, Entry(name, "") if ":" in name else None)
    if entry is None:
        raise PluginError(
            f"no {kind} {name!r}, there are {', '.join(table)} and dotted paths "
            f"package.module:Class{did_you_mean(name, table)}"
        )
    try:
        return pkgutil.resolve_name(entry.path)
    except ImportError as exc:
        if exc.name and entry.path.startswith(exc.name):
            raise PluginError(
                f"{kind} {name}: no module {exc.name}; install it or put its folder on PYTHONPATH"
            ) from exc
        what = f"synth-rep[{entry.extra}]" if entry.extra else exc.name
        raise PluginError(f"{kind} {name} needs {exc.name or exc}: pip install '{what}'") from exc
    except (AttributeError, ValueError) as exc:
        raise PluginError(f"{kind} {name}: {exc}") from exc
